"""Where records go: JSON lines on a stream, or a folder that remembers what is done.

`results.jsonl` grows by one synced line for each record, at once. Side files come before the line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self, TextIO

from ..errors import FastAdaSPError, UsageError
from ..ids import real_path
from ..records import Source, Transcript
from .files import locked
from .journal import Journal
from .line_file import LineFile
from .lines import Key, entries, line, read_results, record_of
from .parts import Settings, check_company, narrowed, of_other_versions, other_parts
from .side import LEFT_ALONE, SideFiles

RESULTS = "results"


class Known(NamedTuple):
    """A recording that a place for records has seen before.

    Attributes:
        id: its name there.
        path: its file, absolute.
        written: the same as it was given.
        source: its file as it was then.
        here: whether its records are in this part of the results, and not in another shard's.
    """

    id: str
    path: str
    written: str
    source: Source
    here: bool


class Sink(Protocol):
    """What the pipeline needs of a place for records."""

    @property
    def left_alone(self) -> Sequence[str]:
        """Files in the way of side files, which were not replaced: somebody else made them."""

    def known(self) -> Iterable[Known]:
        """The recordings that it has seen before."""

    def expect(self, ids: Iterable[str]) -> None:
        """Announce recordings that will come."""

    def begin(self, record: Transcript) -> None:
        """Take note of what the records of a task will have in common: the model is there."""

    def done(self, key: Key, source: Source, question: str | None = None) -> bool:
        """Whether this recording and task needs no more work."""

    def write(self, record: Transcript) -> Transcript:
        """Take a record; it is safe when this returns.

        Returns:
            The record as it was taken: failed if what belongs to it could not be written.
        """


class _Forgetful:
    """A place where no earlier lines are."""

    def known(self) -> Iterable[Known]:
        """Nothing."""
        return ()

    def expect(self, ids: Iterable[str]) -> None:
        """Nothing to prepare."""

    def begin(self, record: Transcript) -> None:
        """Nothing is there to clash with it."""


class StreamSink(_Forgetful):
    """JSON lines on a text stream, flushed one by one."""

    left_alone: Sequence[str] = ()

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`, which stays open."""
        self._stream = stream

    def done(self, key: Key, source: Source, question: str | None = None) -> bool:
        """A stream remembers nothing."""
        return False

    def write(self, record: Transcript) -> Transcript:
        """Print the record's line."""
        try:
            self._stream.write(line(record))
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise FastAdaSPError(f"cannot write the record: {error.strerror or error}") from error
        return record


class MemorySink(_Forgetful):
    """Keeps the records, in order.

    Attributes:
        records: by id; of several tasks the last.
        kept: by id and task.
    """

    left_alone: Sequence[str] = ()

    def __init__(self, finished: Iterable[Key] = ()) -> None:
        """Nothing is kept yet; `finished` needs no more work."""
        self.records: dict[str, Transcript] = {}
        self.kept: dict[Key, Transcript] = {}
        self._finished = set(finished)

    def done(self, key: Key, source: Source, question: str | None = None) -> bool:
        """Whether it was said to be finished."""
        return key in self._finished

    def write(self, record: Transcript) -> Transcript:
        """Keep the record."""
        self.records[record.id] = record
        self.kept[record.id, record.task] = record
        return record


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
        self._overwrite = overwrite
        self._file = LineFile(self.path, settings, overwrite=overwrite)
        self._journal = Journal(self.path)
        self._side = SideFiles(folder, formats, self._journal, overwrite=overwrite)
        self._held = ExitStack()
        self.left_alone: list[str] = []

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
                check_company(self.path)
                self._journal.read()
                self._file.open()
                self._look()
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
                self._journal.close()
                self._file.close()
            except OSError as trouble:
                if error is None:
                    raise _cannot_write(self._folder, trouble) from trouble

    def known(self) -> Iterable[Known]:
        """The recordings with a line, also those of the other shards in the folder."""
        for (name, _), one in self._file.lines.items():
            yield self._seen(name, one.written, one.source, here=True)
        for path in other_parts(self.path):
            for entry in entries(path):
                if entry.key is not None:
                    source = Source(**entry.data["source"])
                    yield self._seen(entry.key[0], entry.data["audio_filepath"], source, here=False)

    def expect(self, ids: Iterable[str]) -> None:
        """Announce recordings, so that those with one stem get side files of their own."""
        self._side.expect(ids)

    def begin(self, record: Transcript) -> None:
        """See that the lines of the record's task are of the numbers that its model runs in.

        Which these are is open until the model is there, if they were left to it.

        Raises:
            UsageError: they are of others.
        """
        settings = narrowed(self._file.settings, record)
        if settings == self._file.settings:
            return
        try:
            self._file.narrow(settings)
            self._look()
        except UsageError as error:
            raise UsageError(
                f"{error}, or go on with its --dtype: here it is {record.dtype}"
            ) from None

    def done(self, key: Key, source: Source, question: str | None = None) -> bool:
        """Whether an ok line of the same file, question and settings is there.

        Completes its side files; one that cannot be written leaves it to be done again.
        """
        known = self._file.lines.get(key)
        if self._overwrite or known is None or not known.ok:
            return False
        if known.question != question or not known.source.same(source):
            return False
        return not self._side.lacking(*key) or self._completed(key)

    def write(self, record: Transcript) -> Transcript:
        """Write the side files, then the line: the line is the mark that all is there.

        Raises:
            UsageError: a worker of this run is in other numbers than the one before.
        """
        self.begin(record)
        key = (record.id, record.task)
        try:
            self._adopt(key)
            record = self._side.write(record, () if record.status == "failed" else None)
            self._append(record)
        except OSError as error:
            raise _cannot_write(self._folder, error) from error
        return record

    def other_versions(self, now: Mapping[str, str]) -> str | None:
        """What to say where lines were made by other versions than today's; None if none were.

        Args:
            now: versions by name.
        """
        return of_other_versions(self.path, self._file.made, now)

    def records(self, task: str) -> dict[str, Transcript]:
        """The stored records of a task, by id."""
        found = (record_of(data) for data in read_results(self.path) if data["task"] == task)
        return {record.id: record for record in found}

    def _seen(self, name: str, written: str, source: Source, *, here: bool) -> Known:
        path = self._journal.path_of(name) or real_path(written)
        return Known(name, path, written, source, here)

    def _adopt(self, key: Key) -> None:
        """Take the side files that an older version wrote for ours, as far as they are."""
        if key in self._file.lines and not self._journal.knows(key):
            self._side.adopt(self._file.stored(key))

    def _completed(self, key: Key) -> bool:
        try:
            self._adopt(key)
            record = self._file.stored(key)
            made = self._side.write(record, self._side.lacking(*key))
            if made.status == "failed":
                return False
            if made != record:
                self._append(made)
        except OSError as error:
            raise _cannot_write(self._folder, error) from error
        return True

    def _append(self, record: Transcript) -> None:
        self._file.append(record)
        alone = (one for one in record.warnings if one.startswith(LEFT_ALONE))
        self.left_alone += [one.removeprefix(LEFT_ALONE) for one in alone]

    def _look(self) -> None:
        """What is there decides about the names of side files."""
        lines = self._file.lines
        self._side.expect(name for name, _ in lines)
        settings = self._file.settings
        named = settings if isinstance(settings, Mapping) else ()
        self._side.by_task = len({task for _, task in lines} | {*named}) > 1


def _cannot_write(folder: Path, error: OSError) -> FastAdaSPError:
    return FastAdaSPError(f"cannot write into -o {folder}: {error.strerror or error}")
