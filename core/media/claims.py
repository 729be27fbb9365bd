"""What a file says of its own length, and whether its bytes bear that out.

FFmpeg guesses where a header is silent, and does not say so; it drops what is cut without a word.
"""

from __future__ import annotations

import os
import re
from typing import Any, BinaryIO

from ..records import Seconds
from .stretch import Part

# Only these say in their header how long they are; elsewhere FFmpeg guesses from bit rate and size.
_DECLARING = frozenset({"mov", "matroska", "flac", "wav"})
_PADDED_BY = (b"LAME", b"Lavf", b"Lavc")


def declared(part: Part, container: Any, stream: Any) -> tuple[Seconds | None, bool]:
    """Seconds at which a track ends by a trustworthy header, and whether that is the track's own.

    None where no header says it. The container's end is that of its longest track.
    """
    kind = kind_of(container)
    if kind == "mp3":
        with part.open() as file:
            return mp3_seconds(file, stream.rate), True
    if kind not in _DECLARING or part.on:
        return None, True
    # a matroska says it of all tracks together, whatever FFmpeg makes of that
    own = None if kind == "matroska" else stream_end(container, stream)
    return own or container_end(container), own is not None


def kind_of(container: Any) -> str:
    """FFmpeg's name of a container."""
    return str(container.format.name).split(",")[0]


def started(container: Any) -> Seconds:
    """Where the container's clock begins: a part of something longer goes on from that."""
    return float(container.start_time or 0) / 1e6


def stream_end(container: Any, stream: Any) -> Seconds | None:
    """Where a track ends by its own header, in seconds from the container's beginning."""
    if not stream.duration:
        return None
    start = float((stream.start_time or 0) * stream.time_base)
    return max(0.0, start - started(container)) + float(stream.duration * stream.time_base)


def container_end(container: Any) -> Seconds | None:
    """Where the container ends by its own header, in seconds of its clock."""
    return container.duration / 1e6 if container.duration else None


def mp3_seconds(file: BinaryIO, rate: int) -> Seconds | None:
    """Length by an mp3's Xing, Info or VBRI header; None without one.

    Encoders pad at both ends and say by how much: that is no sound, and is not decoded.
    """
    head = file.read(10)
    skip = 0
    if head.startswith(b"ID3"):  # the tag's size: four bytes of seven bits
        skip = 10 + sum((byte & 0x7F) << 7 * (3 - i) for i, byte in enumerate(head[6:10]))
    file.seek(skip)
    frame = file.read(2048)
    samples = 1152 if rate >= 32_000 else 576  # of a frame, MPEG 1 or 2
    found = re.search(
        rb"(?:Xing|Info)...([\x01\x03\x05\x07\x09\x0b\x0d\x0f])(....)", frame, re.DOTALL
    )
    if found is not None:
        padding = _padding(frame, found.end(), found[1][0])
        return (int.from_bytes(found[2]) * samples - padding) / rate
    found = re.search(rb"VBRI.{10}(....)", frame, re.DOTALL)
    return int.from_bytes(found[1]) * samples / rate if found else None


def _padding(frame: bytes, at: int, fields: int) -> int:
    """Samples that the encoder added; its tag is behind the fields that have their bits set."""
    sizes = ((2, 4), (4, 100), (8, 4))  # length in bytes, table of contents, quality
    at += sum(size for bit, size in sizes if fields & bit)
    if not frame.startswith(_PADDED_BY, at):
        return 0
    both = int.from_bytes(frame[at + 21 : at + 24])
    return (both >> 12) + (both & 0xFFF)


def ogg_is_cut(file: BinaryIO) -> bool:
    """Whether the last page claims more bytes than there are; FFmpeg drops it in silence."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 131_072))  # two pages of the largest size
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27:  # byte 26 counts the segments, whose sizes follow
        return True
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
