"""The frames of a flac file at its two ends: they carry numbers and checksums.

Its header says how long the whole was of which a file may be a part.
"""

from __future__ import annotations

import os
from typing import BinaryIO

_LARGEST_FRAME = 1 << 17  # bytes
_SIZES = {1: 192, **{code: 576 << code - 2 for code in range(2, 6)}}
_SIZES |= {code: 256 << code - 8 for code in range(8, 16)}
_SYNC = (b"\xf8", b"\xf9")  # the second bytes of a frame: blocks of one size, or of several


def first_sample(file: BinaryIO) -> int | None:
    """The number of the sample that the file begins with; None where the first frame is damaged."""
    file.seek(4)
    last = False
    while not last:
        head = file.read(4)
        if len(head) < 4:
            return None
        last = bool(head[0] & 0x80)
        file.seek(int.from_bytes(head[1:]), os.SEEK_CUR)
    return _number(file.read(16))


def _number(head: bytes) -> int | None:
    """The first sample of a frame by its header."""
    if len(head) < 16 or head[0] != 0xFF or head[1:2] not in _SYNC:
        return None
    more = max(0, 7 - (head[4] ^ 0xFF).bit_length())  # bytes of the number behind the first
    code, rate = head[2] >> 4, head[2] & 15
    sized = {6: 1, 7: 2}.get(code, 0)
    end = 5 + more + sized + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if _sum(head[:end], 8, 0x07) != head[end]:
        return None
    value = head[4] & (0x3F >> more if more else 0x7F)
    for byte in head[5 : 5 + more]:
        value = value << 6 | byte & 0x3F
    if head[1:2] == b"\xf9":
        return value
    size = int.from_bytes(head[5 + more : 5 + more + sized]) + 1 if sized else _SIZES.get(code)
    return None if size is None else value * size


def ends_whole(file: BinaryIO) -> bool:
    """Whether it ends with a frame whose checksum is right: split, and not cut off."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _LARGEST_FRAME))
    tail = file.read()
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        if tail[at + 1 : at + 2] in _SYNC and not _sum(tail[at:], 16, 0x8005):
            return True
    return False


def _sum(data: bytes, bits: int, polynomial: int) -> int:
    """The checksum of some bytes, 0 where they end with their own."""
    most = (1 << bits) - 1
    table = [_sum_of(byte, bits, polynomial) for byte in range(256)]
    total = 0
    for byte in data:
        total = (total << 8 & most) ^ table[total >> bits - 8 ^ byte]
    return total


def _sum_of(byte: int, bits: int, polynomial: int) -> int:
    total = byte << bits - 8
    for _ in range(8):
        total = total << 1 ^ (polynomial if total >> bits - 1 else 0)
        total &= (1 << bits) - 1
    return total
