"""Any container and codec through FFmpeg's libraries (PyAV), with the time stamps as the judge.

FFmpeg drops what it cannot read without a word; what is missing shows in the time stamps and in
the length that the header declares. Holes become silence, so that a sample's place is its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..errors import MediaError
from ..records import Seconds
from . import claims, flac, matroska
from .blocks import NativeBlock, one_line
from .frames import Unpacker, join, silence
from .judging import GAP, Progress
from .opening import opened
from .stretch import Part

_LONGEST_GAP = 3600.0  # believed in a file that declares no length


class SeveralTracks(Exception):
    """A container has more than one audio track.

    Attributes:
        numbers: of those that can be decoded, from 1.
        default: the number of the one that the container prefers.
    """

    def __init__(self, numbers: tuple[int, ...], default: int) -> None:
        """Somebody has to choose."""
        super().__init__()
        self.numbers, self.default = numbers, default


def av_duration(part: Part) -> Seconds | None:
    """Seconds that FFmpeg reads from the header or estimates."""
    with opened(part) as container:
        stream = audio_stream(container)
        own = claims.stream_end(container, stream)
        return own or claims.container_end(container)


def read_av(
    part: Part, warn: Callable[[str], None] | None = None, track: int | None = None
) -> Iterator[NativeBlock]:
    """Blocks of an audio track; MediaError at the end when something of it is missing.

    Args:
        part: what to read.
        warn: called with one line about what is odd but no loss.
        track: its number, from 1; None = the only one.

    Raises:
        SeveralTracks: before the first block, where there is no only one.
    """
    with opened(part) as container:
        if track is None:
            _check_only(container)
        stream = audio_stream(container, track)
        state = Progress(claims.kind_of(container), stream.codec_context.name)
        state.declared, state.alone = claims.declared(part, container, stream)
        state.late = claims.started(container)
        yield from join(_in_time(_frames(container, stream, state), container, state))
    _look_again(part, state, stream.rate)
    if verdict := state.verdict():
        raise MediaError(verdict)
    if warn is not None and (remark := state.remark()):
        warn(remark)


def _look_again(part: Part, state: Progress, rate: int) -> None:
    """Ask the bytes about what time stamps leave open."""
    with part.open() as file:
        if state.kind == "ogg" and claims.ogg_is_cut(file):
            state.broken = state.broken or "the file ends inside a page"
        if state.kind == "matroska" and state.short:
            state.whole = matroska.is_whole(file)
        if state.kind == "flac" and state.short:
            first = flac.first_sample(file)
            begins = first is not None and abs(first / rate - state.late) <= GAP
            state.whole = begins and flac.ends_whole(file)


def _check_only(container: Any) -> None:
    best = container.streams.best("audio")
    tracks = enumerate(container.streams.audio, start=1)
    able = {one.index: number for number, one in tracks if one.codec_context is not None}
    if len(able) > 1 and best is not None and best.index in able:
        raise SeveralTracks(tuple(able.values()), able[best.index])


def audio_stream(container: Any, track: int | None = None) -> Any:
    """The audio track of a number, or the default one.

    Raises:
        MediaError: there is none, or nothing that decodes it.
    """
    tracks = container.streams.audio
    if track is None:
        stream = container.streams.best("audio")
    elif track <= len(tracks):
        stream = tracks[track - 1]
    else:
        raise MediaError(no_track(track, len(tracks)))
    if stream is None:
        found = "a video without an audio track" if container.streams.video else "no audio in it"
        raise MediaError(found)
    if stream.codec_context is None:
        raise MediaError("an audio track in a codec that cannot be decoded")
    return stream


def no_track(track: int, number: int) -> str:
    """The error where a track was asked for that is not there."""
    return f"no audio track {track}: it has {number}; leave out --audio-track"


def _frames(container: Any, stream: Any, state: Progress) -> Iterator[Any]:
    """Decoded frames of the track; bad packets are counted and passed over."""
    import av

    packets = container.demux()
    # as numbers: a fraction made anew for each packet takes as long as some codecs
    base = {one.index: float(one.time_base or 0) for one in container.streams}
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError) as error:
            state.broken = one_line(error)
            return
        if packet is None:
            return
        if packet.pts is not None:
            end = packet.pts + (packet.duration or 0)
            end_s = end * base.get(packet.stream_index, 0.0) - state.late
            state.reached = max(state.reached, end_s)
        if packet.stream_index == stream.index:
            yield from _decoded(packet, state)


def _decoded(packet: Any, state: Progress) -> Iterator[Any]:
    import av

    try:
        frames = packet.decode()
    except av.FFmpegError:
        state.tail_errors += packet.size > 0  # an empty packet only flushes the codec
        return
    for frame in frames:
        if packet.size:
            state.good_frame()
        yield frame
    state.tail_errors += packet.is_corrupt  # half a packet of PCM still decodes


def _in_time(frames: Iterable[Any], container: Any, state: Progress) -> Iterator[NativeBlock]:
    """Samples of the frames, with silence where the time stamps leave a hole."""
    clock = _Clock(None if container.start_time is None else container.start_time / 1e6)
    unpacker = Unpacker()
    for frame in frames:
        rate = frame.sample_rate
        if gap := clock.gap(frame.time, rate, state):
            yield from silence(gap, rate)
            state.gaps += gap
            state.position += gap
        state.position += frame.samples / rate
        yield rate, unpacker.of(frame)


class _Clock:
    """Tells holes from clocks that were set anew.

    Where the rate changes on the way, FFmpeg goes on counting by the first one, and the time
    stamps of raw streams and of MPEG-TS are wrong.
    """

    def __init__(self, origin: Seconds | None) -> None:
        self._origin = origin
        self._rate = 0
        self._lost = False

    def gap(self, time: Seconds | None, rate: int, state: Progress) -> Seconds:
        """Seconds of silence before a frame with this time stamp."""
        if time is None:
            return 0.0
        self._rate = self._rate or rate
        if rate != self._rate:
            self._lost = True
            return 0.0
        if self._origin is None or self._lost:
            self._origin, self._lost = time - state.position, False
        gap = time - self._origin - state.position
        if -GAP <= gap <= GAP:
            return 0.0
        limit = _LONGEST_GAP if state.declared is None else state.declared - state.position
        if GAP < gap <= limit:
            return gap
        self._origin += gap  # the clock was set anew: go on from here
        return 0.0
