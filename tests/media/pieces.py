"""Recordings of tone and silence, their pieces, and a detector that takes a tone for speech."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from core.media.segment import Cutting, Segmenter
from core.records import Segment, Waveform

from .sounds import tone

RATE = 16_000
FRAME = 512


class LoudIsSpeech:
    """Stands in for the voice detector: 1 for a loud frame, 0 for a quiet one."""

    def __init__(self, sample_rate: int) -> None:
        self._size = FRAME * sample_rate // RATE
        self._held = np.zeros(0, np.float32)

    def push(self, block: Waveform) -> list[float]:
        self._held = np.concatenate((self._held, block))
        whole = len(self._held) // self._size * self._size
        frames, self._held = np.split(self._held, [whole])
        return [float(np.abs(f).max() > 0.01) for f in frames.reshape(-1, self._size)]

    def finish(self) -> list[float]:
        return [float(np.abs(self._held).max() > 0.01)] if len(self._held) else []


def sound(*parts: tuple[float, bool], rate: int = RATE) -> Waveform:
    """Tone and silence by turns: (seconds, loud)."""
    return np.concatenate([tone(s, rate) * loud for s, loud in parts]).astype(np.float32)


def split(samples: Waveform, size: int) -> Iterator[Waveform]:
    return (samples[at : at + size] for at in range(0, len(samples), size))


def spans(pieces: list[Segment]) -> list[tuple[float, float]]:
    return [(round(piece.start, 3), round(piece.end, 3)) for piece in pieces]


def cut(samples: Waveform, *, size: int = RATE * 10, **how: object) -> list[Segment]:
    return list(Segmenter(split(samples, size), "r", Cutting(**how)))  # type: ignore[arg-type]


def check(pieces: list[Segment], samples: Waveform, window: float) -> None:
    """What holds for any cutting."""
    assert [piece.index for piece in pieces] == list(range(len(pieces)))
    for piece in pieces:
        first = round(piece.start * RATE)
        assert np.array_equal(piece.samples, samples[first : first + len(piece.samples)])
        assert 0 < len(piece.samples) <= window * RATE
    for one, two in pairwise(pieces):
        assert one.end <= two.start + 1e-9


def uncovered(pieces: list[Segment], samples: Waveform) -> Waveform:
    """What is left of the recording when the pieces are taken out of it."""
    rest = samples.copy()
    for piece in pieces:
        first = round(piece.start * RATE)
        rest[first : first + len(piece.samples)] = 0
    return rest
