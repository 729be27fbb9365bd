"""A file that holds several recordings one behind the other, or more than its header says.

`cat`, a recorder that starts anew in the file that it left, and a header that is older than its
data: FFmpeg and libsndfile read such files as far as the first header goes. What they go on with by
themselves (mp3, aac, mpeg-ts, avi) is left to them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from .chunks import MAGIC, Samples, another, behind, samples_at
from .matroska import EBML, segment_end
from .scanning import Begin, Watched, is_noise, matches, padding_from
from .stretch import Part

_OGG_BEGIN = Begin(
    b"OggS\x00\x02", 0, re.compile(rb"OggS\x00\x02\x00{8}[\s\S]{4}\x00{4}")
)  # a stream's first page
_BEGIN = {
    b"fLaC": Begin(b"fLaC", 0, re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")),
    b"0&\xb2u": Begin(
        b"0&\xb2u\x8ef\xcf\x11", 0, re.compile(rb"[\s\S]{8}\xa6\xd9\x00\xaa\x00b\xcel")
    ),
    b"FLV\x01": Begin(b"FLV\x01", 0, re.compile(rb"FLV\x01[\x01\x04\x05]\x00\x00\x00\x09\x00{4}")),
    b"#!AM": Begin(b"#!AMR", 0, re.compile(rb"#!AMR(?:-WB)?(?:_MC1\.0)?\n")),
    EBML: Begin(
        EBML, 0, re.compile(rb"\x1aE\xdf\xa3[\s\S]{1,50}?\x42\x82[\x80-\x88](?:webm|matroska)")
    ),
}
"""First bytes, and what a file of that kind begins with wherever it does."""
_STREAMS = (b"OggS", b"#!AMR", b"\x0bw", b"G", b"\xff\xf1", b"\xff\xf9")
"""First bytes of ogg, amr, ac3, mpeg-ts and aac, in which zeros and tags at the end look like
damage: they have no index that says where the sound ends."""


def parts_of(
    path: Path, warn: Callable[[str], None], tick: Callable[[], None] = lambda: None
) -> list[Part]:
    """The recordings of a file in order; mostly one, the file as it stands.

    Args:
        path: a file that can be opened.
        warn: called with a line about bytes that are no sound.
        tick: called now and then while a large file is looked through.
    """
    size = path.stat().st_size
    with Watched(path, tick) as file:
        head = file.read(12)
        if head.startswith(MAGIC):
            return _of_chunks(path, file, size, warn)
        starts = [0, *_later(file, head, size)]
        last = padding_from(file, size) if head.startswith(_STREAMS) else size
    ends = [*starts[1:], last]
    found = [Part(path, start, end) for start, end in zip(starts, ends, strict=True)]
    return found if len(found) > 1 or last < size else [Part(path)]


def _later(file: BinaryIO, head: bytes, size: int) -> Iterator[int]:
    """Where further files begin behind the first."""
    if head[4:8] == b"ftyp":
        return _boxes(file, size)
    if head.startswith(b"OggS"):
        return _chained(file, size)
    if head.startswith(EBML):
        return _segments(file, size)
    pattern = _BEGIN.get(head[:4])
    return iter(()) if pattern is None else matches(file, pattern, 1, size)


def _boxes(file: BinaryIO, size: int) -> Iterator[int]:
    """Boxes of an mp4 that begin another mp4."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, name = int.from_bytes(head[:4]), head[4:8]
        if name == b"ftyp" and at:
            yield at
        if length == 1:
            length = int.from_bytes(head[8:16])
        if length < 8:  # up to the end, or damaged
            return
        at += length


def _chained(file: BinaryIO, size: int) -> Iterator[int]:
    """Pages of an ogg that begin streams, where none began on the page before."""
    follows = 0
    for at in matches(file, _OGG_BEGIN, 0, size):
        if at and at != follows:
            yield at
        file.seek(at + 26)
        segments = file.read(1)[0]
        follows = at + 27 + segments + sum(file.read(segments))


def _segments(file: BinaryIO, size: int) -> Iterator[int]:
    """Headers of matroska behind the first; where a length is unknown all is searched."""
    start = segment_end(file) or 1
    if start < size:
        file.seek(start)
        known = start > 1 and not file.read(4).startswith(EBML)
        if not known:
            yield from matches(file, _BEGIN[EBML], start, size)


def _of_chunks(path: Path, file: BinaryIO, size: int, warn: Callable[[str], None]) -> list[Part]:
    found: list[Part] = []
    at: int | None = 0
    while at is not None:
        samples = samples_at(file, at, size)
        if samples is None:
            found += [Part(path, at, size)] if found else []  # which will say what is wrong
            break
        end, on, following = _reach(file, samples, size, warn)
        found.append(Part(path, at, end, on))
        at = following
    as_it_stands = len(found) < 2 and not any(part.on for part in found)
    return [Part(path)] if as_it_stands else found


def _reach(
    file: BinaryIO, samples: Samples, size: int, warn: Callable[[str], None]
) -> tuple[int, bool, int | None]:
    """Where a recording ends, whether that is more than its header says, where the next begins."""
    end = samples.end
    if end is None:
        if behind(file, samples._replace(end=samples.start), size) == "nothing":
            return size, False, None
        following = another(file, samples, samples.start, size)
        return following or size, True, following
    if end >= size:
        following = another(file, samples, samples.start, size) if end > size else None
        return following or size, False, following
    found = behind(file, samples, size)
    if isinstance(found, int):
        return found, False, found
    if found == "sound" and is_noise(file, end, size):
        warn(f"{size - end} bytes behind its sound are none, passed over")
        found = "nothing"
    if found == "nothing":
        # of a w64 libsndfile reads what follows, whatever it is
        return (end, True, None) if samples.layout.inclusive else (size, False, None)
    following = another(file, samples, end, size)
    return following or size, True, following
