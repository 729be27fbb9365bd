"""Where records go: JSON lines on a stream, or a folder that remembers what is done.

`results.jsonl` grows by one synced line for each record, at once. A redone recording is appended
too, and its older line leaves when the file is next rewritten (on open or close, by temporary file
and rename), so at no moment is a finished line out of reach.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Protocol, Self, TextIO

from ..errors import FastAdaSPError, UsageError
from ..records import Source, Transcript
from .files import append, check_plain, locked, replace_file, sync
from .lines import Entry, Key, entries, line, newest, read_results, record_of
from .parts import (
    Settings,
    Versions,
    check_company,
    check_settings,
    narrowed,
    of_other_versions,
    other_settings,
    other_than,
    versions_of,
)
from .writers import SideFiles

RESULTS = "results"


class Sink(Protocol):
    """What the pipeline needs of a place for records."""

    def expect(self, ids: Iterable[str]) -> None:
        """Announce recordings that will come."""

    def begin(self, record: Transcript) -> None:
        """Take note of what the records of a task will have in common: the model is there."""

    def done(self, key: Key, source: Source, question: str | None = None) -> bool:
        """Whether this recording and task needs no more work."""

    def write(self, record: Transcript) -> None:
        """Take a record; it is safe when this returns."""


class _Forgetful:
    """A place where no earlier lines are."""

    def expect(self, ids: Iterable[str]) -> None:
        """Nothing to prepare."""

    def begin(self, record: Transcript) -> None:
        """Nothing is there to clash with it."""


class StreamSink(_Forgetful):
    """JSON lines on a text stream, flushed one by one."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`, which stays open."""
        self._stream = stream

    def done(self, key: Key, source: Source, question: str | None = None) -> bool:
        """A stream remembers nothing."""
        return False

    def write(self, record: Transcript) -> None:
        """Print the record's line."""
        try:
            self._stream.write(line(record))
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise FastAdaSPError(f"cannot write the record: {error.strerror or error}") from error


class MemorySink(_Forgetful):
    """Keeps the records, in order.

    Attributes:
        records: by id; of several tasks the last.
        kept: by id and task.
    """

    def __init__(self, finished: Iterable[Key] = ()) -> None:
        """Nothing is kept yet; `finished` needs no more work."""
        self.records: dict[str, Transcript] = {}
        self.kept: dict[Key, Transcript] = {}
        self._finished = set(finished)

    def done(self, key: Key, source: Source, question: str | None = None) -> bool:
        """Whether it was said to be finished."""
        return key in self._finished

    def write(self, record: Transcript) -> None:
        """Keep the record."""
        self.records[record.id] = record
        self.kept[record.id, record.task] = record


class _Known(NamedTuple):
    """What the store remembers of a finished line."""

    source: Source
    question: str | None
    offset: int


class Store:
    """A folder of results, held by one process at a time.

    Args:
        folder: made when it is not there.
        settings: of this run; lines of others are refused without `overwrite`, of other tasks not.
        formats: side formats to write beside the lines.
        part: what the results file's name ends in, for one of several stores in a folder, each
            with recordings of its own: `-3-of-16`.
        overwrite: take nothing as done, and move lines of other settings to `results.jsonl.bak`.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        formats: Iterable[str] = (),
        *,
        part: str = "",
        overwrite: bool = False,
    ) -> None:
        """Touch nothing yet: the folder is made and held on entering."""
        self.path = folder / f"{RESULTS}{part}.jsonl"
        self._folder = folder
        self._settings = settings
        self._overwrite = overwrite
        self._side = SideFiles(folder, formats)
        self._known: dict[Key, _Known] = {}
        self._lines: set[Key] = set()
        self._moved: list[Entry] = []
        self._made: set[Versions] = set()
        self._replaced = False
        self._held = ExitStack()
        self._file: BinaryIO

    def __enter__(self) -> Self:
        """Hold and repair the folder.

        Raises:
            UsageError: another run holds it, it cannot be written, it has other settings, or it is
                shared out in another way.
        """
        with ExitStack() as undo:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                undo.enter_context(locked(self.path))
                check_plain(self.path)
                check_company(self.path)
                self._open()
            except OSError as error:
                raise UsageError(f"cannot write into -o {self._folder}: {error}") from error
            self._held = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Drop the lines that were replaced and let go of the folder."""
        with self._held:
            try:
                self._file.close()
                if self._replaced:
                    replace_file(self.path, _bytes(newest(entries(self.path))))
            except OSError as trouble:
                if error is None:
                    raise _cannot_write(self._folder, trouble) from trouble

    def expect(self, ids: Iterable[str]) -> None:
        """Announce recordings, so that those with one stem get side files of their own."""
        self._side.expect(ids)

    def begin(self, record: Transcript) -> None:
        """See that the lines of the record's task are of the numbers that its model runs in.

        Which these are is open until the model is there, if they were left to it.

        Raises:
            UsageError: they are of others.
        """
        settings = narrowed(self._settings, record)
        if settings == self._settings:
            return
        self._settings = settings
        self._file.close()
        try:
            self._open()
        except UsageError as error:
            raise UsageError(
                f"{error}, or go on with its --dtype: here it is {record.dtype}"
            ) from None

    def done(self, key: Key, source: Source, question: str | None = None) -> bool:
        """Whether an ok line of the same file, question and settings is there.

        Completes its side files.
        """
        known = self._known.get(key)
        if known is None or known.question != question or not known.source.same(source):
            return False
        if self._side.missing(*key):
            with self.path.open("rb") as file:
                file.seek(known.offset)
                self._write_side(record_of(json.loads(file.readline())))
        return True

    def write(self, record: Transcript) -> None:
        """Write the side files, then the line: the line is the mark that all is there.

        Raises:
            UsageError: a worker of this run is in other numbers than the one before.
        """
        self.begin(record)
        if record.status != "failed":
            self._write_side(record)
        try:
            self._file.write(line(record).encode())
            sync(self._file)
        except OSError as error:
            raise _cannot_write(self._folder, error) from error
        key = (record.id, record.task)
        self._replaced = self._replaced or key in self._lines
        self._lines.add(key)

    def other_versions(self, now: Mapping[str, str]) -> str | None:
        """What to say where lines were made by other versions than today's; None if none were.

        Args:
            now: versions by name.
        """
        return of_other_versions(self.path, self._made, now)

    def records(self, task: str) -> dict[str, Transcript]:
        """The stored records of a task, by id."""
        found = (record_of(data) for data in read_results(self.path) if data["task"] == task)
        return {record.id: record for record in found}

    def _write_side(self, record: Transcript) -> None:
        try:
            self._side.write(record)
        except OSError as error:
            raise _cannot_write(self._folder, error) from error

    def _open(self) -> None:
        """Repair, sort out other settings, remember what is done, open for appending."""
        found = newest(entries(self.path))
        others = [entry for entry in found if other_than(self._settings, entry)]
        if others and not self._overwrite:
            raise other_settings(self.path, others[0].data)
        if not self._overwrite:
            check_settings(self.path, self._settings)
        if others:
            self._moved += others
            replace_file(self.path.with_suffix(".jsonl.bak"), _bytes(self._moved))
            found = [entry for entry in found if not other_than(self._settings, entry)]
        if self.path.exists() and _bytes(found) != self.path.read_bytes():
            replace_file(self.path, _bytes(found))
        self._remember(found)
        self._file = append(self.path)

    def _remember(self, found: Iterable[Entry]) -> None:
        self._known.clear()
        offset = 0
        for entry in found:
            if entry.key is not None:
                self._lines.add(entry.key)
                self._made.add(versions_of(entry.data))
                if entry.data["status"] == "ok" and not self._overwrite:
                    asked = entry.data.get("question")
                    self._known[entry.key] = _Known(Source(**entry.data["source"]), asked, offset)
            offset += len(entry.raw)
        self._side.expect(name for name, _ in self._lines)
        named = self._settings if isinstance(self._settings, Mapping) else ()
        tasks = {task for _, task in self._lines} | {*named}
        self._side.by_task = len(tasks) > 1


def _cannot_write(folder: Path, error: OSError) -> FastAdaSPError:
    return FastAdaSPError(f"cannot write into -o {folder}: {error.strerror or error}")


def _bytes(found: Iterable[Entry]) -> bytes:
    return b"".join(entry.raw for entry in found)
