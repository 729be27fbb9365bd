"""The decoding process: asked on stdin for one file after another, answers on stdout.

A request is a line of JSON (`path`, `rate`). An answer is a run of messages, each a letter, four
bytes of length and the content: `B` a block of float32 samples, `W` a remark, and one last, `D`
done, `E` an error of the file, `X` an error of the decoder. Ends with its stdin.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from ..errors import MediaError
from ..records import Seconds, Waveform
from .decode import decode

HEADER = Struct("<cI")
_LIBRARIES = ("av", "soundfile", "soxr")  # imported before the first file comes
STALL: Seconds = 120.0
"""Seconds that one block of sound may take, a slow network drive included."""
_MOST_MEMORY = 4 << 30  # bytes of address space; a decoder at work takes a tenth of it


def serve() -> None:
    """Answer requests until stdin ends."""
    _confine()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not land among the messages
    for library in _LIBRARIES:
        with suppress(ImportError):  # said by the recording that needs it
            import_module(library)
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        _answer(out, Path(asked["path"]), asked["rate"])


def _confine() -> None:
    """Bound the memory, and leave it to the parent to be interrupted."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    with suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(out: BinaryIO, path: Path, rate: int) -> None:
    end, words = b"D", ""
    try:
        for block in _in_time(decode(path, rate, lambda text: _send(out, b"W", text.encode()))):
            _send(out, b"B", block.tobytes())
    except MediaError as error:
        end, words = b"E", str(error)
    except MemoryError:
        end, words = b"E", "needs more memory than any recording: its header is damaged"
    except Exception as error:
        end, words = b"X", f"{type(error).__name__}: {' '.join(str(error).split())}"
    _send(out, end, words.encode("utf-8", "backslashreplace"))


def _in_time(blocks: Iterator[Waveform]) -> Iterator[Waveform]:
    """Blocks; the system ends this process when one takes too long, even without a parent."""
    alarm = getattr(signal, "alarm", lambda seconds: None)
    try:
        while True:
            alarm(int(STALL))
            block = next(blocks, None)
            alarm(0)
            if block is None:
                return
            yield block
    finally:
        alarm(0)


def _send(out: BinaryIO, kind: bytes, content: bytes) -> None:
    out.write(HEADER.pack(kind, len(content)) + content)
    out.flush()
