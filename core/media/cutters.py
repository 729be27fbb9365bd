"""The three ways to cut: at silences, every so many seconds, not at all.

A cutter sees the blocks as they come and says which stretches of the recording are settled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np

from ..errors import MediaError, UsageError
from ..records import Seconds, Waveform
from .vad import FRAME_SECONDS, SpeechProbabilities

Mode = Literal["vad", "fixed", "whole"]
SHORTEST = 0.025  # seconds: one frame of a spectrogram; less is no sound to any model
_SILENT = 1e-4  # peak of digital silence and its dither, -80 dB


class Stretch(NamedTuple):
    """A part of a recording in samples: its first, one past its last, the same of its speech."""

    start: int
    end: int
    speech: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Cutting:
    """How to cut.

    Attributes:
        mode: `vad` at silences, `fixed` every `window` seconds, `whole` not at all.
        window: longest piece in seconds; None (only for `whole`) is no limit.
        target: `vad` joins neighbours up to so many seconds (default: the window).
        sample_rate: Hz of the blocks.
        threshold: probability from which a frame is speech; it stays speech down to 0.15 below.
        min_silence: seconds of silence that end a stretch of speech.
        min_speech: seconds below which a stretch is a click, not speech.
        pad: seconds of sound kept around speech, at most half of `min_silence`.
        longest_pause: seconds of silence over which `vad` joins no neighbours: a subtitle would
            stay, and a model is told of sound where there is none.
    """

    mode: Mode = "vad"
    window: Seconds | None = 30.0
    target: Seconds | None = None
    sample_rate: int = 16_000
    threshold: float = 0.5
    min_silence: Seconds = 0.3
    min_speech: Seconds = 0.1
    pad: Seconds = 0.15
    longest_pause: Seconds = 2.0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, with a UsageError."""
        if self.mode not in ("vad", "fixed", "whole"):
            raise UsageError(f"unknown mode {self.mode!r}: choose vad, fixed or whole")
        if self.mode != "whole" and (self.window is None or self.window < 1):
            raise UsageError(f"mode {self.mode} needs a window of at least 1 second")
        if self.pad * 2 > self.min_silence:
            raise UsageError("pad can be half of min_silence at most, or pieces would overlap")


class Tape:
    """The stretch of a recording that may still be needed, addressed from its beginning."""

    def __init__(self) -> None:
        """An empty tape; `start` and `end` are the samples that it holds."""
        self._blocks: deque[Waveform] = deque()
        self.start = 0
        self.end = 0

    def append(self, block: Waveform) -> None:
        """Put a block behind the last."""
        self._blocks.append(block)
        self.end += len(block)

    def copy(self, start: int, end: int) -> Waveform:
        """Samples [start, end) as far as they are there, in memory of their own."""
        parts: list[Waveform] = []
        at = self.start
        for block in self._blocks:
            if at < end and at + len(block) > start:
                parts.append(block[max(0, start - at) : end - at])
            at += len(block)
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def drop(self, before: int) -> None:
        """Forget the blocks that end at or before a sample."""
        while self._blocks and self.start + len(self._blocks[0]) <= before:
            self.start += len(self._blocks.popleft())


class Cutter(Protocol):
    """Decides where to cut."""

    @property
    def needs_from(self) -> int:
        """First sample that may still be asked for or given to a piece."""

    def push(self, block: Waveform, tape: Tape) -> Iterator[Stretch]:
        """Pieces that are settled now that the block is at the end of the tape."""

    def finish(self, tape: Tape) -> Iterator[Stretch]:
        """The remaining pieces."""


def cutter_for(cutting: Cutting) -> Cutter:
    """The cutter of a mode, for one recording."""
    if cutting.mode == "vad":
        return _AtSilences(cutting)
    return _Fixed(cutting) if cutting.mode == "fixed" else _Whole(cutting)


class _Fixed:
    """Pieces of exactly the window; the last is what is left."""

    def __init__(self, cutting: Cutting) -> None:
        self.needs_from = 0
        self._shortest = SHORTEST * cutting.sample_rate
        self._size = round((cutting.window or 0) * cutting.sample_rate)

    def push(self, block: Waveform, tape: Tape) -> Iterator[Stretch]:
        while tape.end - self.needs_from >= self._size:
            yield from self._take(self.needs_from + self._size, tape)

    def finish(self, tape: Tape) -> Iterator[Stretch]:
        if tape.end - self.needs_from >= self._shortest:
            yield from self._take(tape.end, tape)

    def _take(self, end: int, tape: Tape) -> Iterator[Stretch]:
        start, self.needs_from = self.needs_from, end
        if np.abs(tape.copy(start, end)).max() > _SILENT:
            yield Stretch(start, end, ((start, end),))


class _Whole:
    """One piece, refused as soon as it outgrows the window."""

    def __init__(self, cutting: Cutting) -> None:
        self.needs_from = 0
        self._window = cutting.window
        self._rate = cutting.sample_rate

    def push(self, block: Waveform, tape: Tape) -> Iterator[Stretch]:
        if self._window is not None and tape.end > round(self._window * self._rate):
            raise MediaError(
                f"longer than the {self._window:g} s that fit in one prompt: use --segment vad"
            )
        yield from ()

    def finish(self, tape: Tape) -> Iterator[Stretch]:
        if np.abs(tape.copy(0, tape.end)).max() > _SILENT:
            yield Stretch(0, tape.end, ((0, tape.end),))


class _AtSilences:
    """Stretches of speech, joined up to the target and cut where they outgrow the window.

    Every decision waits until it cannot change any more and looks at 32 ms frames only, so the
    pieces do not depend on how the recording comes in blocks.
    """

    def __init__(self, cutting: Cutting) -> None:
        rate, window = cutting.sample_rate, cutting.window or 0
        self._probabilities = SpeechProbabilities(rate)
        self._rate = rate
        self._on = cutting.threshold
        self._off = max(cutting.threshold - 0.15, 0.01)
        self._window = round(window * rate)
        self._target = round(min(cutting.target or window, window) * rate)
        self._min_silence = round(cutting.min_silence * rate)
        self._min_speech = round(cutting.min_speech * rate)
        self._pad = round(cutting.pad * rate)
        self._longest_pause = round(cutting.longest_pause * rate)
        self._frames = 0
        self._start: int | None = None  # of the open stretch, without padding
        self._heard = 0  # its last sample of speech so far, plus one
        self._pausing = False
        self._pending: Stretch | None = None  # joined stretches that may still grow
        self._free_from = 0  # end of what was given to a piece

    @property
    def needs_from(self) -> int:
        """Start of the piece in the making, or as much of the past as padding could want."""
        if self._pending is not None:
            return self._pending.start
        return self._padded_start(self._frame_start() if self._start is None else self._start)

    def push(self, block: Waveform, tape: Tape) -> Iterator[Stretch]:
        for probability in self._probabilities.push(block):
            yield from self._frame(probability, tape)

    def finish(self, tape: Tape) -> Iterator[Stretch]:
        for probability in self._probabilities.finish():
            yield from self._frame(probability, tape)
        if self._start is not None:
            yield from self._close()
        yield from self._release()

    def _frame_start(self) -> int:
        return round(self._frames * FRAME_SECONDS * self._rate)

    def _padded_start(self, start: int) -> int:
        return max(self._free_from, start - self._pad)

    def _frame(self, probability: float, tape: Tape) -> Iterator[Stretch]:
        start = self._frame_start()
        self._frames += 1
        end = min(self._frame_start(), tape.end)
        in_speech = self._start is not None and not self._pausing
        if probability >= (self._off if in_speech else self._on):
            self._start = start if self._start is None else self._start
            self._heard, self._pausing = end, False
            yield from self._outgrown(self._start, tape)
        elif self._start is not None:
            self._pausing = True
            if end - self._heard >= self._min_silence:
                yield from self._close()
        elif not self._joins(end, end):
            yield from self._release()  # whatever comes is too far away to be joined

    def _outgrown(self, start: int, tape: Tape) -> Iterator[Stretch]:
        """Cut the open stretch when it is longer than the window for certain."""
        start = self._padded_start(start)
        if self._heard - start <= self._window:
            return
        yield from self._release()
        cut = start + _quietest(tape.copy(start, start + self._window), self._rate)
        yield Stretch(start, cut, ((self._start or 0, cut),))
        self._start = self._free_from = cut

    def _close(self) -> Iterator[Stretch]:
        """The open stretch has ended: join it to the pending piece or begin a new one."""
        assert self._start is not None
        begun, self._start, self._pausing = self._start, None, False
        rest_of_longer = begun == self._free_from > 0
        if self._heard - begun < self._min_speech and not rest_of_longer:
            return
        speech: tuple[tuple[int, int], ...] = ((begun, self._heard),)
        start = self._padded_start(begun)
        # padding gives way to the window, speech never does
        end = min(self._heard + self._pad, start + self._window)
        if not self._joins(begun, end):
            yield from self._release()
        if self._pending is not None:
            start, speech = self._pending.start, self._pending.speech + speech
        self._pending = Stretch(start, end, speech)
        self._free_from = end

    def _joins(self, begun: int, end: int) -> bool:
        """Whether speech that begins there may be joined to the pending piece, if there is one."""
        if self._pending is None:
            return True
        pause = begun - self._pending.speech[-1][1]
        return pause <= self._longest_pause and end - self._pending.start <= self._target

    def _release(self) -> Iterator[Stretch]:
        if self._pending is not None:
            yield self._pending
        self._pending = None


def _quietest(samples: Waveform, rate: int) -> int:
    """Middle of the quietest 100 ms in the last third, leaving a tail worth hearing (0.5 s)."""
    size, hop = rate // 10, rate // 100
    power = np.concatenate(([0.0], np.cumsum(np.square(samples, dtype=np.float64))))
    first = len(samples) * 2 // 3
    last = len(samples) - max(size, min(rate // 2, len(samples) // 10))
    starts = np.arange(first, last, hop)
    energy = power[starts + size] - power[starts]
    latest = len(energy) - 1 - int(np.argmin(energy[::-1]))  # of equals the last: longer pieces
    return int(starts[latest]) + size // 2
