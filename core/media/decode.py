"""Any audio or video file -> mono float32 at one rate, block by block.

A file is judged by its content, never by its name: plain PCM containers go through libsndfile,
all the rest through FFmpeg's libraries. Memory is bounded by a block, not by the
length of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import MediaError
from ..records import Seconds, Waveform
from .blocks import NativeBlock
from .ffmpeg import av_duration, read_av
from .pcm import pcm_duration, read_pcm

if TYPE_CHECKING:
    import soxr

# RIFF, RF64, Wave64, AIFF, Core Audio, Sun: the containers whose PCM libsndfile reads exactly.
_PCM_MAGIC = (b"RIFF", b"RF64", b"riff", b"FORM", b"caff", b".snd")
_PLAUSIBLE_RATES = range(1_000, 1_000_001)
# The leanest sound there is, digital silence in a flac, has hundredths of a second in a byte; what
# claims far more is a header that lies, and would keep the run busy with silence for years.
_SECONDS_PER_BYTE, _SECONDS_FREE, _LONGEST = 0.5, 3600.0, 100 * 3600.0
_ABSURD = 1e6  # float samples beyond this are damage, not sound; they would poison the filter


def decode(
    path: Path, sample_rate: int = 16_000, warn: Callable[[str], None] | None = None
) -> Iterator[Waveform]:
    """Yield the sound of a file as mono blocks of about ten seconds.

    Channels are averaged, non-finite samples become 0, holes that the file's time stamps show are
    filled with silence, so that a sample's place is its time. All blocks together have
    round(n * sample_rate / native rate) samples, within one or two.

    Args:
        path: the file; its extension plays no part.
        sample_rate: Hz of the result.
        warn: called with one line about things that are odd but no loss (a hole without sound).

    Yields:
        float32 arrays of shape (n,), n > 0, nominally in [-1, 1].

    Raises:
        MediaError: at once when nothing can be read; after the last block when the file breaks
            off or has unreadable parts: then everything that can be decoded was yielded before.
            Beyond 100 hours, or half a second a byte and an hour more, a file breaks off.
    """
    resampler = _Resampler(sample_rate)
    error: MediaError | None = None
    blocks = _native_blocks(path, warn)
    try:
        for rate, block in blocks:
            yield from resampler.push(rate, block)
    except MediaError as caught:
        error = caught  # raised below, after what the filter still holds
    yield from resampler.flush()
    if error is not None:
        raise error


def probe_duration(path: Path) -> Seconds | None:
    """Seconds that the file's header declares or lets estimate; None if it is silent on that."""
    try:
        seconds = pcm_duration(path) if _is_pcm(_checked_head(path)) else None
        return seconds if seconds is not None else av_duration(path)
    except MediaError:
        return None


def _native_blocks(path: Path, warn: Callable[[str], None] | None) -> Iterator[NativeBlock]:
    readable_as_pcm = _is_pcm(_checked_head(path)) and pcm_duration(path) is not None
    most = _plausible_seconds(path)
    heard: Seconds = 0.0
    for rate, block in read_pcm(path) if readable_as_pcm else read_av(path, warn):
        if rate not in _PLAUSIBLE_RATES:
            raise MediaError(f"damaged header: a sample rate of {rate} Hz")
        heard += len(block) / rate
        if heard > most:
            why = "more than 100 hours: cut it" if most == _LONGEST else "its header is damaged"
            raise MediaError(f"breaks off at {heard:.0f} s: {why}")
        yield rate, _cleaned(block)


def _plausible_seconds(path: Path) -> Seconds:
    """More than any file of this size holds."""
    try:
        return min(_LONGEST, _SECONDS_FREE + _SECONDS_PER_BYTE * path.stat().st_size)
    except OSError:  # gone meanwhile, which the reader will say
        return _LONGEST


def _checked_head(path: Path) -> bytes:
    """First bytes of a file that can be opened at all."""
    try:
        # a pipe or device would block or never end, so it is refused before it is opened
        if path.is_dir():
            raise MediaError("a folder, not a recording")
        if path.exists() and not path.is_file():
            raise MediaError("not a regular file (a pipe or device); save it to a file first")
        with path.open("rb") as file:
            head = file.read(12)
    except FileNotFoundError:
        raise MediaError("no such file") from None
    except PermissionError:
        raise MediaError("no permission to read it") from None
    except (OSError, ValueError) as error:
        raise MediaError(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    if not head:
        raise MediaError("an empty file")
    return head


def _is_pcm(head: bytes) -> bool:
    return head.startswith(_PCM_MAGIC)


def _cleaned(block: Waveform) -> Waveform:
    sound = np.abs(block) < _ABSURD  # False for NaN too
    return block if bool(sound.all()) else np.where(sound, block, np.float32(0))


class _Resampler:
    """Streaming rate conversion; begins anew when the file's rate changes on the way."""

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
