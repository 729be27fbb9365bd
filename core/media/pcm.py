"""Plain PCM (wav, aiff, caf, w64, au) through libsndfile: exact, fast, and it notices a cut file.

Compressed formats are left to `ffmpeg`: libsndfile pads a cut-off mp3 with silence, loses a flac's
good part together with its bad one, and writes to stderr.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

from ..errors import MediaError
from ..records import Seconds
from .blocks import BLOCK_SECONDS, BLOCK_VALUES, NativeBlock, one_line
from .chunks import byte_order, samples_at, short_of
from .stretch import Part

if TYPE_CHECKING:
    from soundfile import SoundFile

_SIZES_UNKNOWN = (range(0x7FFF_0000, 0x8000_0000), range(0xFFFF_0000, 0x1_0000_0000))
_DECLARED_SIZE = re.compile(
    r"^\s*(?:data|SSND|riff|Riff size|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE
)
_PLAIN = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")


def is_plain(part: Part) -> bool:
    """Whether libsndfile is the one to read it."""
    return pcm_duration(part) is not None


def pcm_duration(part: Part) -> Seconds | None:
    """Seconds of a PCM file; None when libsndfile should not be the one to read it."""
    import soundfile

    try:
        with _opened(part) as file:
            plain = file.subtype.startswith(_PLAIN)
            # a recorder that was killed leaves "0 bytes of data" in front of the data
            unfinished = file.frames == 0 and part.size() > 1024
            return file.frames / file.samplerate if plain and not unfinished else None
    except (soundfile.SoundFileError, TypeError, OSError):
        return None


def read_pcm(part: Part) -> Iterator[NativeBlock]:
    """Blocks of a PCM file; MediaError at the end when its header promised more."""
    import soundfile

    done = 0
    with _opened(part) as file:
        rate: int = file.samplerate
        size = max(1, min(BLOCK_SECONDS * rate, BLOCK_VALUES // file.channels))
        declared = max(file.frames, _declared_frames(file.extra_info, file.frames))
        try:
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                done += len(block)
                yield rate, block.T
        except soundfile.SoundFileError as error:
            raise MediaError(f"breaks off at {done / rate:.1f} s: {one_line(error)}") from None
    if declared - done > 0.05 * rate:
        raise MediaError(f"breaks off at {done / rate:.1f} s of {declared / rate:.1f} s")


@contextmanager
def _opened(part: Part) -> Iterator[SoundFile]:
    import soundfile

    with ExitStack() as held:
        if part.whole:
            yield held.enter_context(soundfile.SoundFile(_native_name(part)))
            return
        file = held.enter_context(part.open())
        found = samples_at(file, 0, part.size()) if part.on else None
        if found is None:
            yield held.enter_context(soundfile.SoundFile(file))
            return
        try:
            headed = held.enter_context(soundfile.SoundFile(BytesIO(short_of(file, found))))
        except soundfile.SoundFileError:  # it needs what lies behind the samples
            headed = held.enter_context(soundfile.SoundFile(file))
        if not headed.subtype.startswith(_PLAIN):
            yield headed
            return
        rest = Part(part.path, part.start + found.start, part.start + part.size())
        samples = held.enter_context(rest.open())
        yield held.enter_context(
            soundfile.SoundFile(
                samples,
                samplerate=headed.samplerate,
                channels=headed.channels,
                subtype=headed.subtype,
                endian=byte_order(file, part.size()),
                format="RAW",
            )
        )


def _native_name(part: Part) -> str | bytes:
    # bytes, because soundfile cannot encode names that are not UTF-8
    return str(part.path) if os.name == "nt" else os.fsencode(part.path)


def _declared_frames(log: str, frames: int) -> int:
    """Frames that the header promises, from libsndfile's note that it corrected a chunk's size."""
    for declared, real in _DECLARED_SIZE.findall(log):
        unknown = any(int(declared) in sizes for sizes in _SIZES_UNKNOWN)
        if int(real) > 0 and not unknown:
            return int(frames * int(declared) / int(real))
    return 0
