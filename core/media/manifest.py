"""Lists of paths: JSON lines in NeMo's style, plain lines of text, and the lines of stdin."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from ..errors import UsageError

_JSON = (".jsonl", ".json")
_TEXT = (".txt",)
_EXAMPLE = '{"audio_filepath": "talks/a.mp3"}'
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
    """

    path: str
    written: str
    text: str | None = None
    id: str | None = None
    question: str | None = None
    row: dict[str, Any] = field(default_factory=dict, hash=False, repr=False)


def is_manifest(path: str) -> bool:
    """Whether a file is a list of recordings, by its extension."""
    return path.lower().endswith(_JSON + _TEXT)


def read_manifest(path: str) -> list[Entry]:
    """All entries of a `.jsonl`/`.json` (an object a line) or `.txt` (a path a line) manifest.

    Raises:
        UsageError: unreadable, or a malformed line, named as file:line with what is expected.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise UsageError(f"{path}: cannot read this manifest: {error.strerror}") from None
    if _is_binary(data[:4096], null=False):
        raise UsageError(f"{path}: binary data where a manifest in UTF-8 is expected")
    entries: list[Entry] = []
    owner: dict[str, str] = {}
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")  # Windows begins UTF-8 with a mark
    for number, line in enumerate(lines, 1):
        if line.strip():
            entry = _parse(line.rstrip(b"\r"), path, number)
            meant = entry.path + (entry.question or "")
            if entry.id is not None and owner.setdefault(entry.id, meant) != meant:
                raise UsageError(
                    f"{path}:{number}: the id {entry.id!r} already names another file or question"
                )
            entries.append(entry)
    return entries


def paths_from_stream(stream: IO[bytes], null: bool) -> Iterator[str]:
    """Paths of a byte stream, one a line or NUL-terminated, as they arrive.

    Looks at the first bytes at once.

    Raises:
        UsageError: the stream holds audio or other binary data.
    """
    first = _read_some(stream)
    if _is_binary(first, null):
        way_out = "pass the file itself, or `find ... | fastadasp run -` (NUL-separated: --null)"
        raise UsageError(f"stdin holds binary data, but '-' expects one path a line: {way_out}")
    return _split(first, stream, b"\0" if null else b"\n")


def _split(pending: bytes, stream: IO[bytes], mark: bytes) -> Iterator[str]:
    while pending:
        *whole, pending = pending.split(mark)
        for raw in whole:
            yield from _decoded(raw, mark)
        more = _read_some(stream)
        if not more:
            yield from _decoded(pending, mark)
        pending = pending + more if more else b""


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


def _parse(line: bytes, manifest: str, number: int) -> Entry:
    folder = os.path.dirname(manifest)
    if manifest.lower().endswith(_JSON):
        return _from_json(line, folder, f"{manifest}:{number}")
    written = os.fsdecode(line)
    return Entry(os.path.join(folder, written), written)


def _from_json(line: bytes, folder: str, where: str) -> Entry:
    try:
        value = json.loads(line.decode("utf-8"))
    except ValueError:  # of JSON or of UTF-8
        raise UsageError(f"{where}: not JSON; expected one object a line {_EXAMPLE}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{where}: expected an object {_EXAMPLE}, found {type(value).__name__}")
    written = _string(value, "audio_filepath", where)
    if not written:
        raise UsageError(f'{where}: no "audio_filepath"; expected {_EXAMPLE}')
    if value.get("offset"):
        raise UsageError(f'{where}: "offset" is not supported: cut the recording first')
    name, text, question = (_string(value, key, where) for key in ("id", "text", "question"))
    return Entry(os.path.join(folder, written), written, text, name, question, value)


def _string(value: dict[str, Any], key: str, where: str) -> str | None:
    found = value.get(key)
    if key == "id" and isinstance(found, int):
        return str(found)
    if found is not None and not isinstance(found, str):
        raise UsageError(f'{where}: "{key}" is {type(found).__name__}; expected a string')
    return found
