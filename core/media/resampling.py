"""Streaming rate conversion, also where a file's rate changes on the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..errors import MediaError
from ..records import Waveform
from .blocks import MonoBlock

if TYPE_CHECKING:
    import soxr


def resampled(blocks: Iterator[MonoBlock], sample_rate: int) -> Iterator[Waveform]:
    """Blocks at one rate.

    Args:
        blocks: mono, each with its rate.
        sample_rate: Hz of the result.

    Raises:
        MediaError: as `blocks`, behind what the filter still held.
    """
    resampler = _Resampler(sample_rate)
    error: MediaError | None = None
    try:
        for rate, block in blocks:
            yield from resampler.push(rate, block)
    except MediaError as caught:
        error = caught  # raised below, after what the filter still holds
    yield from resampler.flush()
    if error is not None:
        raise error


class _Resampler:
    """Begins anew when the rate changes."""

    def __init__(self, sample_rate: int) -> None:
        self._target = sample_rate
        self._rate = sample_rate
        self._stream: soxr.ResampleStream | None = None

    def push(self, rate: int, block: Waveform) -> Iterator[Waveform]:
        if rate != self._rate:
            yield from self.flush()
            self._rate = rate
        same = rate == self._target
        out = block if same else self._open().resample_chunk(block, last=False)
        if len(out):
            yield out

    def flush(self) -> Iterator[Waveform]:
        """The filter's tail: without it the last 20-40 ms of every file are lost."""
        if self._stream is None:
            return
        tail: Waveform = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        self._stream = None
        if len(tail):
            yield tail

    def _open(self) -> soxr.ResampleStream:
        if self._stream is None:
            import soxr

            self._stream = soxr.ResampleStream(
                self._rate, self._target, 1, dtype="float32", quality="HQ"
            )
        return self._stream
