"""Any audio or video file -> mono float32 at one rate, block by block.

A file is judged by its content, never by its name: plain PCM containers go through libsndfile,
all the rest through FFmpeg's libraries. Memory is bounded by a block, not by the
length of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import MediaError
from ..records import Seconds, Waveform
from .blocks import MonoBlock, NativeBlock, one_line
from .channels import mixed
from .chunks import MAGIC
from .ffmpeg import SeveralTracks, av_duration, no_track, read_av
from .levels import levelled
from .listening import Listening
from .parts import parts_of
from .pcm import is_plain, pcm_duration, read_pcm
from .resampling import resampled
from .stretch import Part
from .tracks import LEFT_OUT, best_channel, speaking, together

_PLAUSIBLE_RATES = range(1_000, 1_000_001)
# The leanest sound there is, digital silence in a flac, has hundredths of a second in a byte; what
# claims far more is a header that lies, and would keep the run busy with silence for years.
_SECONDS_PER_BYTE, _SECONDS_FREE, _LONGEST = 0.5, 3600.0, 100 * 3600.0

Warn = Callable[[str], None]
Tick = Callable[[], None]


def decode(
    path: Path,
    sample_rate: int = 16_000,
    warn: Warn | None = None,
    how: Listening | None = None,
    tick: Tick = lambda: None,
) -> Iterator[Waveform]:
    """Yield the sound of a file as mono blocks of about ten seconds.

    Channels are averaged (where they cancel each other out one of them is taken), non-finite
    samples become 0, holes that the file's time stamps show are filled with silence, so that a
    sample's place is its time. What is very quiet is brought up. All blocks together have
    round(n * sample_rate / native rate) samples, within one or two.

    Args:
        path: the file; its extension plays no part.
        sample_rate: Hz of the result.
        warn: called with one line about things that are odd but no loss (a hole without sound),
            that were put right, or that were left out.
        how: which tracks and channels; None = the defaults.
        tick: called while it is at work and has nothing to hand out yet.

    Yields:
        float32 arrays of shape (n,), n > 0, nominally in [-1, 1].

    Raises:
        MediaError: at once when nothing can be read; after the last block when the file breaks
            off or has unreadable parts: then everything that can be decoded was yielded before.
            Beyond 100 hours, or half a second a byte and an hour more, a file breaks off.
    """
    warn, how = warn or _ignore, how or Listening()
    file = _File(path, sample_rate, how.channels, tick, _opened(path, warn, tick))
    if how.track.isdecimal():
        yield from file.heard(int(how.track), warn)
        return
    try:
        yield from file.heard(None, warn)
    except SeveralTracks as found:  # which it says before anything else
        if how.track == "all":
            yield from together([file.heard(number, warn) for number in found.numbers])
        else:
            yield from file.heard(file.speaking(found, warn), warn)


def count_channels(path: Path, how: Listening, tick: Tick = lambda: None) -> int:
    """Channels of the track that is heard of a file; `tick` as for `decode`.

    Raises:
        MediaError: nothing can be read.
    """
    file = _File(path, 0, "mix", tick, _opened(path, _ignore, tick))
    try:
        return file.width(int(how.track) if how.track.isdecimal() else None)
    except SeveralTracks as found:
        return file.width(file.speaking(found, _ignore))


def probe_duration(path: Path, tick: Tick = lambda: None) -> Seconds | None:
    """Seconds that the file's header declares or lets estimate; None if it is silent on that."""
    try:
        found = [_duration(part) for part in _opened(path, _ignore, tick)]
    except MediaError:
        return None
    known = [seconds for seconds in found if seconds is not None]
    return sum(known) if len(known) == len(found) else None


def _duration(part: Part) -> Seconds | None:
    seconds = pcm_duration(part) if _is_pcm(part) else None
    return seconds if seconds is not None else av_duration(part)


@dataclass(frozen=True)
class _File:
    """One file that can be opened, and how it is heard.

    Attributes:
        path: where it lies.
        rate: Hz of what is heard.
        channels: see `Listening`.
        tick: see `decode`.
        parts: of it, one behind the other.
    """

    path: Path
    rate: int
    channels: str
    tick: Tick
    parts: Sequence[Part]

    def heard(self, track: int | None, warn: Warn) -> Iterator[Waveform]:
        """One track as it is handed out; None = the only one.

        Raises:
            SeveralTracks: before anything else, where there is no only one.
        """
        read = partial(self._mono, track, self._channel(track))
        return resampled(levelled(read, warn, self.tick), self.rate)

    def speaking(self, found: SeveralTracks, warn: Warn) -> int:
        """The number of the track to hear, with a word on the others."""
        tracks = [self._mono(number, None, _ignore) for number in found.numbers]
        index = speaking(tracks, found.numbers.index(found.default), self.tick)
        others = [str(number) for at, number in enumerate(found.numbers) if at != index]
        warn(f"{LEFT_OUT}:{','.join(others)}")
        return found.numbers[index]

    def width(self, track: int | None) -> int:
        """Channels of a track, as far as its first sound tells."""
        most = 1
        for _, planes in self._native(track, _ignore):
            most = max(most, len(planes))
            if planes.any():
                break
        return most

    def _channel(self, track: int | None) -> int | None:
        if self.channels == "best":
            return best_channel(self._native(track, _ignore), self.tick)
        return int(self.channels) if self.channels.isdecimal() else None

    def _mono(self, track: int | None, channel: int | None, warn: Warn) -> Iterator[MonoBlock]:
        return mixed(self._native(track, warn), channel, warn)

    def _native(self, track: int | None, warn: Warn) -> Iterator[NativeBlock]:
        """Blocks of all parts; what is wrong with one is said behind the last."""
        most = _plausible_seconds(self.path)
        heard: Seconds = 0.0
        errors: list[MediaError] = []
        for part in self.parts:
            try:
                for rate, planes in _blocks(part, track, warn):
                    heard += planes.shape[1] / rate
                    _check_plausible(rate, heard, most)
                    yield rate, planes
            except MediaError as error:
                errors.append(error)
            except OSError as error:
                errors.append(MediaError(f"cannot be read: {one_line(error)}"))
        if errors:
            raise errors[0]


def _blocks(part: Part, track: int | None, warn: Warn) -> Iterator[NativeBlock]:
    if not (_is_pcm(part) and is_plain(part)):
        return read_av(part, warn, track)
    if track not in (None, 1):
        raise MediaError(no_track(track, 1))
    return read_pcm(part)


def _check_plausible(rate: int, heard: Seconds, most: Seconds) -> None:
    if rate not in _PLAUSIBLE_RATES:
        raise MediaError(f"damaged header: a sample rate of {rate} Hz")
    if heard > most:
        why = "more than 100 hours: cut it" if most == _LONGEST else "its header is damaged"
        raise MediaError(f"breaks off at {heard:.0f} s: {why}")


def _plausible_seconds(path: Path) -> Seconds:
    """More than any file of this size holds."""
    try:
        return min(_LONGEST, _SECONDS_FREE + _SECONDS_PER_BYTE * path.stat().st_size)
    except OSError:  # gone meanwhile, which the reader will say
        return _LONGEST


def _opened(path: Path, warn: Warn, tick: Tick) -> list[Part]:
    """The recordings in a file that can be opened at all."""
    try:
        # a pipe or device would block or never end, so it is refused before it is opened
        if path.is_dir():
            raise MediaError("a folder, not a recording")
        if path.exists() and not path.is_file():
            raise MediaError("not a regular file (a pipe or device); save it to a file first")
        if not path.stat().st_size:
            raise MediaError("an empty file")
        return parts_of(path, warn, tick)
    except FileNotFoundError:
        raise MediaError("no such file") from None
    except PermissionError:
        raise MediaError("no permission to read it") from None
    except (OSError, ValueError) as error:
        raise MediaError(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from None


def _is_pcm(part: Part) -> bool:
    with part.open() as file:
        return file.read(4) in MAGIC


def _ignore(text: str) -> None:
    """A remark that another reading of the same makes too."""
