"""What `fastadasp calibrate` shows: progress on stderr, the table on stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import console

if TYPE_CHECKING:
    from core.pipeline import Event
    from core.records import Recording, Transcript
    from core.studies.calibrate import Step, Watch
    from core.studies.layers import Calibration, LayerPoint


class Progress:
    """Tells of a calibration as it goes on.

    Args:
        quiet: only failures.
        no_progress: no bar, also on a terminal.
    """

    def __init__(self, *, quiet: bool, no_progress: bool) -> None:
        """Say nothing yet."""
        self._quiet = quiet
        self._wants_bar = _on_terminal() and not quiet and not no_progress
        self._bar: Any = None
        self._row: Any = None
        self._share = 0.0  # recordings in one second of audio
        self._total = self._done = 0
        self._pulse = console.Pulse(quiet=quiet)

    def note(self, message: str) -> None:
        """One line, unless told to be quiet."""
        if not self._quiet:
            console.note(message)

    @contextmanager
    def following(self, recordings: Sequence[Recording]) -> Iterator[Watch]:
        """What the study is to call with its events; shows the bar, if there is to be one."""
        self._total = len(recordings)
        if not self._wants_bar:
            yield self._watch
            return
        from core.studies.sets import seconds

        total = sum(seconds(recording) for recording in recordings)
        self._share = len(recordings) / total if total else 0.0
        self._bar = console.progress_bar()
        self._row = self._bar.add_task("calibrating", total=len(recordings), audio="")
        with self._bar:
            yield self._watch

    def _watch(self, event: Event | Step) -> None:
        from core.studies.calibrate import Step

        if isinstance(event, Step):
            self._advance(event)
        elif event.kind == "record" and event.record is not None:
            self._done += 1
            self._tell(event.record)

    def _tell(self, record: Transcript) -> None:
        if record.error is not None:
            console.warn(f"{record.status}: {record.id}: {record.error.message}")

    def _advance(self, step: Step) -> None:
        """Move on within a batch: all of it goes through the model once for each place."""
        layer, level = step.place
        words = "full" if layer is None else f"layer {layer} at {level:.0%}"
        if self._bar is None:
            self._pulse.tell(f"{words} ({self._done} of {self._total} recordings done)")
            return
        done = step.seconds * self._share / step.places
        self._bar.update(self._row, advance=done, audio=words)


def _on_terminal() -> bool:
    return sys.stderr.isatty()


def table(found: Calibration) -> None:
    """Every layer and level, with a caption that says what the numbers mean."""
    rows = [[shown(found, point) for shown in _COLUMNS.values()] for point in found.points]
    console.table(_caption(found), tuple(_COLUMNS), rows)


def _caption(found: Calibration) -> str:
    from core.results.report import numbers

    revision = f" ({found.revision})" if found.revision else ""
    how, weights = found.reduction, numbers(found.dtype, found.quantize)
    kind = "with covariances" if found.joint else "each channel on its own"
    return (
        f"{found.task}: {found.recordings} recordings, {found.audio_s:.1f} s, with"
        f" {found.model}{revision} on {found.device}, {weights}; {how.method} once"
        f" {how.positions}\nH: Gaussian entropy of the final audio features, {kind}, nats;"
        f" full model {found.entropy:.3f} of {found.audio_tokens} tokens; TE: its change"
    )


def _mark(found: Calibration, point: LayerPoint) -> str:
    if point.cut is None:
        return f"out of reach: {point.most:.1%} at most"
    if not point.reached:
        return "recordings too short for this cut"
    return "chosen" if point.layer == found.chosen else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


_COLUMNS: dict[str, Callable[[Calibration, LayerPoint], str]] = {
    "layer": lambda found, point: str(point.layer),
    "start": lambda found, point: f"{point.layer / found.layers:.3f}",
    "asked": lambda found, point: f"{point.asked:.0%}",
    "cut": lambda found, point: "" if point.cut is None else f"{point.cut:.1%}",
    "tokens": lambda found, point: str(point.audio_tokens or ""),
    "H": lambda found, point: _number(point.entropy),
    "TE": lambda found, point: _number(point.transfer_entropy),
    "": _mark,
}
