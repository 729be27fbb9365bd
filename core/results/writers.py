"""Side formats of one record, by Whisper's conventions.

srt `HH:MM:SS,mmm`, vtt `MM:SS.mmm` with hours only when needed, tsv in whole milliseconds, txt one
segment a line, json Whisper's own shape. UTF-8 and `\\n` everywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from html import escape

from ..records import Seconds, Transcript
from .cues import cues


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


def is_of(record: Transcript, name: str, text: str) -> bool:
    """Whether a side file was made of a record, perhaps by a version that cut cues elsewhere.

    Args:
        record: it.
        name: of `WRITERS`.
        text: what stands in the file.
    """
    made = WRITERS[name](record)
    if text == made or name not in ("srt", "vtt"):
        return text == made
    times = (_ms(at) for span in record.segments if span.text for at in (span.start, span.end))
    mark = "," if name == "srt" else "."
    stamps = (_clock(time, mark, hours=name == "srt") for time in times)
    return _spoken(text) == _spoken(made) and all(stamp in text for stamp in stamps)


def _spoken(subtitles: str) -> list[str]:
    """The words of subtitles, without times and numbers of cues."""
    lines = (line for line in subtitles.splitlines() if "-->" not in line)
    return [word for line in lines if not line.isdecimal() for word in line.split()]


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
