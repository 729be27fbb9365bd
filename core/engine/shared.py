"""What the tasks of a segment share: it is encoded once, for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ..models.base import SpeechLM
from ..models.facts import Encoded, together
from ..records import Hypothesis, Seconds, Segment
from .job import sound_of
from .windows import Encode

Name = tuple[str, Seconds, Seconds]


class Shared:
    """An encoder that remembers a segment until the last of its tasks is answered.

    So it holds a window of the look-ahead at most. A segment goes by its recording and its times:
    pieces of equal times are equal, however they were cut.

    Args:
        encode: the encoder that remembers nothing.
    """

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._kept: dict[tuple[Name, bool], Encoded] = {}
        self._open: Counter[Name] = Counter()

    def entering(self, segments: Iterable[Segment]) -> Iterator[Segment]:
        """The same segments, whose tasks are counted."""
        for segment in segments:
            self._open[sound_of(segment)] += max(1, len(segment.tasks))
            yield segment

    def leaving(self, answers: Iterable[Hypothesis]) -> Iterator[Hypothesis]:
        """The same answers; what nobody will ask for any more is let go of."""
        for answer in answers:
            name = sound_of(answer)
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]
                for scored in (False, True):
                    self._kept.pop((name, scored), None)
            yield answer

    def encode(
        self, lm: SpeechLM, segments: Sequence[Segment], scored: bool
    ) -> tuple[Encoded, list[int]]:
        """As `windows.encode`; 0 FLOPs for what was known, and for a segment's second time here."""
        names = [(sound_of(segment), scored) for segment in segments]
        new = {
            name: segment
            for name, segment in zip(names, segments, strict=True)
            if name not in self._kept
        }
        spent = dict.fromkeys(names, 0)
        if new:
            made, flops = self._encode(lm, list(new.values()), scored)
            self._kept.update(zip(new, made.rows, strict=True))
            spent.update(zip(new, flops, strict=True))
        heard = together([self._kept[name] for name in names])
        paid = [spent.pop(name, 0) for name in names]
        return replace(heard, flops=paid), paid
