"""Any container and codec through FFmpeg's libraries (PyAV), with the time stamps as the judge.

FFmpeg drops what it cannot read without a word; what is missing shows in the time stamps and in
the length that the header declares. Holes become silence, so that a sample's place is its time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MediaError
from ..records import Seconds
from .blocks import NativeBlock, one_line
from .frames import Part, Planes, join, silence
from .opening import opened

_GAP = 0.1  # seconds by which time stamps may wander before it is a hole
# Seconds by which a declared length may exceed the real one (priming, rounding): the track's own
# length, and the container's, which other tracks have a part in.
_SHORT, _SHORT_OF_ALL = 0.2, 0.5
_UNKNOWN = float("inf")
_WORTH_TELLING = 0.5  # seconds of holes in all
_LONGEST_GAP = 3600.0  # believed in a file that declares no length
# Only these say in their header how long they are; elsewhere FFmpeg guesses from bit rate and size.
_DECLARING = frozenset({"mov", "matroska", "flac", "wav"})
# Cut out of something longer, these begin with frames that lean on lost ones.
_RAW_STREAMS = frozenset({"mp3", "aac", "mpegts"})
# Here a hole in the time stamps is damage: others (webm, opus of calls) leave out silence.
_GAPLESS = frozenset({("ogg", "vorbis"), ("ogg", "flac"), ("flac", "flac")})


@dataclass
class _Progress:
    """What was read of one track so far, and what went wrong.

    Attributes:
        kind: FFmpeg's name of the container.
        codec: FFmpeg's name of what is in it.
        declared: seconds at which the track ends by a trustworthy header, else None.
        alone: `declared` is the track's own; else it is the container's, so all tracks count.
        position: seconds of sound delivered, silence in holes included.
        reached: seconds up to which packets of any track were seen.
        gaps: seconds of silence put in.
        errors: undecodable packets with good ones behind them.
        tail_errors: those with none behind them so far.
        broken: why reading stopped early.
    """

    kind: str
    codec: str
    declared: Seconds | None = None
    alone: bool = True
    position: Seconds = 0.0
    reached: Seconds = 0.0
    gaps: Seconds = 0.0
    errors: int = 0
    tail_errors: int = 0
    broken: str = ""

    def good_frame(self) -> None:
        """The errors so far were not the end."""
        if self.position or self.kind not in _RAW_STREAMS:
            self.errors += self.tail_errors
        self.tail_errors = 0

    def verdict(self) -> str:
        """One line on what is missing; empty when all is well."""
        end = self.position if self.alone else max(self.position, self.reached)
        missing = _UNKNOWN if self.declared is None else self.declared - end
        short = _UNKNOWN != missing > (_SHORT if self.alone else _SHORT_OF_ALL)
        # an mp3's time stamps count its good frames: there a hole shows as a shorter file, and
        # tags, or the seams of files put together, look like bad frames
        is_mp3 = self.kind == "mp3"
        if not self.position and self.tail_errors:
            return "not one frame of its audio track can be decoded"
        if short and not (is_mp3 and self.errors):
            return f"breaks off at {self.position:.1f} s of {self.declared:.1f} s"
        # a flac that lacks its last hundredth of a second has lost nothing to speak of
        complete = self.alone and missing <= _GAP / 2
        if self.broken or (self.tail_errors and not is_mp3 and not complete):
            why = self.broken or "its last frame is not whole"
            return f"breaks off at {self.position:.1f} s: {why}"
        if (self.errors and (short or not is_mp3)) or (
            self.gaps and (self.kind, self.codec) in _GAPLESS
        ):
            return f"damaged: {self._holes()}"
        return ""

    def _holes(self) -> str:
        frames = f"{self.errors} unreadable frames" if self.errors else "holes"
        return f"{frames}, {self.gaps:.1f} s filled with silence" if self.gaps else frames

    def remark(self) -> str:
        """One line on what is odd, but no loss that could be told from the file."""
        if self.gaps >= _WORTH_TELLING:
            return f"{self.gaps:.1f} s without sound data, filled with silence"
        return f"{self.errors} unreadable frames passed over" if self.errors else ""


def av_duration(path: Path) -> Seconds | None:
    """Seconds that FFmpeg reads from the header or estimates."""
    with opened(path) as container:
        stream = _audio_stream(container)
        return _stream_end(container, stream) or _container_end(container)


def read_av(path: Path, warn: Callable[[str], None] | None = None) -> Iterator[NativeBlock]:
    """Blocks of the best audio track; MediaError at the end when something of it is missing."""
    with opened(path) as container:
        stream = _audio_stream(container)
        kind = container.format.name.split(",")[0]
        state = _Progress(kind, stream.codec_context.name)
        if state.kind == "mp3":
            state.declared = _mp3_seconds(path, stream.rate)
        elif state.kind in _DECLARING:
            own = _stream_end(container, stream)
            state.alone = own is not None
            state.declared = own or _container_end(container)
        yield from join(_in_time(_frames(container, stream, state), container, state))
    if state.kind == "ogg" and _ogg_is_cut(path):
        state.broken = state.broken or "the file ends inside a page"
    if verdict := state.verdict():
        raise MediaError(verdict)
    if warn is not None and (remark := state.remark()):
        warn(remark)


def _audio_stream(container: Any) -> Any:
    stream = container.streams.best("audio")
    if stream is None:
        found = "a video without an audio track" if container.streams.video else "no audio in it"
        raise MediaError(found)
    if stream.codec_context is None:
        raise MediaError("an audio track in a codec that cannot be decoded")
    return stream


def _stream_end(container: Any, stream: Any) -> Seconds | None:
    """Where the track ends by its own header, in seconds from the container's beginning."""
    if not stream.duration:
        return None
    start = float((stream.start_time or 0) * stream.time_base)
    return max(0.0, start - (container.start_time or 0) / 1e6) + float(
        stream.duration * stream.time_base
    )


def _container_end(container: Any) -> Seconds | None:
    return container.duration / 1e6 if container.duration else None


def _frames(container: Any, stream: Any, state: _Progress) -> Iterator[Any]:
    """Decoded frames of the track; bad packets are counted and passed over."""
    import av

    packets = container.demux()
    start = (container.start_time or 0) / 1e6
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
            state.reached = max(state.reached, float(end * packet.time_base) - start)
        if packet.stream_index == stream.index:
            yield from _decoded(packet, state)


def _decoded(packet: Any, state: _Progress) -> Iterator[Any]:
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


def _in_time(frames: Iterable[Any], container: Any, state: _Progress) -> Iterator[Part]:
    """Samples of the frames, with silence where the time stamps leave a hole."""
    origin = None if container.start_time is None else container.start_time / 1e6
    planes = Planes()
    for frame in frames:
        if frame.time is not None:
            origin = frame.time if origin is None else origin
            gap = frame.time - origin - state.position
            limit = _LONGEST_GAP if state.declared is None else state.declared - state.position
            if _GAP < gap <= limit:
                yield from silence(gap, frame.sample_rate)
                state.gaps += gap
                state.position += gap
            elif abs(gap) > _GAP:  # the clock was set anew: go on from here
                origin += gap
        state.position += frame.samples / frame.sample_rate
        yield frame.sample_rate, planes.of(frame)


def _mp3_seconds(path: Path, rate: int) -> Seconds | None:
    """Length by an mp3's Xing, Info or VBRI header, encoder padding included; None without one.

    FFmpeg falls back to a guess from the bit rate, and does not say so.
    """
    with path.open("rb") as file:
        head = file.read(10)
        skip = 0
        if head.startswith(b"ID3"):  # the tag's size: four bytes of seven bits
            skip = 10 + sum((byte & 0x7F) << 7 * (3 - i) for i, byte in enumerate(head[6:10]))
        file.seek(skip)
        frame = file.read(2048)
    found = re.search(
        rb"(?:Xing|Info)...[\x01\x03\x05\x07\x09\x0b\x0d\x0f](....)", frame, re.DOTALL
    )
    found = found or re.search(rb"VBRI.{10}(....)", frame, re.DOTALL)
    samples = 1152 if rate >= 32_000 else 576  # of a frame, MPEG 1 or 2
    return int.from_bytes(found[1]) * samples / rate if found else None


def _ogg_is_cut(path: Path) -> bool:
    """Whether the last page claims more bytes than the file has; FFmpeg drops it in silence."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 131_072))  # two pages of the largest size
        tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27:  # byte 26 counts the segments, whose sizes follow
        return True
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
