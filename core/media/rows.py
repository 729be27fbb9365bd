"""The rows of manifests, kind by kind: JSON lines, tables with a header, playlists, plain lines."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from ..errors import UsageError
from ..records import Seconds

_EXAMPLE = '{"audio_filepath": "talks/a.mp3"}'
_DELIMITERS = ",;\t|"
_COLUMNS = {
    "audio_filepath": (
        *("audio_filepath", "audio_path", "audio_file", "audio", "path", "filepath", "file_path"),
        *("file", "filename", "file_name", "wav", "wav_path", "wav_filename", "recording"),
    ),
    "text": ("text", "transcript", "transcription", "sentence"),
}
"""What columns are called, by the key that a JSON manifest has for them; the first one counts."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a manifest.

    Attributes:
        where: file and line, for complaints.
        written: the path of the recording as it stands there.
        values: what else it says, by NeMo's keys.
    """

    where: str
    written: str
    values: dict[str, Any] = field(default_factory=dict)

    def string(self, key: str) -> str | None:
        """A value that is text, or as an id a whole number.

        Raises:
            UsageError: it is something else.
        """
        return _string(self.values, key, self.where)

    def seconds(self, key: str) -> Seconds | None:
        """A value that is a time; a table has it as text.

        Raises:
            UsageError: it is something else.
        """
        found = self.values.get(key)
        try:
            seconds = None if found in (None, "") or isinstance(found, bool) else float(found)
        except (TypeError, ValueError, OverflowError):
            seconds = math.nan
        if isinstance(found, bool) or (seconds is not None and not math.isfinite(seconds)):
            raise UsageError(f'{self.where}: "{key}" is {found!r}; expected seconds')
        return seconds


def plain_rows(path: str, text: str) -> Iterator[Row]:
    """A path a line, as it stands."""
    for number, line in _lines(text):
        yield Row(f"{path}:{number}", line)


def json_rows(path: str, text: str) -> Iterator[Row]:
    """An object a line, with `audio_filepath`."""
    for number, line in _lines(text):
        where = f"{path}:{number}"
        try:
            value = json.loads(line.encode())
        except ValueError:  # of JSON or of UTF-8
            raise UsageError(f"{where}: not JSON; expected one object a line {_EXAMPLE}") from None
        if not isinstance(value, dict):
            raise UsageError(
                f"{where}: expected an object {_EXAMPLE}, found {type(value).__name__}"
            )
        written = _string(value, "audio_filepath", where)
        if not written:
            raise UsageError(f'{where}: no "audio_filepath"; expected {_EXAMPLE}')
        yield Row(where, written, value)


def table_rows(path: str, text: str) -> Iterator[Row]:
    """Columns under a header, one of them of paths; commas, semicolons, tabs or bars between."""
    text = re.sub(r"\Asep=.(?=\r?\n)", "", text)  # a word from one Excel to another
    head, _, _ = text.lstrip().partition("\n")
    between = _between(head)
    if between is None:
        known = ", ".join(_COLUMNS["audio_filepath"])
        raise UsageError(f"{path}: its first line names no column of recordings: {known}")
    rows = _tabbed(path, text) if between == "\t" else _quoted(path, text, between)
    columns = _columns(next(rows)[1])
    for where, cells in rows:
        filled = {at: cell for at, cell in enumerate(cells) if cell}
        values = {name: filled[at] for name, at in columns.items() if at in filled}
        if "audio_filepath" not in values:
            raise UsageError(f"{where}: this row names no recording")
        yield Row(where, values["audio_filepath"], values)


def names_recordings(header: str) -> bool:
    """Whether the first line of a table has a column of recordings."""
    return _between(header) is not None


def _between(header: str) -> str | None:
    """What stands between the columns, where one of them is of recordings."""
    marks = (mark for mark in _DELIMITERS if "audio_filepath" in _columns(header.split(mark)))
    return next(marks, None)


def playlist_rows(path: str, text: str) -> Iterator[Row]:
    """A path or `file:` address a line, remarks left out."""
    for number, line in _lines(text):
        if not line.startswith("#"):
            yield Row(f"{path}:{number}", _played(os.path.dirname(path), line.strip()))


def _played(folder: str, line: str) -> str:
    """What players take a line for: Windows writes its own slashes and encoding."""
    if line.lower().startswith("file:"):
        return url2pathname(urlsplit(line).path)
    western = os.fsencode(line).decode("cp1252", "replace")
    meant = (line, line.replace("\\", "/"), unquote(line), western, western.replace("\\", "/"))
    return next((one for one in meant if os.path.exists(os.path.join(folder, one))), line)


def _quoted(path: str, text: str, between: str) -> Iterator[tuple[str, list[str]]]:
    # strict: a quote that is never closed would swallow all rows behind it
    reader = csv.reader(StringIO(text, newline=""), delimiter=between, strict=True)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UsageError(f"{path}:{reader.line_num}: not a table: {error}") from None
        if cells is None:
            return
        if any(cells):
            yield f"{path}:{reader.line_num}", cells


def _tabbed(path: str, text: str) -> Iterator[tuple[str, list[str]]]:
    """Quotes are text here, but for those that Excel puts around a whole cell."""
    for number, line in _lines(text):
        cells = (re.fullmatch('"(.*)"', cell) or cell for cell in line.split("\t"))
        plain = [cell if isinstance(cell, str) else cell[1].replace('""', '"') for cell in cells]
        yield f"{path}:{number}", plain


def _columns(header: Sequence[str]) -> dict[str, int]:
    """Where each column stands, by its own name and by NeMo's."""
    names = [re.sub(r"[\s-]+", "_", name.strip().strip('"').lower()) for name in header]
    found = {name: at for at, name in enumerate(names) if name}
    for key, others in _COLUMNS.items():
        name = next((name for name in others if name in found), None)
        if name is not None:
            found[key] = found[name]
    return found


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with something in them; files put end to end bring a byte-order mark each."""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removeprefix("\ufeff").rstrip("\r")
        if line.strip():
            yield number, line


def _string(values: dict[str, Any], key: str, where: str) -> str | None:
    found = values.get(key)
    if key == "id" and isinstance(found, int):
        return str(found)
    if found is not None and not isinstance(found, str):
        raise UsageError(f'{where}: "{key}" is {type(found).__name__}; expected a string')
    return found
