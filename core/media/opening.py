"""FFmpeg opens the recording and nothing else: no playlist, no other file, no network.

What it may open are options that it takes by name, and a name that it does not know it ignores
without a word. So they are tried once before the first file.
"""

from __future__ import annotations

import io
import wave
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, BinaryIO

from ..errors import MediaError
from .blocks import one_line
from .stretch import Part

# Real recordings only: a live playlist reaches for the network and never comes back, pictures and
# subtitles would pass for videos without sound.
_FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,dtshd,eac3,flac,flv,gsm,loas,matroska,"
    "mov,mp3,mpeg,mpegts,mxf,nut,ogg,rm,tta,voc,w64,wav,wtv,wv,xwma"
)

_DISOBEDIENT = (
    "this PyAV cannot be kept from opening other files and the network: pip install 'av>=15,<19'"
)


@contextmanager
def opened(part: Part) -> Iterator[Any]:
    """The `av.container.InputContainer` of a recording.

    Raises:
        MediaError: it is no recording, or this FFmpeg opens more than it is told to.
    """
    import av

    if not _obedient():
        raise MediaError(f"not opened: {_DISOBEDIENT}")
    with ExitStack() as held:
        try:
            # "file:" because FFmpeg takes "call:1.m4a" for a protocol
            file = f"file:{part.path}" if part.whole else held.enter_context(part.open())
            more = {"ignore_length": "1"} if part.on else {}
            container = _open(file, "file", _FORMATS, **more)
        except (av.FFmpegError, OSError, ValueError) as error:
            if b"ftyp" in _head(part, 12):  # mp4 and its kin keep their index at the end
                raise MediaError("breaks off before its index (moov): copy it again") from None
            raise MediaError(f"not a readable audio or video file ({one_line(error)})") from None
        yield held.enter_context(container)


def _open(file: str | BinaryIO, protocols: str, formats: str, **more: str) -> Any:
    import av

    return av.open(
        file,
        options={"protocol_whitelist": protocols, "format_whitelist": formats, **more},
        metadata_errors="replace",  # tags in some old code page are no reason to give up
    )


@cache
def _obedient() -> bool:
    """Whether a sound opens where protocol and format are allowed, and only there."""
    tries = (("data", "wav"), ("file", "wav"), ("data", "mp3"))
    return [_opens(_silence(), *allowed) for allowed in tries] == [True, False, False]


def _opens(name: str, protocols: str, formats: str) -> bool:
    import av

    try:
        _open(name, protocols, formats).close()
    except (av.FFmpegError, OSError, ValueError):
        return False
    return True


def _silence() -> str:
    """A tenth of a second as an address that holds its own content."""
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, 8_000, 0, "NONE", ""))
        file.writeframes(bytes(1_600))
    return "data:audio/x-wav;base64," + b64encode(sound.getvalue()).decode()


def _head(part: Part, size: int) -> bytes:
    with part.open() as file:
        return file.read(size)
