"""From channels to the one waveform that is heard.

The mean of channels that say the same the other way round is nothing: half a pair of wires swapped
is all that it takes. There the better channel is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from ..errors import MediaError
from ..records import Seconds, Waveform
from .blocks import MonoBlock, NativeBlock, Planes, mono, scaled

_Power = npt.NDArray[np.float64]

ANTIPHASE = "antiphase_channels"
"""The warning where channels cancelled each other out."""
_WINDOW: Seconds = 0.1
_SAMPLED = 6_000  # Hz: enough samples to know a stretch's power by
_CANCELLED = 0.2  # of the power that the mean of unrelated channels has
_AUDIBLE = 1e-12  # power, -120 dB
_WORTH_TELLING: Seconds = 1.0


def mixed(
    blocks: Iterator[NativeBlock], channel: int | None, warn: Callable[[str], None]
) -> Iterator[MonoBlock]:
    """Mono blocks of those of a track.

    Args:
        blocks: as they are decoded.
        channel: its number, from 1; None = the mean of all.
        warn: told `ANTIPHASE` at the end, if so.

    Raises:
        MediaError: there is no channel of that number; and what `blocks` raises.
    """
    if channel is not None:
        yield from _only(blocks, channel)
        return
    mixer = _Mixer()
    error: MediaError | None = None
    try:
        for rate, planes in blocks:
            yield rate, mono(planes) if len(planes) == 1 else mixer.mean(rate, planes)
    except MediaError as caught:
        error = caught
    if mixer.replaced >= _WORTH_TELLING:
        warn(ANTIPHASE)
    if error is not None:
        raise error


def _only(blocks: Iterator[NativeBlock], channel: int) -> Iterator[MonoBlock]:
    most = 1
    for rate, planes in blocks:
        most = max(most, len(planes))
        if channel > most and planes.any():
            raise MediaError(f"no channel {channel}: it has {most}; leave out --channels")
        # a part of it in mono, or a hole, is the same in all channels
        at = min(channel, len(planes)) - 1
        yield rate, mono(planes[at : at + 1])


class _Mixer:
    """The mean of several channels.

    Attributes:
        replaced: seconds of it in which one channel stands for all.
    """

    def __init__(self) -> None:
        self.replaced: Seconds = 0.0
        self._power: _Power = np.zeros(0)

    def mean(self, rate: int, planes: Planes) -> Waveform:
        """The mean, but for stretches in which that is much quieter than the channels."""
        mean = mono(planes)
        step = max(1, rate // _SAMPLED)
        size = max(1, round(_WINDOW * rate / step)) * step
        starts = np.arange(0, planes.shape[1], size)
        sampled = np.ascontiguousarray(planes[:, ::step])
        power = _power(scaled(sampled, planes.dtype), starts // step)
        left = _power(mean[::step], starts // step) * len(planes)
        cancelled = (left < _CANCELLED * power.mean(axis=0)) & (power.max(axis=0) > _AUDIBLE)
        if cancelled.any():
            if len(self._power) != len(planes):
                self._power = np.zeros(len(planes))
            self._power += power[:, cancelled].sum(axis=1)
            better = int(np.argmax(self._power))
            for start in starts[cancelled]:
                there = slice(start, start + size)
                mean[there] = mono(planes[better : better + 1, there])
            self.replaced += float(cancelled.sum()) * size / rate
        return mean


def _power(samples: npt.NDArray[np.float32], starts: npt.NDArray[np.int_]) -> _Power:
    """Mean square of each stretch that begins at one of `starts`, along the last axis."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.add.reduceat(np.square(samples), starts, axis=-1)
    power: _Power = total / np.diff(starts, append=samples.shape[-1])
    return power
