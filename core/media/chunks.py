"""Containers made of chunks (wav, rf64, w64, aiff, caf) and au: where their samples really end.

A header's sizes are claims. A recorder that died leaves one that is older than its data, sizes of
32 bits wrap at 4 GiB, and files are put together with `cat`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO, Literal, NamedTuple

from .scanning import LONGEST, Begin, bytes_at, is_padding, matches

_UNKNOWN = (range(1), range(0x7FFF_0000, 0x8000_0000), range(0xFFFF_0000, 0x1_0000_0000))
_STRAY = 3  # bytes behind the last chunk that nobody misses
_FEW = 4096  # bytes of samples, in which there are whole frames of any kind
_LARGEST_HEADER = 1 << 24  # bytes
_ENDLESS = 1 << 62  # no file is so large
_KNOWN = frozenset(
    b"LIST,id3 ,ID3 ,bext,cue ,fact,smpl,inst,iXML,axml,cart,PAD ,JUNK,junk,FLLR,acid,plst,adtl,"
    b"PEAK,chna,minf,elm1,regn,umid,_PMX,DISP,wamd,guan,levl,r64m,afsp,MARK,COMT,INST,NAME,AUTH,"
    b"ANNO,(c) ,APPL,MIDI,free,strg,mark,info,uuid,chan,edct,midi,ovvw,peak".split(b",")
)
_NAME = re.compile(rb"[ -~]{4}")
_WAVE_GUID = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


class Layout(NamedTuple):
    """How a container writes its chunks.

    Attributes:
        header: bytes before the first chunk.
        name: bytes of a chunk's name.
        size: `struct` format of a chunk's size.
        pad: chunks begin at multiples of it.
        inclusive: whether a chunk's size counts its name and size.
        data: name of the chunk with the samples.
        skip: bytes of it before them.
        again: where a file of this kind begins.
    """

    header: int
    name: int
    size: str
    pad: int
    inclusive: bool
    data: bytes
    skip: int
    again: Begin


_WAV_AGAIN = Begin(b"WAVE", 8, re.compile(rb"(?:RIF[FX]|RF64|BW64)[\s\S]{4}WAVE[ -~]{4}"))
_WAV = Layout(12, 4, "<I", 2, False, b"data", 0, _WAV_AGAIN)
_AIFF_AGAIN = Begin(b"FORM", 0, re.compile(rb"FORM[\s\S]{4}AIF[FC][ -~]{4}"))
_CAF_AGAIN = Begin(b"caff", 0, re.compile(rb"caff\x00[\x01\x02]\x00\x00desc\x00{4}"))
_W64_AGAIN = Begin(b"riff", 0, re.compile(rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb"))
_AU_AGAIN = Begin(
    b".snd", 0, re.compile(rb"\.snd\x00\x00[\s\S]{6}\x00{3}[\x01-\x1b]\x00[\x00-\x03][\s\S]{2}")
)
_LAYOUTS = {
    b"RIFF": _WAV,
    b"RF64": _WAV,
    b"BW64": _WAV,
    b"RIFX": _WAV._replace(size=">I"),
    b"FORM": Layout(12, 4, ">I", 2, False, b"SSND", 8, _AIFF_AGAIN),
    b"caff": Layout(8, 4, ">Q", 1, False, b"data", 4, _CAF_AGAIN),
    b"riff": Layout(40, 16, "<Q", 8, True, b"data" + _WAVE_GUID, 0, _W64_AGAIN),
    b".snd": Layout(0, 4, ">I", 1, False, b".snd", 0, _AU_AGAIN),
}
MAGIC = tuple(_LAYOUTS)
"""What such files begin with."""


class Samples(NamedTuple):
    """The bytes of a file's samples.

    Attributes:
        head: first byte of the header that they belong to.
        start: their first byte.
        end: one past their last, as the header claims; None = it does not.
        layout: of the container.
    """

    head: int
    start: int
    end: int | None
    layout: Layout


def samples_at(file: BinaryIO, head: int, size: int) -> Samples | None:
    """What the header at byte `head` says, in a file of `size` bytes; None if there is none."""
    layout = _LAYOUTS.get(bytes_at(file, head, 4))
    if layout is None:
        return None
    if layout.data == b".snd":
        start, claimed = struct.unpack(">II", bytes_at(file, head + 4, 8).ljust(8, b"\0"))
        return Samples(head, head + start, _claimed_end(head + start, claimed), layout)
    large = None
    for name, body, claimed in chunks(file, head, head + layout.header, size):
        if name == b"ds64":
            large = int.from_bytes(bytes_at(file, body + 8, 8), "little")
        if name == layout.data:
            shift = int.from_bytes(bytes_at(file, body, 4)) if name == b"SSND" else 0
            start = body + layout.skip + shift
            if large is not None and claimed == 0xFFFF_FFFF:
                end = start + large if 0 < large < _ENDLESS else None
            else:
                end = _claimed_end(body, claimed)
            return Samples(head, start, end, layout)
    return None


def _claimed_end(body: int, claimed: int) -> int | None:
    unknown = any(claimed in sizes for sizes in _UNKNOWN) or claimed >= _ENDLESS
    return None if unknown else body + claimed


def chunks(file: BinaryIO, origin: int, at: int, size: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, first byte of its content, size of that) of each chunk, as far as they make sense.

    Args:
        file: in which a container begins at byte `origin`.
        origin: of the container, whose chunks are aligned from there.
        at: where the first of the chunks begins.
        size: of the file.
    """
    layout = _LAYOUTS[bytes_at(file, origin, 4)]
    head = layout.name + struct.calcsize(layout.size)
    while at + head <= size:
        found = bytes_at(file, at, head)
        name = found[: layout.name]
        claimed = struct.unpack(layout.size, found[layout.name :])[0]
        claimed -= head if layout.inclusive else 0
        if not _NAME.match(name) or claimed < 0:
            return
        yield name, at + head, claimed
        at = _padded(at + head + claimed, origin, layout)


def _padded(at: int, origin: int, layout: Layout) -> int:
    return at + (origin - at) % layout.pad


def behind(file: BinaryIO, samples: Samples, size: int) -> int | Literal["sound", "nothing"]:
    """What follows the end that a header claims: the byte where another file begins, or what.

    `nothing` are chunks, tags, zeros and the end.
    """
    assert samples.end is not None
    for at in {samples.end, _padded(samples.end, samples.head, samples.layout)}:
        found = _behind(file, samples, at, size)
        if found != "sound":
            return found
        if is_padding(file, at, size):
            return "nothing"
    return "sound"


def _behind(
    file: BinaryIO, samples: Samples, at: int, size: int
) -> int | Literal["sound", "nothing"]:
    """The same for chunks that begin at a certain byte."""
    layout = samples.layout
    strange = begun = False
    while at < size - _STRAY:
        if layout.again.pattern.match(bytes_at(file, at, LONGEST)):
            return at
        step = next(chunks(file, samples.head, at, size), None)
        if step is None:
            break
        name, body, claimed = step
        if name == layout.data:
            return "sound"
        strange = strange or name[:4] not in _KNOWN
        begun = True
        at = _padded(body + claimed, samples.head, layout)
    reached = size - _STRAY <= at <= size + _STRAY
    return "nothing" if reached or (begun and not strange) else "sound"


def another(file: BinaryIO, samples: Samples, start: int, size: int) -> int | None:
    """The first byte from `start` on at which another file of the same kind begins."""
    return next(matches(file, samples.layout.again, start, size), None)


def short_of(file: BinaryIO, samples: Samples) -> bytes:
    """The header of a file with few samples behind it, and a size that says so.

    libsndfile refuses sizes that are unknown or absurd in some containers.
    """
    layout, size = samples.layout, min(samples.start - samples.head, _LARGEST_HEADER)
    head = bytearray(bytes_at(file, samples.head, size))
    if not head.startswith((b"RF64", b"BW64")):  # which have it elsewhere
        at = 8 if layout.data == b".snd" else head.rfind(layout.data) + layout.name
        width = struct.calcsize(layout.size)
        more = layout.name + width if layout.inclusive else layout.skip
        head[at : at + width] = struct.pack(layout.size, more + _FEW)
    return bytes(head) + bytes(_FEW)


def byte_order(file: BinaryIO, size: int) -> str:
    """`BIG` or `LITTLE`: how the samples of the file that begins at byte 0 are written."""
    head = bytes_at(file, 0, 4)
    if head == b"FORM":  # the compressed kind has one that is none
        comm = _body(file, b"COMM", size)
        return "LITTLE" if comm[18:22] == b"sowt" else "BIG"
    if head == b"caff":
        flags = _body(file, b"desc", size)[12:16]
        return "LITTLE" if flags[-1:] and flags[-1] & 2 else "BIG"
    return "BIG" if head in (b"RIFX", b".snd") else "LITTLE"


def _body(file: BinaryIO, wanted: bytes, size: int) -> bytes:
    """The first bytes of a chunk's content; none if it is not there."""
    layout = _LAYOUTS[bytes_at(file, 0, 4)]
    for name, body, _ in chunks(file, 0, layout.header, size):
        if name == wanted:
            return bytes_at(file, body, 64)
        if name == layout.data:
            break
    return b""
