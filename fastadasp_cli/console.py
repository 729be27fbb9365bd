"""What is said to people: stderr only, one line a thing; stdout stays data.

rich and the records (numpy) are imported when something is said: `--version` waits for neither.
"""

from __future__ import annotations

import os
import re
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from core.config import OutputConfig
    from core.pipeline import Event
    from core.records import Report, Transcript

PATIENCE = 20.0
"""Seconds without a word after which one is said where no bar can be shown."""
_UNLIMITED = 10_000
# warnings to readers of a record; who asked for it knows, or was told at the beginning
_IGNORED = "language_ignored"
_EXPECTED = ("shared_with:", _IGNORED)


def error(message: str) -> None:
    """One red line."""
    _say(f"error: {message}", "bold red")


def warn(message: str) -> None:
    """One yellow line."""
    _say(message, "yellow")


def note(message: str) -> None:
    """One plain line."""
    _say(message, "")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table that is a command's answer, so on stdout; never cut where stdout is no terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        grid.add_row(*(Text(plain(cell)) for cell in row))
    out = Console(highlight=False)
    if not out.is_terminal:
        out.width = _UNLIMITED
    if title:
        out.print(Text(plain(title)), soft_wrap=True)
    out.print(grid)


def hush_libraries() -> None:
    """Keep the chatter of torch, transformers and the hub off stderr; before they are imported."""
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


class Watcher:
    """Tells of a run as it goes on: what runs where, a bar, failures at once, a summary.

    Args:
        output: how much to say.
        total: number of recordings, None when they come from a pipe.
        tasks: of each recording; several are told apart.

    Attributes:
        caution: to be said when there is something to do, if anything is.
    """

    def __init__(self, output: OutputConfig, total: int | None, tasks: int = 1) -> None:
        """Say nothing yet."""
        self._several = tasks > 1
        self._quiet = output.quiet
        self._total = total
        self._bar: Any = None
        self._task: Any = None
        self._audio_s = 0.0
        self.caution: str | None = None
        # lines of JSON on the same terminal are progress enough, and a bar would tear them
        terminal = sys.stderr.isatty() and (
            output.output_dir is not None or not sys.stdout.isatty()
        )
        self._wants_bar = terminal and not output.quiet and not output.no_progress

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Shows the bar, if there is to be one."""
        if not self._wants_bar:
            yield
            return
        self._bar = progress_bar()
        self._task = self._bar.add_task("transcribing", total=self._total, audio="", start=False)
        try:
            yield
        finally:
            self._bar.stop()

    def on_event(self, event: Event) -> None:
        """Take one event of the pipeline."""
        if event.kind in ("loading", "started") and not self._quiet and event.record is not None:
            self._say(_SAID[event.kind](event.record), "")
            if event.kind == "loading" and self.caution:
                self._say(self.caution, "yellow")
            if _IGNORED in event.record.warnings:
                self._say(_no_notice(event.record), "yellow")
        if event.kind == "started" and self._bar is not None:
            # not before: the hub shows bars of its own while the model is fetched
            self._bar.start()
            self._bar.start_task(self._task)
        if event.kind == "segment":
            self._audio_s += event.seconds
        if event.kind == "record" and event.record is not None:
            self._tell(event.record)
        if self._bar is not None:
            done = int(event.kind in ("record", "skipped") and event.last)
            self._bar.update(self._task, advance=done, audio=f"{self._audio_s / 60:.1f} min")

    def _tell(self, record: Transcript) -> None:
        name = f"{record.id} ({record.task})" if self._several else record.id
        odd = [text for text in record.warnings if not text.startswith(_EXPECTED)]
        if record.error is not None:
            self._say(f"{record.status}: {name}: {record.error.message}", "red")
        elif odd and not self._quiet:
            self._say(f"{name}: {', '.join(odd)}", "yellow")

    def _say(self, message: str, style: str) -> None:
        # through the bar's own console, which puts the line above the bar
        _say(message, style, self._bar and self._bar.console)

    def summarise(self, report: Report) -> None:
        """The run in a few lines; failures were told when they happened."""
        from core.results.report import summary

        if not self._quiet:
            for text in summary(report):
                note(text)


def _started(record: Transcript) -> str:
    from core.results.report import numbers

    revision = f" ({record.model_revision})" if record.model_revision else ""
    reduced = "nothing reduced"
    if record.memory.reduction_target:
        reduced = f"{record.method}, {record.memory.reduction_target:.0%} of the prompt's KV cut"
    if record.flops.reduction_target or record.threshold is not None:
        layer = "" if record.start_layer is None else f", from layer {record.start_layer}"
        where = f"{record.schedule}{layer}"
        asked = f"{record.flops.reduction_target:.0%} of prefill FLOPs cut"
        if record.threshold is not None:
            asked = f"threshold {record.threshold:g}"
        reduced = f"{record.method}, {where}, {asked}"
    weights = numbers(record.dtype, record.quantize)
    return (
        f"{record.task} with {record.model}{revision} on {record.device}, {weights}; "
        f"preset {record.preset}: {reduced}"
    )


def _no_notice(record: Transcript) -> str:
    return (
        f"{record.model} takes no notice of --language {record.language}: its prompt for"
        f" {record.task} is the same in every language"
    )


def plain(text: str) -> str:
    """Text that cannot command a terminal, as a file's name could: such characters are escaped."""
    return _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)


# control characters, and those that turn the direction of what is shown
_COMMANDS = re.compile(
    "[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]"
)
_SAID = {"loading": lambda record: f"loading {record.model}", "started": _started}


def _say(message: str, style: str, console: Console | None = None) -> None:
    from rich.console import Console
    from rich.text import Text

    line = Text(plain(" ".join(message.split())), style=style)
    (console or Console(stderr=True, highlight=False)).print(line, soft_wrap=True)


class Pulse:
    """A sign of life where no bar can be shown: at most a line in so many seconds.

    Args:
        quiet: none at all.
    """

    def __init__(self, *, quiet: bool) -> None:
        """Wait from now on."""
        self._quiet = quiet
        self.rest()

    def rest(self) -> None:
        """Something has been said: wait again."""
        self._last = time.monotonic()

    def tell(self, message: str) -> None:
        """One plain line, if nothing has been said for long."""
        if not self._quiet and time.monotonic() - self._last >= PATIENCE:
            note(message)
            self.rest()


def progress_bar(*, counted: bool = True) -> Any:
    """A bar on stderr; its tasks take a field `audio`, words beside the count.

    Args:
        counted: steps are alike and many, so that their number says something; else a percentage.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn() if counted else TaskProgressColumn(),
        TextColumn("{task.fields[audio]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        redirect_stdout=False,
        transient=True,
        # a step that is not counted may take minutes, and it takes two to tell the time left
        speed_estimate_period=30.0 if counted else 3600.0,
    )
