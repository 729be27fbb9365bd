"""What `profile` and `bench` show while they measure: rows as they come, and how far they are."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from . import console

_LEAST = 7  # characters of a column: its numbers come later than its name
_LEAST_OF = {"beams": 5, "side": 12, "audio tokens": 14}


def megabytes(size: int | None) -> str:
    """Bytes in a table; `-` where they are not known."""
    return "-" if size is None else f"{size / 1e6:.0f}"


class Measuring:
    """A table on stdout, row by row; on stderr a bar, or a line for each row where none can be.

    Args:
        columns: of the table; none where the answer is a document of its own.
        rows: how many there will be.
        quiet: nothing on stderr.
        no_progress: no bar, also on a terminal.
    """

    def __init__(
        self, columns: Sequence[str], rows: int, *, quiet: bool, no_progress: bool
    ) -> None:
        """Show nothing yet."""
        self._columns, self._rows, self._quiet = columns, rows, quiet
        self._shown = 0
        self._notes: list[str] = []
        self._pulse = console.Pulse(quiet=quiet)
        terminal = sys.stderr.isatty()
        self._wants_bar = terminal and not quiet and not no_progress
        # without a bar the rows themselves are life enough, where they are seen
        self._wants_lines = not quiet and not (terminal and columns and sys.stdout.isatty())
        self._bar: Any = None
        self._task: Any = None

    def note(self, message: str) -> None:
        """One line, unless told to be quiet."""
        if not self._quiet:
            console.note(message)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Shows the bar, if there is to be one; ends the table."""
        if self._wants_bar:
            self._bar = console.progress_bar(counted=False)
            self._task = self._bar.add_task("starting", total=1.0, audio="")
            self._bar.start()
        try:
            yield
        finally:
            if self._bar is not None:
                self._bar.stop()
        for note in self._notes:
            typer.echo(console.plain(note))

    def begin(self, title: str) -> None:
        """The table's title and the names of its columns."""
        if self._columns:
            self._print(
                f"{console.plain(title)}\n{typer.style(self._line(self._columns), bold=True)}"
            )

    def step(self, words: str, done: float) -> None:
        """What is about to run, and the share of all the work that is done."""
        if self._bar is None:
            self._pulse.tell(f"{words} ({done:.0%} done)")
        else:
            self._bar.update(self._task, description="measuring", completed=done, audio=words)

    def row(self, name: str, said: str, cells: Sequence[str], note: str | None = None) -> None:
        """A row is known.

        Args:
            name: of the row.
            said: the most important of it in a line.
            cells: of the table.
            note: what its reader must know, told beneath the table too.
        """
        self._shown += 1
        if self._columns:
            self._print(self._line(cells))
            self._notes += [f"{name}: {note}"] if note else []
        if self._bar is None and self._wants_lines:
            more = f"; {note}" if note else ""
            console.note(f"{self._shown} of {self._rows}: {name}: {said}{more}")
            self._pulse.rest()

    def _line(self, cells: Sequence[str]) -> str:
        widths = [max(len(name), _LEAST_OF.get(name, _LEAST)) for name in self._columns]
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return console.plain("  ".join(padded).rstrip())

    def _print(self, line: str) -> None:
        """A line on stdout, which may be the terminal that shows the bar."""
        if self._bar is not None:
            self._bar.stop()
        typer.echo(line)
        if self._bar is not None:
            self._bar.start()
