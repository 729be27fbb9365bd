"""How loud a recording is, and what brings it to where detector and model work.

Most recordings are decided by their first block and are not touched. What is very quiet, or has
samples in the scale of integers, is read to its end before anything of it is handed out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import MediaError
from ..records import Seconds, Waveform
from .blocks import MonoBlock

WINDOW: Seconds = 0.1
QUIET, TARGET = -50.0, -25.0
"""dB: what is quieter is brought up, and to where. A level is that of the loudest second."""
_SILENT = -125.0  # dB; less is no sound
_IMPOSSIBLE = 6.0  # dB; more is no sound in [-1, 1]
_STEADY = 3.0  # dB from quiet to loud of a noise that is none of anybody's speech
_SPREAD = 6.0  # dB by which speech stands out
_LOWEST, _HIGHEST = -130, 200  # dB, ends of the histogram
_LOUDEST = 10  # windows that a click does not fill
_SCALES = (15, 23, 31)  # bits, without the sign
_OFTEN, _OFTEN_LATE = 0.05, 0.3  # of a recording, of a block: a few broken samples are no scale
_LOUD_POWER = 10 ** (_IMPOSSIBLE / 10)
_ABSURD = 1e6  # samples beyond this are damage, not sound; they would poison the filter
_HELD = 1 << 22  # samples kept while it is not decided; what is longer is read again


class Meter:
    """Counts windows of sound by their level; its size does not depend on their number."""

    def __init__(self) -> None:
        """Nothing is heard yet."""
        self._counts = np.zeros(_HIGHEST - _LOWEST, np.int64)

    def add(self, rate: int, block: Waveform) -> None:
        """Hear a block of mono samples."""
        size = max(1, round(WINDOW * rate))
        whole = len(block) // size * size
        windows = block[:whole].reshape(-1, size)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            power = np.einsum("wn,wn->w", windows, windows, dtype=np.float64) / size
            levels = 10 * np.log10(power[np.isfinite(power)])
        bins = np.clip(np.floor(levels), _LOWEST, _HIGHEST - 1).astype(np.int64) - _LOWEST
        self._counts += np.bincount(bins, minlength=len(self._counts))

    @property
    def seconds(self) -> Seconds:
        """How much was heard."""
        return float(self._counts.sum()) * WINDOW

    def loud(self) -> float:
        """dB that the loudest second reaches; of a short recording some tenths of a second."""
        number = int(self._counts.sum())
        return self._from_top(min(number, max(3, min(_LOUDEST, number // 20))))

    def quiet(self) -> float:
        """dB that a fifth of it stays under."""
        return _fifth(self._counts)

    def reached(self, decibel: float) -> Seconds:
        """Seconds that are as loud."""
        return float(self._counts[max(0, int(decibel) - _LOWEST) :].sum()) * WINDOW

    def spoken(self) -> Seconds:
        """Seconds that stand out from the recording's own quiet, as speech does."""
        sounding = self._counts.copy()
        sounding[0] = 0  # digital silence
        return self.reached(_fifth(sounding) + _SPREAD)

    def _from_top(self, number: int) -> float:
        above = np.cumsum(self._counts[::-1])
        at = np.searchsorted(above, [max(1, number)])[0]
        return max(float(_LOWEST), float(_HIGHEST - 1 - at))


def _fifth(counts: npt.NDArray[np.int64]) -> float:
    """dB that the quietest fifth of the counted windows stays under."""
    below = np.cumsum(counts)
    fifth = np.searchsorted(below, [max(1.0, 0.2 * float(below[-1]))])
    return float(_LOWEST + fifth[0])


@dataclass(frozen=True, slots=True)
class Correction:
    """What brings a recording to where it should be.

    Attributes:
        factor: that its samples are multiplied by.
        said: the warnings that tell of it.
    """

    factor: float = 1.0
    said: tuple[str, ...] = ()

    def of(self, block: Waveform) -> Waveform:
        """The samples, corrected and cleaned."""
        if self.factor == 1.0:
            return _cleaned(block)
        block = _cleaned((block * np.float64(self.factor)).astype(np.float32))
        return np.clip(block, -1.0, 1.0) if self.factor > 1.0 else block


def correction(meter: Meter) -> Correction:
    """What a recording needs, of which all or enough was heard."""
    level, said, factor = meter.loud(), [], 1.0
    if bits := _bits(meter):
        said.append(f"scale_int{bits + 1}")
        level -= 6.02 * bits
        factor = 2.0**-bits
    spread = meter.loud() - meter.quiet()
    if _SILENT < level < QUIET and spread > _STEADY:
        said.append(f"quiet_sound:{level:.0f}dB")
        factor *= 10 ** ((TARGET - level) / 20)
    return Correction(factor, tuple(said))


def _bits(meter: Meter, often: float = _OFTEN) -> int:
    """Of the integers in whose scale the samples are; 0 when they are in [-1, 1]."""
    level = meter.loud()
    if level <= _IMPOSSIBLE or meter.reached(_IMPOSSIBLE) < often * meter.reached(_SILENT):
        return 0
    return next((bits for bits in _SCALES if level <= 6.02 * bits), 0)


def levelled(
    read: Callable[[Callable[[str], None]], Iterator[MonoBlock]],
    warn: Callable[[str], None],
    tick: Callable[[], None],
) -> Iterator[MonoBlock]:
    """Blocks of a recording, at a level to work with.

    Args:
        read: begins to read it, with a function that takes its remarks.
        warn: told those remarks, and what was done.
        tick: called at every block that is heard and not handed out yet.

    Raises:
        MediaError: as `read`, behind the last block.
    """
    ahead = _Ahead(read)
    ahead.listen(tick)
    found = Correction() if ahead.normal else correction(ahead.meter)
    for text in found.said:
        warn(text)
    blocks = read(warn) if ahead.dropped else ahead.all(warn)
    for rate, block in blocks:
        found = found if found.said else _late(rate, block, warn)
        yield rate, found.of(block)


def _late(rate: int, block: Waveform, warn: Callable[[str], None]) -> Correction:
    """The scale of integers, where it shows in the middle of a recording."""
    with np.errstate(over="ignore", invalid="ignore"):
        if not float(np.dot(block, block)) > _LOUD_POWER * len(block):
            return Correction()
    meter = Meter()
    meter.add(rate, block)
    if bits := _bits(meter, _OFTEN_LATE):
        warn(f"scale_int{bits + 1}")
        return Correction(2.0**-bits, (f"scale_int{bits + 1}",))
    return Correction()


class _Ahead:
    """The beginning of a recording, heard until it is known to be like most.

    Attributes:
        blocks: what comes behind it.
        meter: has heard it.
        normal: it needs nothing.
        dropped: it was too long to be kept.
    """

    def __init__(self, read: Callable[[Callable[[str], None]], Iterator[MonoBlock]]) -> None:
        self._notes: list[str] = []
        self.blocks = read(self._notes.append)
        self.meter = Meter()
        self.normal = self.dropped = False
        self._held: list[MonoBlock] = []
        self._samples = 0
        self._error: MediaError | None = None

    def listen(self, tick: Callable[[], None]) -> None:
        """Hear as much as it takes."""
        try:
            for rate, block in self.blocks:
                self.meter.add(rate, block)
                self._keep(rate, block)
                tick()
                enough = self.meter.reached(QUIET) >= _LOUDEST * WINDOW
                self.normal = enough and self.meter.loud() <= _IMPOSSIBLE
                if self.normal:
                    return
        except MediaError as caught:
            self._error = caught

    def _keep(self, rate: int, block: Waveform) -> None:
        self._samples += len(block)
        self.dropped = self._samples > _HELD
        self._held = [] if self.dropped else [*self._held, (rate, block)]

    def all(self, warn: Callable[[str], None]) -> Iterator[MonoBlock]:
        """What was kept and what comes behind it."""
        yield from self._held
        self._held = []
        try:
            yield from self.blocks
        except MediaError as caught:
            self._error = caught
        for text in self._notes:
            warn(text)
        if self._error is not None:
            raise self._error


def _cleaned(block: Waveform) -> Waveform:
    sound = np.abs(block) < _ABSURD  # False for NaN too
    return block if bool(sound.all()) else np.where(sound, block, np.float32(0))
