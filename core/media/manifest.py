"""Lists of recordings: manifests of several kinds, and the lines of stdin."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import IO, Any

from ..errors import UsageError
from ..records import Seconds
from .marks import in_utf8, may_begin_a_mark
from .rows import Row, json_rows, plain_rows, playlist_rows, table_rows

_READERS = {
    ".jsonl": json_rows,
    ".json": json_rows,
    ".csv": table_rows,
    ".tsv": table_rows,
    ".m3u": playlist_rows,
    ".m3u8": playlist_rows,
    ".txt": plain_rows,
}
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a manifest.

    Attributes:
        path: where the recording lies, relative paths resolved from the manifest's folder.
        written: the path as it stands in the manifest.
        text: reference text, if given.
        id: the name that the manifest gives the recording, else None.
        question: what is asked about it, if given.
        row: the whole object of a JSON manifest.
        offset: seconds where its part of the file begins, None = not said.
        duration: seconds of its part of the file, None = to the end.
    """

    path: str
    written: str
    text: str | None = None
    id: str | None = None
    question: str | None = None
    row: dict[str, Any] = field(default_factory=dict, hash=False, repr=False)
    offset: Seconds | None = None
    duration: Seconds | None = None

    @property
    def name(self) -> str:
        """Its id, or else the path as written, with the part of it that is meant.

        A duration alone names no part: most manifests have that of the whole file in each row.
        """
        if self.id or self.offset is None:
            return self.id or self.written
        stem, extension = os.path.splitext(self.written)
        end = "" if self.duration is None else f",{_short(self.offset + self.duration)}"
        return f"{stem}#t={_short(self.offset)}{end}{extension}"  # as in media fragments (W3C)


def is_manifest(path: str) -> bool:
    """Whether a file is a list of recordings, by its extension."""
    return os.path.splitext(path.lower())[1] in _READERS


def read_manifest(path: str) -> list[Entry]:
    """All entries of a manifest, see `rows` for its kinds; in UTF-8, or with a byte-order mark.

    Raises:
        UsageError: unreadable, or a malformed line, named as file:line with what is expected.
    """
    try:
        with open(path, "rb") as file:
            data = b"".join(in_utf8([file.read()]))
    except OSError as error:
        raise UsageError(f"{path}: cannot read this manifest: {error.strerror}") from None
    if _is_binary(data[:4096], null=False):
        raise UsageError(f"{path}: binary data where a manifest in UTF-8 is expected")
    extension = os.path.splitext(path.lower())[1]
    text = data.decode("utf-8", "surrogateescape")
    rows = list(_READERS[extension](path, text))
    entries = _parts_told([_entry(row, os.path.dirname(path)) for row in rows])
    owner: dict[str, str] = {}
    for row, entry in zip(rows, entries, strict=True):
        meant = f"{entry.path} {entry.offset} {entry.duration} {entry.question}"
        if entry.id is not None and owner.setdefault(entry.id, meant) != meant:
            raise UsageError(
                f"{row.where}: the id {entry.id!r} already names another file, part or question"
            )
    return entries


def _parts_told(entries: list[Entry]) -> list[Entry]:
    """A file of which several lengths are wanted is wanted in parts that begin at 0."""
    lengths: dict[str, set[Seconds | None]] = {}
    for one in entries:
        if one.offset is None:
            lengths.setdefault(one.path, set()).add(one.duration)
    return [
        replace(one, offset=0.0)
        if one.offset is None and one.duration is not None and len(lengths[one.path]) > 1
        else one
        for one in entries
    ]


def _entry(row: Row, folder: str) -> Entry:
    path = os.path.join(folder, row.written)
    name, text, question = (row.string(key) for key in ("id", "text", "question"))
    offset, duration = row.seconds("offset"), row.seconds("duration")
    if offset is not None and offset < 0:
        raise UsageError(f'{row.where}: "offset" is {offset:g}; a part begins at 0 or later')
    if duration is not None and duration <= 0:  # NeMo's way to say that it is not known
        duration = None
    if not offset and duration is None:
        offset = None
    return Entry(path, row.written, text, name, question, row.values, offset, duration)


def _short(seconds: Seconds) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def paths_from_stream(stream: IO[bytes], null: bool) -> Iterator[str]:
    """Paths of a byte stream, one a line or NUL-terminated, as they arrive.

    Looks at the first bytes at once. In the system's encoding, or what a byte-order mark says.

    Raises:
        UsageError: the stream holds audio or other binary data.
    """
    first = _read_some(stream)
    while may_begin_a_mark(first) and (more := _read_some(stream)):
        first += more
    chunks = in_utf8(chain([first], iter(lambda: _read_some(stream), b"")))
    first = next(chunks)
    if _is_binary(first, null):
        way_out = "pass the file itself, or `find ... | fastadasp run -` (NUL-separated: --null)"
        raise UsageError(f"stdin holds binary data, but '-' expects one path a line: {way_out}")
    return _split(chain([first], chunks), b"\0" if null else b"\n")


def _split(chunks: Iterator[bytes], mark: bytes) -> Iterator[str]:
    pending = b""
    for chunk in chunks:
        *whole, pending = (pending + chunk).split(mark)
        for raw in whole:
            yield from _decoded(raw, mark)
    yield from _decoded(pending, mark)


def _decoded(raw: bytes, mark: bytes) -> Iterator[str]:
    line = raw.rstrip(b"\r") if mark == b"\n" else raw
    if line.strip():
        yield os.fsdecode(line)


def _read_some(stream: IO[bytes]) -> bytes:
    """What is there already, so that paths are used while the writer is still looking for more."""
    read = getattr(stream, "read1", stream.read)
    return bytes(read(_CHUNK))


def _is_binary(data: bytes, null: bool) -> bool:
    """Whether these bytes are no list of paths; audio shows control characters at once."""
    return any(0 < byte < 9 for byte in data[:256]) if null else b"\0" in data
