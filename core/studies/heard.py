"""Recordings are decoded, cut and encoded once for all points of an evaluation.

Points differ in what happens behind the encoder. Up to so many bytes are kept; what finds no room
is heard again each time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..engine.windows import encode
from ..models.base import SpeechLM
from ..models.facts import Encoded, together
from ..reading import Cut, Read
from ..records import Recording, Seconds, Segment

_ROOM = 2 << 30


class Heard:
    """What has been heard so far.

    Args:
        room: bytes of waveforms and audio tokens to keep.
    """

    def __init__(self, room: int = _ROOM) -> None:
        self._left = room
        self._cuts: dict[Hashable, _Kept] = {}
        self._rows: dict[tuple[int, bool], _Row] = {}

    def reader(self, how: Hashable, read: Read) -> Read:
        """Read each recording once.

        Args:
            how: all that decides how a recording is cut.
            read: decodes and cuts one.
        """

        def again(recording: Recording, check: Callable[[], None]) -> Cut:
            name = (how, recording.id, recording.path)
            return self._cuts.get(name) or _Keeping(
                read(recording, check), lambda kept: self._keep_cut(name, kept)
            )

        return again

    def encode(
        self, lm: SpeechLM, segments: Sequence[Segment], scored: bool
    ) -> tuple[Encoded, list[int]]:
        """As `engine.windows.encode`; what an earlier point encoded takes no time."""
        found = [self._rows.get((id(segment.samples), scored)) for segment in segments]
        missing = [segment for segment, row in zip(segments, found, strict=True) if row is None]
        made = iter(self._encoded(lm, missing, scored))
        rows = [row or next(made) for row in found]
        return together([row.encoded for row in rows]), [row.flops for row in rows]

    def _encoded(self, lm: SpeechLM, segments: Sequence[Segment], scored: bool) -> list[_Row]:
        if not segments:
            return []
        encoded, flops = encode(lm, segments, scored)
        rows = [_Row(*one) for one in zip(segments, encoded.rows, flops, strict=True)]
        for row in rows:
            if self._has_room(sum(tokens.nbytes for tokens in row.encoded.tokens)):
                self._rows[id(row.segment.samples), scored] = row
        return rows

    def _keep_cut(self, name: Hashable, kept: _Kept) -> None:
        if self._has_room(sum(segment.samples.nbytes for segment in kept)):
            self._cuts[name] = kept

    def _has_room(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True


class _Row(NamedTuple):
    """A segment behind the encoder; while it is held, no other waveform gets its address."""

    segment: Segment
    encoded: Encoded
    flops: int


class _Keeping:
    """A cut that is kept once it was drawn to its end.

    Args:
        fresh: what decodes and cuts.
        keep: takes the segments, their features left out, with the numbers of this time.
    """

    def __init__(self, fresh: Cut, keep: Callable[[_Kept], None]) -> None:
        self._fresh, self._keep = fresh, keep

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fresh, name)

    def __iter__(self) -> Iterator[Segment]:
        drawn = []
        for segment in self._fresh:
            # features are of no use behind the encoder
            drawn.append(replace(segment, features=()))
            yield segment
        fresh = self._fresh
        self._keep(_Kept(drawn, fresh.audio_s, fresh.load_s, fresh.segment_s, fresh.warnings))


@dataclass(frozen=True, slots=True)
class _Kept:
    """Segments, and the numbers of the time that they were cut."""

    segments: Sequence[Segment]
    audio_s: Seconds
    load_s: Seconds
    segment_s: Seconds
    warnings: tuple[str, ...]

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)
