"""The file of records: repaired when it is opened, then only added to.

A redone recording is appended too, and its older line leaves when the file is next rewritten (on
open or close, by temporary file and rename), so at no moment is a finished line out of reach.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import UsageError
from ..records import Json, Source, Transcript
from .files import append, check_plain, is_plain, replace_file, sync
from .lines import Entry, Key, entries, line, newest, record_of
from .parts import Settings, Versions, check_settings, other_settings, other_than, versions_of

_OURS = b'{"schema_version": '


class Line(NamedTuple):
    """What is remembered of a line.

    Attributes:
        source, question, written: of the record; `written` is its recording's path as given.
        ok: whether it needs no more work.
        offset: where it begins.
    """

    source: Source
    question: str | None
    written: str
    ok: bool
    offset: int


class LineFile:
    """One `results.jsonl`, of a process that holds it.

    Args:
        path: of the file.
        settings: of this run.
        overwrite: move lines of other settings, and what is no file of results, to `.bak`.

    Attributes:
        settings: what its lines may have.
        lines: the newest line of each record, when the file was opened.
        made: by which versions they were made.
    """

    def __init__(self, path: Path, settings: Settings, *, overwrite: bool = False) -> None:
        """Touch nothing yet."""
        self._path = path
        self.settings = settings
        self._overwrite = overwrite
        self.lines: dict[Key, Line] = {}
        self.made: set[Versions] = set()
        self._added: set[Key] = set()
        self._replaced = False
        self._file: BinaryIO

    def open(self) -> None:
        """Repair, sort out other settings, remember what is there, open for appending.

        Raises:
            UsageError: it has other settings, or is somebody else's file.
        """
        check_plain(self._path)
        found = newest(entries(self._path))
        raw = self._path.read_bytes() if self._path.exists() else b""
        if _is_foreign(raw, found):
            found = self._set_aside(raw)
        others = [entry for entry in found if other_than(self.settings, entry)]
        if others and not self._overwrite:
            raise other_settings(self._path, others[0].data)
        if not self._overwrite:
            check_settings(self._path, self.settings)
        if others:
            _keep(self._path, _bytes(others))
            found = [entry for entry in found if not other_than(self.settings, entry)]
        if self._path.exists() and _bytes(found) != raw:
            replace_file(self._path, _bytes(found))
        self._remember(found)
        self._file = append(self._path)

    def narrow(self, settings: Settings) -> None:
        """Go on with fewer settings than its lines could have so far; raises as `open`."""
        self.settings = settings
        self._file.close()
        self.open()

    def close(self) -> None:
        """Drop the lines that were replaced."""
        self._file.close()
        if self._replaced:
            replace_file(self._path, _bytes(newest(entries(self._path))))

    def append(self, record: Transcript) -> None:
        """Add a line; it is on the disk when this returns."""
        self._file.write(line(record).encode())
        sync(self._file)
        key = (record.id, record.task)
        self._replaced = self._replaced or key in self.lines or key in self._added
        self._added.add(key)

    def stored(self, key: Key) -> Transcript:
        """The record of one of `lines`."""
        with self._path.open("rb") as file:
            file.seek(self.lines[key].offset)
            return record_of(json.loads(file.readline()))

    def _set_aside(self, raw: bytes) -> list[Entry]:
        if not self._overwrite:
            raise UsageError(
                f"{self._path} is no file of results: move it away, or choose another -o DIR"
            )
        _keep(self._path, raw)
        return []

    def _remember(self, found: Iterable[Entry]) -> None:
        self.lines.clear()
        offset = 0
        for entry in found:
            if entry.key is not None:
                self.made.add(versions_of(entry.data))
                self.lines[entry.key] = _of(entry.data, offset)
            offset += len(entry.raw)


def _of(data: Json, offset: int) -> Line:
    source, asked = Source(**data["source"]), data.get("question")
    return Line(source, asked, data["audio_filepath"], data["status"] == "ok", offset)


def _is_foreign(raw: bytes, found: Iterable[Entry]) -> bool:
    """Whether a file has something in it, and not even the torn beginning of a record."""
    torn = raw.startswith(_OURS) or _OURS.startswith(raw.strip())
    return not torn and all(entry.key is None for entry in found)


def _keep(path: Path, raw: bytes) -> None:
    """Add to what is kept beside the file."""
    aside = path.with_suffix(".jsonl.bak")
    before = aside.read_bytes() if is_plain(aside) else b""
    end = b"" if before.endswith(b"\n") or not before else b"\n"
    replace_file(aside, before + end + raw)


def _bytes(found: Iterable[Entry]) -> bytes:
    return b"".join(entry.raw for entry in found)
