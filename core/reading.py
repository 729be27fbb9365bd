"""Recordings are decoded and cut in worker threads, ahead of the model and within bounds.

A few files are in flight at a time, each with a short queue of segments, so memory depends neither
on the number of files nor on their length. Knows records and errors; what decodes and cuts is
handed in.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import TracebackType
from typing import Protocol, Self

from .errors import FastAdaSPError, StartError, UsageError
from .records import Failure, Recording, Seconds, Segment

WORKERS = max(2, min(4, (os.cpu_count() or 1) // 4))
"""Threads that read; two are several hundred times as fast as real time, a GPU may want more."""

FILES_AHEAD, SEGMENTS_AHEAD = 96, 128
SECONDS_AHEAD = 1200.0
"""What is read before it is asked for: recordings, segments of one, seconds in all (77 MB of sound
at 16 kHz, and its features). About as much as the engine looks ahead: its next window is there when
it wants it."""

_HEAD_START = 8  # segments of the recording that is waited for, however full the rest is
_PATIENCE_S = 10.0  # far more than a block of sound takes


class Cut(Protocol):
    """Segments of one recording; the numbers are final once they have all been drawn."""

    @property
    def audio_s(self) -> Seconds:
        """Seconds decoded."""

    @property
    def load_s(self) -> Seconds:
        """Time taken by decoding."""

    @property
    def segment_s(self) -> Seconds:
        """Time taken by cutting."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Names of things that are odd but no loss."""

    def __iter__(self) -> Iterator[Segment]:
        """Draw the segments; raises MediaError when the file cannot be read to its end."""


Read = Callable[[Recording, Callable[[], None]], Cut]
"""Decodes and cuts one recording; calls the second argument at every block, which raises when the
run is over."""


class Reading:
    """One recording in flight: iterate for its segments, then look at `failure` and `cut`.

    Attributes:
        recording: which one.
        cut: its segments and numbers; None when it could not even be opened.
        failure: why it could not be read, or not to its end.
        fatal: an error that the whole run must end with.
    """

    def __init__(self, recording: Recording, ahead: _Ahead) -> None:
        """Nothing is read yet."""
        self.recording = recording
        self.cut: Cut | None = None
        self.failure: Failure | None = None
        self.fatal: FastAdaSPError | None = None
        self._ahead = ahead
        self._queue: SimpleQueue[Segment | None] = SimpleQueue()

    def __iter__(self) -> Iterator[Segment]:
        """Segments in order, each as soon as it is cut."""
        with self._ahead.changing() as ahead:
            ahead.head = self
        while (segment := self._queue.get()) is not None:
            with self._ahead.changing() as ahead:
                ahead.seconds -= segment.duration
            yield segment
        if self.fatal is not None:
            raise self.fatal

    def fill(self, read: Read) -> None:
        """Read the recording; called in a worker thread."""
        try:
            self.cut = read(self.recording, self._check)
            for segment in self.cut:
                self._put(segment)
        except _Stopped:
            return
        except (UsageError, StartError) as error:
            self.fatal = error
        except FastAdaSPError as error:
            self.failure = Failure(type(error).__name__, str(error))
        except Exception as error:
            # a bug or a broken library costs this recording, not the night's run
            self.failure = Failure(type(error).__name__, " ".join(str(error).split()))
        self._end()

    def _end(self) -> None:
        try:
            self._put(None)
        except _Stopped:
            return

    def _check(self) -> None:
        if self._ahead.stop:
            raise _Stopped

    def _put(self, item: Segment | None) -> None:
        with self._ahead.changed:
            self._ahead.changed.wait_for(
                lambda: self._ahead.stop or item is None or self._may_go_on
            )
            self._check()
            self._ahead.seconds += item.duration if item is not None else 0.0
            self._queue.put(item)

    @property
    def _may_go_on(self) -> bool:
        waiting = self._queue.qsize()
        # files are begun in order, so the one that is waited for always goes on
        if self._ahead.head is self and waiting < _HEAD_START:
            return True
        return waiting < SEGMENTS_AHEAD and self._ahead.seconds < SECONDS_AHEAD


class _Ahead:
    """What all readings share.

    Attributes:
        changed: held while any of the others changes, and told.
        stop: the run is over.
        head: who is waited for.
        seconds: in all queues.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.stop = False
        self.head: Reading | None = None
        self.seconds: Seconds = 0.0

    @contextmanager
    def changing(self) -> Iterator[Self]:
        with self.changed:
            yield self
            self.changed.notify_all()


class _Stopped(Exception):
    """The run is over; the thread may go."""


class ReadAhead:
    """Iterate for `Reading`s in the order of `recordings`; leaving the context ends the threads.

    Args:
        recordings: drawn lazily, at most `FILES_AHEAD` before they are used.
        read: decodes and cuts one recording.
    """

    def __init__(self, recordings: Iterable[Recording], read: Read) -> None:
        """Nothing starts before the context is entered."""
        self._recordings = iter(recordings)
        self._read = read
        self._ahead = _Ahead()
        self._jobs: SimpleQueue[Reading | None] = SimpleQueue()
        # daemons, so that a hanging file cannot keep the process alive
        self._workers = [threading.Thread(target=self._work, daemon=True) for _ in range(WORKERS)]

    def __enter__(self) -> Self:
        """Start the workers."""
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Tell the workers to stop, whatever they are waiting for, and see them off.

        The interpreter aborts when it ends while a decoder is at work in a thread.
        """
        with self._ahead.changing() as ahead:
            ahead.stop = True
        for _ in self._workers:
            self._jobs.put(None)
        deadline = time.monotonic() + _PATIENCE_S
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))

    def __iter__(self) -> Iterator[Reading]:
        """Readings, the first ones already being filled."""
        ahead: deque[Reading] = deque()
        for recording in self._recordings:
            reading = Reading(recording, self._ahead)
            self._jobs.put(reading)
            ahead.append(reading)
            if len(ahead) == FILES_AHEAD:
                yield ahead.popleft()
        yield from ahead

    def _work(self) -> None:
        while (reading := self._jobs.get()) is not None and not self._ahead.stop:
            reading.fill(self._read)
