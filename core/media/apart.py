"""Decode in a process apart, so that a hostile file costs its own record and not the run.

Codec libraries are written in C: a file made for it can crash them, hang them or fill the memory,
and no `except` helps. A process takes some tenths of a second to start and is used for one file
after another; the sound comes through a pipe.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np

from ..errors import MediaError
from ..records import Json, Seconds, Waveform
from .blocks import one_line
from .child import HEADER, STALL, TOO_LONG
from .launch import launch
from .listening import Listening
from .watch import Watch

PATIENCE: Seconds = 120.0
PATIENCE_PER_MIB: Seconds = 10.0
"""Seconds that decoding may take in all, by the file's size: a hundred times what it needs."""
_LARGEST_MESSAGE = 1 << 28  # bytes; a block of the highest rate is a fifth of it
_LAST_WORDS = 2_000  # bytes of stderr that are kept, and characters of its last line that are told
_TOLD = 200


def decode_apart(
    path: Path,
    sample_rate: int = 16_000,
    warn: Callable[[str], None] | None = None,
    offset: Seconds | None = None,
    duration: Seconds | None = None,
    how: Listening | None = None,
) -> Iterator[Waveform]:
    """Yield the sound of a file as `decode` does, whatever the file does to the decoder.

    Args:
        path: the file.
        sample_rate: Hz of the result.
        warn: called with one line about things that are odd but no loss.
        offset, duration: a part of it, see `part`; None = not said.
        how: which tracks and channels; None = the defaults.

    Yields:
        float32 arrays of shape (n,), n > 0.

    Raises:
        MediaError: as `decode` does; also when the decoder crashed, when a block took longer than
            `STALL` seconds, or when all of it took longer than `PATIENCE` and `PATIENCE_PER_MIB`;
            time in which this process was stopped does not count.
    """
    with _lent() as decoder:
        asked = _request(path, "sound", how or Listening(), sample_rate)
        asked |= {"offset": offset, "duration": duration}
        yield from decoder.blocks(path, asked, warn or (lambda text: None))


def probe_apart(path: Path) -> Seconds | None:
    """Seconds that the file's header declares, as `decode.probe_duration` finds them; or None."""
    try:
        with _lent() as decoder:
            return decoder.number(path, _request(path, "seconds", Listening()))
    except MediaError:
        return None


def count_channels_apart(path: Path, how: Listening) -> int | None:
    """Channels of the track that is heard of a file; None where it cannot be read."""
    try:
        with _lent() as decoder:
            found = decoder.number(path, _request(path, "channels", how))
    except MediaError:
        return None
    return None if found is None else int(found)


def _request(path: Path, wanted: str, how: Listening, rate: int = 0) -> Json:
    # as bytes: the process may have another locale
    name = os.fsencode(os.path.abspath(path)).decode("latin-1")
    return {"path": name, "wanted": wanted, "rate": rate, **asdict(how)}


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
        self._process = launch()
        self.idle = True
        self._late = False
        self._heard: Seconds = 0.0
        self._said = bytearray()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def blocks(self, path: Path, asked: Json, warn: Callable[[str], None]) -> Iterator[Waveform]:
        """The sound of one file; `idle` is False afterwards if the process is lost."""
        for kind, content in self._answer(path, asked):
            if kind == b"B" and content:
                block = np.frombuffer(bytearray(content), np.float32)  # one that may be changed
                self._heard = self._heard or asked["offset"] or 0.0
                self._heard += len(block) / asked["rate"]
                yield block
            elif kind == b"W":
                warn(content.decode())

    def number(self, path: Path, asked: Json) -> float | None:
        """What was asked about one file."""
        *_, (_, content) = self._answer(path, asked)
        return float(content) if content else None

    def _answer(self, path: Path, asked: Json) -> Iterator[tuple[bytes, bytes]]:
        """Messages about one file up to the last, which is no error."""
        self.idle = False
        self._heard = 0.0
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died while idle: seen when its answer is read
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            self._process.stdin.flush()
        left = _patience(path)
        while True:
            watch = Watch(min(left, STALL), self._give_up)
            kind, content = self._message(watch)
            left -= watch.spent
            if kind == b"L":
                _tell_unlimited(content.decode())
                continue
            if kind in b"DEX":
                self.idle = True
                self._said.clear()  # not before the first: it may be dead already, and say why
                _conclude(kind, content.decode())
            yield kind, content
            if kind == b"D":
                return

    def _message(self, watch: Watch) -> tuple[bytes, bytes]:
        with watch:
            head = self._read(HEADER.size)
            kind, size = HEADER.unpack(head) if len(head) == HEADER.size else (b"", 0)
            content = self._read(size) if size <= _LARGEST_MESSAGE else b""
        if not kind or len(content) < size:
            raise MediaError(self._obituary())
        return kind, content

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.read(size)

    def _give_up(self) -> None:
        self._late = True
        self._process.kill()

    def _listen(self) -> None:
        """Keep the end of what it says on stderr, or it would wait for a reader."""
        assert self._process.stderr is not None
        while said := os.read(self._process.stderr.fileno(), 1 << 16):
            self._said += said
            del self._said[:-_LAST_WORDS]

    def _obituary(self) -> str:
        self._process.kill()
        code = self._process.wait()
        self._listener.join(1.0)
        late = self._late or -code in TOO_LONG
        words = ": ".join([str(code), *_last_line(self._said)])
        why = "decoding it takes too long" if late else f"it crashed the decoder ({words})"
        return f"breaks off at {self._heard:.1f} s: {why}"

    def end(self) -> None:
        """End the process, whatever it is at."""
        self._process.kill()
        self._process.wait()
        self._listener.join(1.0)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


_idle: list[_Decoder] = []


@contextmanager
def _lent() -> Iterator[_Decoder]:
    decoder = _take()
    try:
        yield decoder
    finally:
        if decoder.idle:
            _idle.append(decoder)
        else:  # dead, or still at a file that nobody wants any more
            decoder.end()


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


def _last_line(said: bytes | bytearray) -> list[str]:
    """The last line of what a process said, if it said anything."""
    text = "".join(char if char.isprintable() else "\n" for char in said.decode(errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [line[-_TOLD:] for line in lines[-1:]]


@cache
def _tell_unlimited(what: str) -> None:
    logging.getLogger(__name__).warning(
        "this system sets the decoding process no limit of %s: decode recordings of strangers on"
        " another one",
        what,
    )


def _conclude(kind: bytes, words: str) -> None:
    if kind == b"E":
        raise MediaError(words)
    if kind == b"X":
        raise MediaError(f"the decoder failed: {words}")
