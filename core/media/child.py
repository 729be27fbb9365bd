"""The decoding process: asked on stdin for one file after another, answers on stdout.

A request is a line of JSON: `path`, its bytes as Latin-1, what is `wanted` of it (sound, seconds,
channels), the `rate` of the sound, the `track` and the `channels` that are heard, and `offset` and
`duration` of a part of it, or null. An answer is a run of messages, each a letter, four bytes of
length and the content: `B` a block of float32 samples (none of them while it is on the way to a
part), `W` a remark, `A` a sign of life, and one last, `D` done (with the number that was wanted),
`E` an error of the file, `X` an error of the decoder. Before the first answer `L` names the limits
that this system does not set. Ends with its stdin.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from ..errors import MediaError
from ..records import Json, Seconds
from .decode import count_channels, decode, probe_duration
from .listening import Listening
from .part import part
from .watch import Watch

HEADER = Struct("<cI")
_LIBRARIES = ("av", "soundfile", "soxr")  # imported before the first file comes
STALL: Seconds = 120.0
"""Seconds that one block of sound may take, a slow network drive included."""
TOO_LONG = frozenset(
    getattr(signal, name) for name in ("SIGALRM", "SIGPROF") if hasattr(signal, name)
)
"""Signals that end this process when one block takes too long."""
_MOST_MEMORY = 4 << 30  # bytes of address space; a decoder at work takes a tenth of it
_LIMITS = {
    "RLIMIT_AS": ("memory", _MOST_MEMORY),
    "RLIMIT_FSIZE": ("files written", 0),  # bytes
    "RLIMIT_NOFILE": ("open files", 64),
    "RLIMIT_CORE": ("core dumps", 0),
}
"""What the system is asked to hold this process to. Not processor time: it serves many files, and
`STALL` ends the one that takes too long."""


def serve() -> None:
    """Answer requests until stdin ends."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the parent is interrupted, and ends this
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not land among the messages
    for library in _LIBRARIES:
        with suppress(ImportError):  # said by the recording that needs it
            import_module(library)
    if unlimited := _confine():
        _send(out, b"L", ", ".join(unlimited).encode())
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        _answer(out, Path(os.fsdecode(asked["path"].encode("latin-1"))), asked)


def _confine() -> list[str]:
    """Set the limits; which of them are not in force all the same."""
    try:
        import resource
    except ImportError:  # not on Windows
        return [what for what, _ in _LIMITS.values()]
    return [
        what
        for name, (what, most) in _LIMITS.items()
        if not _limited(getattr(resource, name, None), most)
        or (what == "memory" and not _memory_ends())
    ]


def _limited(kind: int | None, most: int) -> bool:
    import resource

    if kind is None:
        return False
    _, hard = resource.getrlimit(kind)
    with suppress(ValueError, OSError):  # told by what is read back
        most_allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most_allowed, most_allowed))
    soft, _ = resource.getrlimit(kind)
    return soft != resource.RLIM_INFINITY and soft <= most


def _memory_ends() -> bool:
    """Whether more than the limit is refused: macOS takes the limit and does not hold to it."""
    import mmap

    try:
        mmap.mmap(-1, _MOST_MEMORY + 1, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, MemoryError):
        return True
    return False


def _answer(out: BinaryIO, path: Path, asked: Json) -> None:
    end, words = b"D", ""
    how = Listening(asked["track"], asked["channels"])
    try:
        if asked["wanted"] == "sound":
            _decode(out, path, asked, how)
        else:
            words = _number(out, path, asked["wanted"], how)
    except MediaError as error:
        end, words = b"E", str(error)
    except MemoryError:
        end, words = b"E", "needs more memory than any recording: its header is damaged"
    except Exception as error:
        end, words = b"X", f"{type(error).__name__}: {' '.join(str(error).split())}"
    _send(out, end, words.encode("utf-8", "backslashreplace"))


def _decode(out: BinaryIO, path: Path, asked: Json, how: Listening) -> None:
    def warn(text: str) -> None:
        _send(out, b"W", text.encode())

    limit = _TimeLimit()
    rate, offset, duration = asked["rate"], asked["offset"], asked["duration"]
    blocks = decode(path, rate, warn, how, partial(_tick, out, limit))
    if (offset, duration) != (None, None):
        blocks = part(blocks, rate, offset, duration, warn)
    while True:
        with limit:
            block = next(blocks, None)
        if block is None:
            return
        _send(out, b"B", block.tobytes())


def _number(out: BinaryIO, path: Path, wanted: str, how: Listening) -> str:
    limit = _TimeLimit()
    tick = partial(_tick, out, limit)
    with limit:
        seconds = wanted == "seconds"
        found = probe_duration(path, tick) if seconds else count_channels(path, how, tick)
    return "" if found is None else repr(found)


def _tick(out: BinaryIO, limit: _TimeLimit) -> None:
    """It takes long, and goes on."""
    _send(out, b"A", b"")
    limit.anew()


class _TimeLimit:
    """While entered, this process ends when it takes too long, even without a parent.

    The system's alarm on the wall clock would go off after a pause. Its timer of processor time is
    for code that lets no other thread run.
    """

    def __enter__(self) -> None:
        self._watch = Watch(STALL, _end)
        _set_timer(STALL)
        self._watch.__enter__()

    def __exit__(self, *error: object) -> None:
        self._watch.__exit__(None, None, None)
        _set_timer(0)

    def anew(self) -> None:
        """Count from here on: there was a sign of life."""
        self._watch.anew()
        _set_timer(STALL)


def _set_timer(seconds: Seconds) -> None:
    timer = getattr(signal, "setitimer", lambda *_: None)
    timer(getattr(signal, "ITIMER_PROF", None), seconds)


def _end() -> None:
    os.kill(os.getpid(), getattr(signal, "SIGALRM", signal.SIGTERM))


def _send(out: BinaryIO, kind: bytes, content: bytes) -> None:
    out.write(HEADER.pack(kind, len(content)) + content)
    out.flush()
