"""Recordings that have subtitles or a text already, whoever made them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path, PurePosixPath

from ..records import Recording
from .discover import MEDIA_SUFFIXES

_KINDS = "srt vtt ass ssa sub sbv lrc smi ttml dfxp txt tsv"
KINDS = frozenset(f".{kind}" for kind in _KINDS.split())
"""Extensions of subtitles and texts."""

_LANGUAGES = (  # of three letters, not to take "talk.old.srt" for one of them
    "afr alb ara arm aze baq bel ben bos bul cat ces chi cze dan deu dut ell eng est eus fas fin "
    "fra fre geo ger glg gre guj heb hin hrv hun ice ind isl ita jpn kan kat kaz kor lav lit mac "
    "mal mar may msa nld nob nor per pol por ron rum rus slk slo slv spa sqi srp swa swe tam tel "
    "tha tur ukr und urd uzb vie zho"
).replace(" ", "|")
_TAG = re.compile(
    rf"(?:[a-z]{{2}}|{_LANGUAGES})(?:[-_][a-z0-9]{{2,8}})*|forced|sdh|default|auto|orig|asr|chat",
    re.IGNORECASE,
)
"""Between name and extension: a language, a task, or what players tell such files apart by."""


class Existing:
    """Whether a recording has a text beside it or in the output folder: `talk.srt`, `talk.de.vtt`.

    A file belongs to the recording with the longest name that fits: `talk.en.srt` is that of
    `talk.en.mp3` if there is one.

    Args:
        output: folder of the run's side files, if it writes any.
        formats: extensions that count beside `KINDS`.

    Attributes:
        found: how many recordings have one.
    """

    def __init__(self, output: Path | None = None, formats: Iterable[str] = ()) -> None:
        """Look nowhere yet."""
        self._output = output
        self._kinds = KINDS | {f".{name}" for name in formats}
        self._with_text = cache(self._look)
        self.found = 0

    def __call__(self, recording: Recording) -> bool:
        """Whether it has one; counts those that do."""
        home = str(recording.path.parent)
        places = [(home, recording.path.name)]
        if self._output is not None:
            place = self._output / recording.id
            places.append((str(place.parent), place.name))
        has = any(
            not {name, PurePosixPath(name).stem}.isdisjoint(self._with_text(folder, home))
            for folder, name in places
        )
        self.found += has
        return has

    def _look(self, folder: str, home: str) -> frozenset[str]:
        """Names, with or without extension, of what the texts in a folder belong to."""
        names = _names(home)
        media = {name for name in names if os.path.splitext(name)[1].lower() in MEDIA_SUFFIXES}
        own = media | {os.path.splitext(name)[0] for name in media}
        texts = (os.path.splitext(name) for name in _names(folder))
        return frozenset(
            name
            for stem, kind in texts
            if kind.lower() in self._kinds
            for name in _owners(stem, own)
        )


def _owners(stem: str, own: set[str]) -> Iterator[str]:
    """What a text may belong to: the longest name that a recording has, else any."""
    candidates = [stem]
    while _TAG.fullmatch(os.path.splitext(candidates[-1])[1].removeprefix(".")):
        candidates.append(os.path.splitext(candidates[-1])[0])
    first = next((name for name in candidates if name in own), None)
    return iter(candidates if first is None else [first])


def _names(folder: str) -> tuple[str, ...]:
    try:
        return tuple(os.listdir(folder))
    except OSError:
        return ()
