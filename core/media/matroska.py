"""The elements of a matroska or webm file: where it ends, and whether all of them are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

EBML = b"\x1aE\xdf\xa3"
"""What such a file begins with."""
_SEGMENT, _CLUSTER = b"\x18S\x80g", b"\x1fC\xb6u"
_ANYWHERE = {b"\xec", b"\xbf"}  # void, checksum
_IN_SEGMENT = _ANYWHERE | {
    _CLUSTER,
    b"\x11M\x9bt",  # seek head
    b"\x15I\xa9f",  # info
    b"\x16T\xaek",  # tracks
    b"\x1cS\xbbk",  # cues
    b"\x19A\xa4i",  # attachments
    b"\x10C\xa7p",  # chapters
    b"\x12T\xc3g",  # tags
}
_IN_CLUSTER = _ANYWHERE | {b"\xe7", b"\xa3", b"\xa0", b"\xa7", b"\xab", b"XT"}


def segment_end(file: BinaryIO) -> int | None:
    """One past the last byte by the segment's own size; None if it does not say."""
    found = _segment(file)
    return None if found is None else found[1]


def is_whole(file: BinaryIO) -> bool:
    """Whether the segment is all there, and so is each of its elements down to single blocks."""
    found = _segment(file)
    there = found is not None and found[1] <= file.seek(0, os.SEEK_END)
    return found is not None and there and _is_row(file, *found, _IN_SEGMENT)


def _is_row(file: BinaryIO, start: int, end: int, names: set[bytes]) -> bool:
    """Whether bytes [start, end) are elements of these names and nothing else."""
    at = start
    for name, body, size in _elements(file, start, end):
        if name not in names or size is None:
            return False
        at = body + size
        if name == _CLUSTER and not _is_row(file, body, at, _IN_CLUSTER):
            return False
    return at == end


def _segment(file: BinaryIO) -> tuple[int, int] | None:
    """First byte of the segment's content and one past its last; None where that is not said."""
    for name, body, size in _elements(file, 0, file.seek(0, os.SEEK_END)):
        if name == _SEGMENT:
            return None if size is None else (body, body + size)
        if name != EBML:
            return None
    return None


def _elements(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int | None]]:
    """(name, first byte of the content, its size) of elements in a row; an unknown size ends it."""
    while at < end:
        file.seek(at)
        head = file.read(12)
        long = 9 - head[0].bit_length() if head and head[0] else 0
        sized = head[long : long + 8]
        if not 1 <= long <= 4 or not sized or not sized[0]:
            yield b"", at, None
            return
        wide = 9 - sized[0].bit_length()
        most = (1 << 7 * wide) - 1
        value = int.from_bytes(sized[:wide]) & most
        body = at + long + wide
        yield head[:long], body, None if value == most else value
        if value == most:
            return
        at = body + value
