"""Which of several audio tracks is heard, or how all of them are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import numpy as np

from ..errors import MediaError
from ..records import Seconds, Waveform
from .blocks import MonoBlock, NativeBlock, mono
from .levels import QUIET, Meter

LEFT_OUT = "audio_tracks_left_out"
"""The warning that names, by their numbers, the tracks that were not heard."""
_ALIVE: Seconds = 5.0  # of speech in the default track: the others need not be asked
_LESS, _QUIETER = 0.1, 20.0  # share of another's speech, dB: what is below counts as silent


def speaking(tracks: Sequence[Iterator[MonoBlock]], default: int, tick: Callable[[], None]) -> int:
    """Index of the track to hear: the default one unless it is silent and another is not.

    Args:
        tracks: all of them; read side by side, up to where it is clear.
        default: index of the container's own choice.
        tick: called at every block.
    """
    meters = [Meter() for _ in tracks]
    for blocks in zip(*map(_to_the_end, tracks), strict=False):
        for meter, block in zip(meters, blocks, strict=True):
            if block is not None:
                meter.add(*block)
        tick()
        if meters[default].spoken() >= _ALIVE and meters[default].loud() >= QUIET:
            return default
        if all(block is None for block in blocks):
            break
    best = most_spoken(meters)
    own, other = meters[default], meters[best]
    alive = own.spoken() >= _LESS * other.spoken() and own.loud() >= other.loud() - _QUIETER
    return default if alive else best


def most_spoken(meters: Sequence[Meter]) -> int:
    """Index of the one with most speech; of those with about as much the loudest."""
    most = max(meter.spoken() for meter in meters)
    able = [i for i, meter in enumerate(meters) if meter.spoken() >= most / 2]
    return max(able, key=lambda i: (meters[i].loud(), -i))


def _to_the_end(blocks: Iterator[MonoBlock]) -> Iterator[MonoBlock | None]:
    """Blocks, then None for ever; what breaks off will say so when it is read in earnest."""
    with suppress(MediaError):
        yield from blocks
    while True:
        yield None


def best_channel(blocks: Iterator[NativeBlock], tick: Callable[[], None]) -> int | None:
    """Number of the channel with most speech, from 1; None for mono. Reads it all."""
    meters: list[Meter] = []
    try:
        for rate, planes in blocks:
            if not meters and len(planes) == 1 and planes.any():
                return None
            meters += [Meter() for _ in range(len(planes) - len(meters))]
            for number, meter in enumerate(meters):
                at = min(number, len(planes) - 1)
                meter.add(rate, mono(planes[at : at + 1]))
            tick()
    except MediaError:
        pass  # said when it is read in earnest
    return most_spoken(meters) + 1 if meters else None


def together(tracks: Sequence[Iterator[Waveform]]) -> Iterator[Waveform]:
    """The mean of tracks of one rate, which begin together; it is as long as the longest.

    Raises:
        MediaError: the first that a track raised, behind the last block.
    """
    held = [np.zeros(0, np.float32) for _ in tracks]
    open_ = set(range(len(tracks)))
    errors: list[MediaError] = []
    while open_:
        for number in sorted(open_):
            if not len(held[number]):
                block = _next(tracks[number], errors)
                held[number] = np.zeros(0, np.float32) if block is None else block
                if block is None:
                    open_.discard(number)
        size = min((len(held[number]) for number in open_), default=0)
        if size:
            total = sum(one[:size] for one in held if len(one))
            yield np.asarray(total, np.float32) / np.float32(len(tracks))
            held = [one[size:] for one in held]
    if errors:
        raise errors[0]


def _next(blocks: Iterator[Waveform], errors: list[MediaError]) -> Waveform | None:
    try:
        return next(blocks, None)
    except MediaError as error:
        errors.append(error)
        return None
