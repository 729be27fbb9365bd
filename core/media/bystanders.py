"""What lies among recordings and is none: told by its name and its first bytes.

For inputs that a shell's `*` or a pipe has put together; what is asked for alone is meant, whatever
it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from .rows import names_recordings

_MARKS = b"\xff\xfe\xef\xbb\xbf"  # the bytes of byte-order marks
_TABLES = (".csv", ".tsv")
_UNFINISHED = frozenset({".part", ".partial", ".crdownload", ".download", ".opdownload", ".tmp"})
"""Of downloaders; their beginnings are those of sound."""

_HEAD = 1 << 16
_FORMS = {  # of containers that hold more than sound, and what they are when they hold it
    b"RIFF": (b"WAVE", b"AVI "),
    b"RIFX": (b"WAVE",),
    b"RF64": (b"WAVE",),
    b"BW64": (b"WAVE",),
    b"FORM": (b"AIFF", b"AIFC", b"8SVX"),
    b"FRM8": (b"\0\0\0\0", b"DSD "),
}
_BEGINNINGS = (
    *(b"OggS", b"fLaC", b"ID3", b"caff", b"#!AMR", b".snd", b"wvpk", b"MAC ", b"TTA1", b"ADIF"),
    *(b".ra\xfd", b".RMF", b"FLV", b"riff\x2e\x91\xcf\x11", b"\x1a\x45\xdf\xa3", b"NIST_1A"),
    *(b"Creative Voice File", b"DSD ", b"MPCK", b"MP+", b"\x0b\x77", b"\x7f\xfe\x80\x01"),
    *(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"),
)
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide")
_PICTURES = (b"avif", b"avis", b"heic", b"heix", b"mif1")
_TS_PACKET = 188
_RECORD = re.compile(
    rb'(?:\xef\xbb\xbf)?\s*\{\s*"schema_version"\s*:.*?"audio_filepath"\s*:', re.DOTALL
)


def holds_sound(path: str) -> bool:
    """Whether a file of any name begins as sound does; what cannot be looked at may."""
    if not os.path.isfile(path):  # not there, or a pipe, which can be read only once
        return True
    if _ending(path) in _UNFINISHED:
        return False
    try:
        return _is_sound(_head(path))
    except OSError:
        return True


def is_results(path: str) -> bool:
    """Whether a list is what a run has written, which has recordings in it too."""
    try:
        return _RECORD.match(_head(path)) is not None
    except OSError:
        return False


def lists_recordings(path: str, is_media: Callable[[str], bool]) -> bool:
    """Whether a list that cannot be read as one was meant to be: it speaks of recordings.

    Args:
        path: of the list.
        is_media: whether a name is one of a recording.
    """
    try:
        head = _head(path).replace(b"\0", b"")  # UTF-16 has one a letter
    except OSError:
        return True
    lines = [line.strip() for line in head.splitlines() if line.strip()]
    named = bool(lines) and all(is_media(os.fsdecode(line)) for line in lines)
    first = os.fsdecode(lines[0].lstrip(_MARKS)) if lines else ""
    table = path.lower().endswith(_TABLES) and names_recordings(first)
    return named or table or b"audio_filepath" in head


def _is_sound(head: bytes) -> bool:
    form = _FORMS.get(head[:4])
    if form is not None:
        return head[8:12] in form
    if head[4:8] in _ATOMS:
        return head[8:12] not in _PICTURES
    if head[:1] == b"\x47" and head[_TS_PACKET : _TS_PACKET + 1] == b"\x47":
        return True
    return head.startswith(_BEGINNINGS) or _is_frame(head)


def _is_frame(head: bytes) -> bool:
    """Whether a frame of MPEG audio or of AAC begins here; UTF-16's mark looks much like one."""
    if len(head) < 4 or head[0] != 0xFF:
        return False
    if head[1] & 0xF6 == 0xF0:  # ADTS
        return True
    layer, bitrate, rate = head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    return head[1] >= 0xE0 and layer in (1, 2) and bitrate < 15 and rate < 3


def _ending(path: str) -> str:
    """A name's extension; a fragment's number does not count."""
    return os.path.splitext(path)[1].lower().partition("-frag")[0]


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_HEAD)
