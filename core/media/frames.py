"""From FFmpeg's small frames to blocks of some seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..records import Seconds
from .blocks import BLOCK_SECONDS, BLOCK_VALUES, NativeBlock, Planes

_SAFE_PLANES = 8


def silence(seconds: Seconds, rate: int) -> Iterator[NativeBlock]:
    """Zeros of that length, in parts no longer than a block."""
    left = round(seconds * rate)
    while left > 0:
        size = min(left, BLOCK_SECONDS * rate)
        yield rate, np.zeros((1, size), np.float32)
        left -= size


class Unpacker:
    """Samples of frames as (channels, n) arrays.

    PyAV counts a frame's planes up to the first null pointer, which is missing from eight on: it
    reads past the end and crashes. Such frames are packed into a single plane first.
    """

    def __init__(self) -> None:
        """For the frames of one track."""
        self._pack: Any = None
        self._kind: tuple[object, ...] = ()

    def of(self, frame: Any) -> Planes:
        """The samples of an `av.AudioFrame`."""
        channels = frame.layout.nb_channels
        if not frame.format.is_planar:
            return _unpacked(frame, channels)
        if channels < _SAFE_PLANES:
            array: Planes = frame.to_ndarray()
            return array
        packed = [_unpacked(part, channels) for part in self._packer(frame).resample(frame)]
        return np.concatenate(packed, axis=1)

    def _packer(self, frame: Any) -> Any:
        import av

        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:
            self._pack, self._kind = av.AudioResampler(format=frame.format.packed), kind
        return self._pack


def _unpacked(frame: Any, channels: int) -> Planes:
    array: Planes = frame.to_ndarray()
    return array.reshape(-1, channels).T


def join(parts: Iterable[NativeBlock]) -> Iterator[NativeBlock]:
    """Thousands of small frames put together to blocks of one rate and channel count."""
    held: list[Planes] = []
    kind: tuple[int, int, np.dtype[Any]] | None = None
    size = 0
    for rate, planes in parts:
        this = (rate, len(planes), planes.dtype)
        full = size >= BLOCK_SECONDS * rate or size * len(planes) >= BLOCK_VALUES
        if held and kind is not None and (this != kind or full):
            yield kind[0], np.concatenate(held, axis=1)
            held, size = [], 0
        kind = this
        held.append(planes)
        size += planes.shape[1]
    if held and kind is not None:
        yield kind[0], np.concatenate(held, axis=1)
