"""Decode in a process apart, so that a hostile file costs its own record and not the run.

Codec libraries are written in C: a file made for it can crash them, hang them or fill the memory,
and no `except` helps. A process takes some tenths of a second to start and is used for one file
after another; the sound comes through a pipe.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..errors import MediaError
from ..records import Seconds, Waveform
from .blocks import one_line
from .child import HEADER, STALL

PATIENCE: Seconds = 120.0
PATIENCE_PER_MIB: Seconds = 10.0
"""Seconds that decoding may take in all, by the file's size: a hundred times what it needs."""
_LARGEST_MESSAGE = 1 << 28  # bytes; a block of the highest rate is a fifth of it
_ROOT = Path(__file__).parents[2]
_START = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from core.media.child import serve"


def decode_apart(
    path: Path, sample_rate: int = 16_000, warn: Callable[[str], None] | None = None
) -> Iterator[Waveform]:
    """Yield the sound of a file as `decode` does, whatever the file does to the decoder.

    Args:
        path: the file.
        sample_rate: Hz of the result.
        warn: called with one line about things that are odd but no loss.

    Yields:
        float32 arrays of shape (n,), n > 0.

    Raises:
        MediaError: as `decode` does; also when the decoder crashed, when a block took longer than
            `STALL` seconds, or when all of it took longer than `PATIENCE` and `PATIENCE_PER_MIB`.
    """
    decoder = _take()
    try:
        yield from decoder.blocks(path, sample_rate, warn or (lambda text: None))
    finally:
        if decoder.idle:
            _idle.append(decoder)
        else:  # dead, or still at a file that nobody wants any more
            decoder.end()


def start_ahead(number: int) -> None:
    """Start so many processes before they are needed: while they come up, a model can be loaded.

    One that does not start is no loss yet: it is tried again when a recording wants it.
    """
    with suppress(MediaError):
        _idle.extend(_new() for _ in range(number - len(_idle)))


class _Decoder:
    """One decoding process.

    Attributes:
        idle: it has answered, and may be asked again.
    """

    def __init__(self) -> None:
        # one thread a library: two files are decoded side by side as it is
        single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"{_START}; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **single},
            start_new_session=True,  # Ctrl-C is for the run, which ends its decoders itself
        )
        self.idle = True
        self._late = False

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def blocks(self, path: Path, rate: int, warn: Callable[[str], None]) -> Iterator[Waveform]:
        """The sound of one file; `idle` is False afterwards if the process is lost."""
        self.idle = False
        assert self._process.stdin is not None
        request = json.dumps({"path": os.fspath(path), "rate": rate})
        with suppress(BrokenPipeError):  # it died while idle: seen when its answer is read
            self._process.stdin.write(f"{request}\n".encode())
            self._process.stdin.flush()
        left, heard = _patience(path), 0
        while True:
            begun = time.monotonic()
            kind, content = self._message(min(left, STALL), heard / rate)
            left -= time.monotonic() - begun
            if kind == b"B":
                block = np.frombuffer(bytearray(content), np.float32)  # one that may be changed
                heard += len(block)
                yield block
            elif kind == b"W":
                warn(content.decode())
            else:
                self.idle = True
                _conclude(kind, content.decode())
                return

    def _message(self, seconds: Seconds, heard: Seconds) -> tuple[bytes, bytes]:
        watch = threading.Timer(seconds, self._give_up)
        watch.start()
        try:
            head = self._read(HEADER.size)
            kind, size = HEADER.unpack(head) if len(head) == HEADER.size else (b"", 0)
            content = self._read(size) if size <= _LARGEST_MESSAGE else b""
        finally:
            watch.cancel()
        if not kind or len(content) < size:
            raise MediaError(self._obituary(heard))
        return kind, content

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.read(size)

    def _give_up(self) -> None:
        self._late = True
        self._process.kill()

    def _obituary(self, heard: Seconds) -> str:
        self._process.kill()
        code = self._process.wait()
        late = self._late or -code == getattr(signal, "SIGALRM", None)
        why = "decoding it takes too long" if late else f"it crashed the decoder ({code})"
        return f"breaks off at {heard:.1f} s: {why}"

    def end(self) -> None:
        """End the process, whatever it is at."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._process.wait()


_idle: list[_Decoder] = []


def _take() -> _Decoder:
    """A decoder that waits for work, or a new one."""
    while True:
        try:
            decoder = _idle.pop()
        except IndexError:
            return _new()
        if decoder.alive:
            return decoder
        decoder.end()


def _new() -> _Decoder:
    try:
        return _Decoder()
    except OSError as error:
        raise MediaError(f"no process to decode it in: {one_line(error)}") from None


@atexit.register
def end_all() -> None:
    """End the decoders that wait for work."""
    while _idle:
        _idle.pop().end()


def _patience(path: Path) -> Seconds:
    try:
        return PATIENCE + PATIENCE_PER_MIB * path.stat().st_size / (1 << 20)
    except (OSError, ValueError):
        return PATIENCE


def _conclude(kind: bytes, words: str) -> None:
    if kind == b"E":
        raise MediaError(words)
    if kind == b"X":
        raise MediaError(f"the decoder failed: {words}")
