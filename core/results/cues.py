"""From the long spans of a record to subtitles that can be read: short cues of two short lines.

A span's text is cut at its words, and its time is shared among the cues by the width of their
text, so a cue never leaves its span. Where nobody speaks for a while nothing is shown.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from ..records import Seconds, Span

LINE = 42
"""Columns of a line of subtitles, of which a wide (East Asian) character takes two."""
LINES = 2
PAUSE: Seconds = 1.0
"""Silence in a span from which no cue covers it."""
LINGER: Seconds = 0.15
"""How long a cue may stand before and after speech."""

Cue = tuple[int, int, tuple[str, ...]]  # first and last millisecond, lines


def cues(spans: Iterable[Span]) -> Iterator[Cue]:
    """Cues in order of time, none for a span without text; white space becomes single spaces."""
    for span in spans:
        for part in _spoken(span):
            lines = list(_lines(_words(part.text)))
            if lines:
                texts = [lines[at : at + LINES] for at in range(0, len(lines), LINES)]
                yield from _timed(part, texts)


def _spoken(span: Span) -> Iterator[Span]:
    """The span without its long pauses, its text shared among what is left by length."""
    text, times = " ".join(span.text.split()), _without_pauses(span)
    # between words, and between letters that need no spaces
    places = [at for at, char in enumerate(text) if char == " " or width(char) > 1]
    lengths = [end - start for start, end in times]
    done = 0
    for number, (start, end) in enumerate(times, 1):
        share = len(text) * sum(lengths[:number]) / (sum(lengths) or 1)
        until = min((0, *places, len(text)), key=lambda at: abs(at - share))
        if number == len(times):
            until = len(text)
        start, end = max(span.start, start - LINGER), min(span.end, end + LINGER)
        yield Span(start, end, text[done:until])
        done = until


def _without_pauses(span: Span) -> list[tuple[Seconds, Seconds]]:
    found: list[tuple[Seconds, Seconds]] = []
    for start, end in span.speech or ((span.start, span.end),):
        if found and start - found[-1][1] < PAUSE:
            start, _ = found.pop()
        found.append((start, end))
    return found


def _timed(span: Span, texts: Sequence[Sequence[str]]) -> Iterator[Cue]:
    start, end = round(1000 * span.start), round(1000 * span.end)
    if end - start < len(texts):  # no time to show them one by one
        texts = [[line for lines in texts for line in lines]]
    widths = [sum(map(width, lines)) for lines in texts]
    done, at = 0, start
    for lines, size in zip(texts, widths, strict=True):
        done += size
        until = start + (end - start) * done // sum(widths)
        yield at, until, tuple(lines)
        at = until


def _lines(words: Iterable[str]) -> Iterator[str]:
    """Words put together to lines as long as they may be."""
    line = ""
    for word in words:
        longer = f"{line} {word}" if line else word
        if line and width(longer) > LINE:
            yield line
            longer = word
        line = longer
    if line:
        yield line


def _words(text: str) -> Iterator[str]:
    """Words, those that no line can hold in pieces: some languages put no space between them."""
    for word in text.split():
        letters = iter(word)
        while piece := "".join(islice(letters, LINE if width(word) == len(word) else LINE // 2)):
            yield piece


def width(text: str) -> int:
    """Columns that a text takes."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
