"""The bytes of a file looked through: for a beginning, for padding, for what is no sound."""

from __future__ import annotations

import errno
import io
import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

LONGEST = 64
"""Bytes that the beginning of a file takes."""
_OFTEN = 1 << 26  # bytes; some seconds' worth on a slow drive
_LARGEST_TAG = 1 << 24  # bytes
_MANY_ZEROS = 4096  # a last frame has fewer
_PACKET = 188  # bytes of MPEG-TS
_BLOCK = 1 << 17  # bytes: larger ones are fetched anew from the system each time
_ZEROS = bytes(_BLOCK)
_TEXT = b"\t\n\r\f" + bytes(range(32, 127))
_JUDGED = (64, 1 << 14)  # bytes that it takes to know text, and what is packed
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")


class Watched(io.FileIO):
    """A file that is read without a buffer, and tells when it has been read from for a while."""

    def __init__(self, path: Path, tick: Callable[[], None]) -> None:
        """Open it; `tick` is called every `_OFTEN` bytes."""
        super().__init__(path)
        self._tick, self._left = tick, _OFTEN

    def read(self, size: int | None = -1, /) -> bytes:
        """As every file does."""
        data = super().read(size) or b""
        self._left -= len(data)
        if self._left < 0:
            self._left = _OFTEN
            self._tick()
        return data


class Begin(NamedTuple):
    """How a file of some kind begins.

    Attributes:
        anchor: bytes that it has, which are searched for.
        before: bytes before them.
        pattern: all of it, up to `LONGEST` bytes.
    """

    anchor: bytes
    before: int
    pattern: re.Pattern[bytes]


def matches(file: BinaryIO, begin: Begin, start: int, size: int) -> Iterator[int]:
    """Where such a file begins in bytes [start, size) of a file, opened without buffer."""
    held, at = b"", start  # which is where `held` begins
    for place, block in _blocks(file, start, size):
        if place != at + len(held):
            held, at = b"", place
        held += block
        last = at + len(held) >= size
        # what begins so near the end may go on in the next block
        most = len(held) - (0 if last else LONGEST)
        yield from (at + found for found in _places(held, begin) if found < most)
        keep = min(LONGEST, len(held))
        at, held = at + len(held) - keep, held[len(held) - keep :]


def _places(data: bytes, begin: Begin) -> Iterator[int]:
    place = data.find(begin.anchor)
    while place >= 0:
        if place >= begin.before and begin.pattern.match(data, place - begin.before):
            yield place - begin.before
        place = data.find(begin.anchor, place + 1)


def is_padding(file: BinaryIO, at: int, size: int) -> bool:
    """Whether bytes [at, size) are a tag, or zeros."""
    if bytes_at(file, at, 16).startswith(_TAGS) and size - at < _LARGEST_TAG:
        return True
    return all(block == _ZEROS[: len(block)] for _, block in _blocks(file, at, size))


def padding_from(file: BinaryIO, size: int) -> int:
    """Where the zeros and tags begin that a stream of `size` bytes ends with."""
    end = size
    while (at := _without_zeros(file, _without_tag(file, end))) < end:
        end = at
    if end == size:
        return size
    head = bytes_at(file, 0, 4)
    if head == b"OggS":
        return _end_of_page(file, end)
    return end + -end % _PACKET if head[:1] == b"G" else end


def _without_tag(file: BinaryIO, size: int) -> int:
    if bytes_at(file, max(0, size - 128), 3) == b"TAG":
        return size - 128
    footer = bytes_at(file, max(0, size - 32), 32)
    if not footer.startswith(b"APETAGEX") or len(footer) < 32:
        return size
    length, flags = struct.unpack("<I4xI", footer[12:24])
    return max(0, size - int(length) - (32 if flags >> 31 else 0))


def _without_zeros(file: BinaryIO, size: int) -> int:
    at = size
    while at:
        start = max(0, at - _BLOCK)
        left = bytes_at(file, start, at - start).rstrip(b"\0")
        at = start + len(left)
        if left:
            break
    return at if size - at > _MANY_ZEROS else size


def _end_of_page(file: BinaryIO, size: int) -> int:
    """One past the last page of an ogg that begins before byte `size`."""
    start = max(0, size - _BLOCK)
    tail = bytes_at(file, start, size - start)
    at = start + max(0, tail.rfind(b"OggS"))
    head = bytes_at(file, at, 27 + 255)
    return at + 27 + head[26] + sum(head[27 : 27 + head[26]]) if len(head) > 26 else size


def is_noise(file: BinaryIO, at: int, size: int) -> bool:
    """Whether bytes are text, or so evenly spread that they are packed or encrypted, no samples."""
    data = bytes_at(file, at, min(1 << 16, size - at))
    if len(data) >= _JUDGED[0] and not data[1:].strip(_TEXT):  # one byte may be there to align it
        return True
    if len(data) < _JUDGED[1]:
        return False
    counts = [data.count(value) for value in range(256)]
    # of random bytes it is 1 within some hundredths; of loud 24-bit music ten times as much
    return sum((c - len(data) / 256) ** 2 for c in counts) / len(data) < 1.5


def bytes_at(file: BinaryIO, at: int, count: int) -> bytes:
    """So many bytes from a place on, or as many as there are."""
    file.seek(at)
    return file.read(count)


def _blocks(file: BinaryIO, at: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Bytes [at, size) of a file, each block with its place, without the holes of a sparse one."""
    while (at := _data_from(file, at, size)) < size:
        data = bytes_at(file, at, min(_BLOCK, size - at))
        if not data:
            return
        yield at, data
        at += len(data)


def _data_from(file: BinaryIO, at: int, size: int) -> int:
    """The first byte from `at` on that is not in a hole, as far as the system tells."""
    if not hasattr(os, "SEEK_DATA") or at >= size:
        return at
    try:
        return os.lseek(file.fileno(), at, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else at  # a hole up to the end
