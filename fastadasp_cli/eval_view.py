"""What `fastadasp eval` shows: progress on stderr, tables on stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import console

if TYPE_CHECKING:
    from core.config import RunConfig
    from core.pipeline import Event
    from core.results.scoring import Estimate, Score
    from core.studies.evaluate import Plan, Watch
    from core.studies.points import BlockResult, Evaluation, Point
    from core.studies.sets import Block


class Talk:
    """Tells of an evaluation as it goes on.

    Args:
        quiet: only failures.
        no_progress: no bar, also on a terminal.
    """

    def __init__(self, *, quiet: bool, no_progress: bool) -> None:
        """Say nothing yet."""
        self._quiet = quiet
        self._wants_bar = sys.stderr.isatty() and not quiet and not no_progress
        self._bar: Any = None
        self._row: Any = None
        self._now: tuple[Block, RunConfig] | None = None
        self._total = self._done = 0
        self._pulse = console.Pulse(quiet=quiet)
        self._failed: set[tuple[str, str, str]] = set()

    def note(self, message: str) -> None:
        """One line, unless told to be quiet."""
        if not self._quiet:
            console.note(message)

    @contextmanager
    def following(self, plans: Sequence[Plan]) -> Iterator[Watch]:
        """What the study is to call with its events; shows the bar, if there is to be one."""
        self._introduce(plans)
        self._total = sum(len(plan.block.recordings) * (1 + len(plan.reduced)) for plan in plans)
        if not self._wants_bar:
            yield self._watch
            return
        self._bar = console.progress_bar()
        self._row = self._bar.add_task("evaluating", total=self._total, audio="")
        with self._bar:
            yield self._watch

    def _introduce(self, plans: Sequence[Plan]) -> None:
        for plan in plans:
            block, where = plan.block, f"{plan.block.of}, {plan.block.task}"
            if block.left_out:
                self.note(f"{where}: {block.left_out} recordings have no reference, left out")
            for reason in plan.refused:
                console.warn(f"{where}: left out: {reason}")
            if block.task == "ac":
                self.note(f"{where}: captions are written, not scored")

    def _watch(self, block: Block, config: RunConfig, event: Event) -> None:
        if self._now != (block, config):
            self._now = (block, config)
            words = f"{block.of}, {block.task}: {_setting(config)}"
            if self._bar is None:
                self.note(words)
                self._pulse.rest()
            else:
                self._bar.update(self._row, audio=words)
        self._advance(int(event.kind in ("record", "skipped")))
        record = event.record
        if event.kind == "record" and record is not None and record.error is not None:
            key = (block.of, block.task, record.id)
            if key not in self._failed:
                self._failed.add(key)
                said = record.error.message
                console.error(f"{block.of}, {block.task}: {record.status}: {record.id}: {said}")

    def _advance(self, recordings: int) -> None:
        self._done += recordings
        if self._bar is None:
            self._pulse.tell(f"{self._done} of {self._total} done")
        else:
            self._bar.update(self._row, advance=recordings)


def table(found: Evaluation, block: BlockResult) -> None:
    """One block as a table, with a caption that says what the numbers mean."""
    scores = block.points[0].scores
    columns = [name for name, _ in _SETTING]
    extra = [title for title, shown, wanted in _EXTRA if any(map(wanted, block.points))]
    columns += [*extra, *_titles(scores)]
    rows = [_row(point, extra) for point in block.points]
    console.table(_caption(found, block), columns, rows)


def _caption(found: Evaluation, block: BlockResult) -> str:
    from core.results.report import numbers

    revision = f" ({found.revision})" if found.revision else ""
    into = f" into {block.target_language}" if block.target_language else ""
    weights = numbers(found.dtype, found.quantize)
    lines = [
        f"{block.of}, {block.task}{into}: {block.recordings} recordings with"
        f" {found.model}{revision} on {found.device}, {weights}; segments {block.segment};"
        f" 95 % intervals of {found.draws} draws"
    ]
    by_signature: dict[str, list[str]] = {}
    for score in block.points[0].scores:
        by_signature.setdefault(score.measure.signature, []).append(score.measure.title)
    lines += [f"{', '.join(titles)}: {how}" for how, titles in by_signature.items()]
    return "\n".join(lines)


def _titles(scores: Sequence[Score]) -> list[str]:
    """The first measure with its interval and its difference to the full model; then the rest."""
    if not scores:
        return []
    first, *rest = (score.measure.title for score in scores)
    return [first, "difference", *rest]


def _row(point: Point, extra: Sequence[str]) -> list[str]:
    cells = [shown(point) for _, shown in _SETTING]
    cells += [shown(point) for title, shown, _ in _EXTRA if title in extra]
    if point.scores:
        first, *rest = point.scores
        cells += [_interval(first.estimate), _difference(first.difference)]
        cells += [f"{score.estimate.value:.2f}" for score in rest]
    return cells


def _interval(found: Estimate) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _difference(found: Estimate | None) -> str:
    if found is None:
        return ""
    return f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def _setting(config: RunConfig) -> str:
    how = config.reduction
    if how.method == "none":
        return "full"
    if how.cuts_cache:
        return f"{how.method} {how.reduce:.0%} of the KV cache"
    start = "" if how.start_layer is None else f" from layer {how.start_layer}"
    return f"{how.method} {how.schedule} {how.positions}{start} {how.reduce:.0%}"


_SETTING: tuple[tuple[str, Callable[[Point], str]], ...] = (
    ("method", lambda point: point.method or "full"),
    ("schedule", lambda point: point.schedule or ""),
    ("positions", lambda point: point.positions or ""),
    ("start", lambda point: "" if point.start_layer is None else str(point.start_layer)),
    ("asked", lambda point: f"{point.asked:.0%}"),
    ("cut", lambda point: f"{point.spent.cut:.1%}"),
    ("kept", lambda point: f"{point.spent.kept:.0%}"),
)
_EXTRA: tuple[tuple[str, Callable[[Point], str], Callable[[Point], bool]], ...] = (
    ("KV cut", lambda point: f"{point.spent.kv_cut:.1%}", lambda point: point.cuts_cache),
    ("capped", lambda point: f"{point.spent.capped:.0%}", lambda point: point.spent.capped > 0),
)
"""Columns that are there when a point wants them."""
