"""Side formats of one record, by Whisper's conventions, and the names of their files.

srt `HH:MM:SS,mmm`, vtt `MM:SS.mmm` with hours only when needed, tsv in whole milliseconds, txt one
segment a line, json Whisper's own shape. UTF-8 and `\\n` everywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from html import escape
from pathlib import Path, PurePosixPath
from types import ModuleType

from ..records import Seconds, Transcript
from .cues import cues
from .files import check_inside, is_plain, replace_file


def srt(record: Transcript) -> str:
    """SubRip; text that players would take for a tag or a command is made harmless."""
    blocks = (
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{_untagged(lines)}\n"
        for number, (start, end, lines) in enumerate(cues(record.segments), start=1)
    )
    return "\n".join(blocks)


def vtt(record: Transcript) -> str:
    """WebVTT; `&`, `<` and `>` are escaped."""
    blocks = (
        f"{_clock(start, '.', hours=False)} --> {_clock(end, '.', hours=False)}\n"
        f"{escape(chr(10).join(lines), quote=False)}\n"
        for start, end, lines in cues(record.segments)
    )
    return "\n".join(("WEBVTT\n", *blocks))


def txt(record: Transcript) -> str:
    """One segment a line."""
    return "".join(f"{_one_line(span.text)}\n" for span in record.segments if span.text)


def tsv(record: Transcript) -> str:
    """Start and end in milliseconds, text without tabs."""
    rows = (
        f"{_ms(span.start)}\t{_ms(span.end)}\t{_one_line(span.text)}\n"
        for span in record.segments
        if span.text
    )
    return "start\tend\ttext\n" + "".join(rows)


def whisper_json(record: Transcript) -> str:
    """Text, language and segments under the names that Whisper gives them."""
    segments = [
        {"id": number, "start": span.start, "end": span.end, "text": span.text}
        for number, span in enumerate(record.segments)
    ]
    language = record.target_language or record.language
    data = {"text": record.pred_text, "segments": segments, "language": language}
    return json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n"


WRITERS: dict[str, Callable[[Transcript], str]] = {
    "srt": srt,
    "vtt": vtt,
    "txt": txt,
    "tsv": tsv,
    "json": whisper_json,
}


_LONGEST_NAME = 255  # bytes


class SideFiles:
    """Writes the side files of records into a tree that mirrors the input.

    Args:
        folder: root of the tree.
        formats: names out of `WRITERS`.

    Attributes:
        by_task: whether the task is part of a name, `talk.asr.srt`: there are several.
    """

    def __init__(self, folder: Path, formats: Iterable[str]) -> None:
        """Write nothing yet."""
        self._folder = folder
        self._formats = tuple(formats)
        self.by_task = False
        self._stems: Counter[str] = Counter()
        self._ids: set[str] = set()

    def expect(self, ids: Iterable[str]) -> None:
        """Announce recordings, so that those which share a stem keep their source extension."""
        new = set(ids) - self._ids
        self._ids |= new
        self._stems.update(_stem(name) for name in new)

    def write(self, record: Transcript) -> None:
        """Write every format of `record`, each file whole or not at all."""
        self.expect([record.id])
        for path, text in self._files(record):
            check_inside(path, self._folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, text.encode())

    def missing(self, recording_id: str, task: str) -> bool:
        """Whether a file of this recording and task is not there."""
        self.expect([recording_id])
        return not all(is_plain(self.path(recording_id, task, name)) for name in self._formats)

    def path(self, recording_id: str, task: str, extension: str) -> Path:
        """Where one side file lies."""
        stem = _stem(recording_id)
        shared = self._stems[stem] > 1 or stem in self._ids
        name = _inside(recording_id) if shared else stem
        if self.by_task:
            name = f"{name}.{task}"
        return self._folder / "/".join(map(_short, f"{name}.{extension}".split("/")))

    def _files(self, record: Transcript) -> Iterator[tuple[Path, str]]:
        for name in self._formats:
            yield self.path(record.id, record.task, name), WRITERS[name](record)


def _inside(recording_id: str, flavour: ModuleType = os.path) -> str:
    """The id as a path that cannot leave the output folder."""
    places = PurePosixPath(flavour.splitdrive(recording_id)[1].replace(flavour.sep, "/")).parts
    return "/".join(part for part in places if part not in ("/", "..", "."))


def _short(part: str) -> str:
    """A name that file systems take: an extension, or a manifest's id, may be too long."""
    name = part.encode("utf-8", "surrogateescape")
    if len(name) <= _LONGEST_NAME:
        return part
    mark = f"~{hashlib.sha256(name).hexdigest()[:8]}{PurePosixPath(part).suffix[:16]}"
    return name[: _LONGEST_NAME - len(mark.encode())].decode("utf-8", "ignore") + mark


def _stem(recording_id: str) -> str:
    inside = _inside(recording_id)
    return str(PurePosixPath(inside).with_suffix("")) if inside else "recording"


def _untagged(lines: Iterable[str]) -> str:
    """SubRip has no escapes: an invisible joiner keeps `<i>` and `{\\an8}` from being obeyed.

    `-->` would be read as a line of times, so it becomes `->`.
    """
    text = "\n".join(lines).replace("-->", "->")
    return re.sub(r"<(?=[A-Za-z/!])|\{(?=\\)", "\\g<0>\u2060", text)


def _one_line(text: str) -> str:
    """Line breaks end a row and tabs end a column: white space becomes single spaces."""
    return " ".join(text.split())


def _ms(seconds: Seconds) -> int:
    return round(1000 * seconds)


def _clock(time: int, mark: str, *, hours: bool = True) -> str:
    whole, ms = divmod(time, 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    head = f"{hour:02d}:" if hours or hour else ""
    return f"{head}{minute:02d}:{second:02d}{mark}{ms:03d}"
