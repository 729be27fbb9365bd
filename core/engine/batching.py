"""Who goes next: a bounded look-ahead of the segments, in which like lengths stand together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, groupby

import torch

from .job import Job, sound_of
from .windows import runs

LOOK_AHEAD, MOST_AHEAD = 4, 128
"""Batches that are read before the first is formed, and segments that are read at the most."""

SECONDS_AHEAD = 1200.0
"""Of audio, after which no more segments are read: at 16 kHz they take 77 MB."""


def portions(group: Sequence[Job], device: torch.device) -> list[list[Job]]:
    """A group in the order given, in `windows.runs`; the tasks of one sound stay together."""
    apart = [list(tasks) for _, tasks in groupby(group, key=lambda job: sound_of(job.segment))]
    seconds = [tasks[0].segment.duration for tasks in apart]
    return [list(chain(*apart[run])) for run in runs(seconds, device)]


class Waiting:
    """Jobs that have not begun; segments of many recordings stand side by side.

    The first window goes longest first, so that what does not fit in memory shows at once; the
    next one shortest first, and so on: windows meet at like lengths. Kinds stand apart inside. The
    first is one batch, so that the model begins as soon as that is read; each is twice as long as
    the one before, until they are as long as they may be.

    Args:
        jobs: drawn lazily, a window at a time.
        size: rows of a full batch.
        kinds: of jobs, each with so many batches in a window.
    """

    def __init__(self, jobs: Iterable[Job], size: int, kinds: int = 1) -> None:
        self._source = iter(jobs)
        self._seconds = kinds * SECONDS_AHEAD
        self._size = kinds * size
        self._most = kinds * max(size, min(LOOK_AHEAD * size, MOST_AHEAD))
        self._window: deque[Job] = deque()
        self._longest_first = True

    def take(self, most: int, fits: Callable[[Sequence[Job]], bool]) -> list[Job]:
        """The next jobs in line, up to `most`, as many as `fits` lets go together.

        Those of one stem go together if they can. Reads on at a window's end.
        """
        group: list[Job] = []
        while len(group) < most and self._fill() and fits([*group, self._window[0]]):
            group.append(self._window.popleft())
        stem = self._window[0].stem if self._window else None
        first = next((n for n, job in enumerate(group) if stem and job.stem == stem), 0)
        if first:
            self.put_back(group[first:])
        return group[:first] if first else group

    def put_back(self, jobs: Sequence[Job]) -> None:
        """To the head of the line, in this order."""
        self._window.extendleft(reversed(jobs))

    def _fill(self) -> bool:
        """Whether anyone waits, after reading the next window if the last one is used up."""
        if self._window:
            return True
        read: list[Job] = []
        ahead = 0.0
        while len(read) < self._size and ahead < self._seconds:
            job = next(self._source, None)
            if job is None:
                break
            read.append(job)
            ahead += job.segment.duration
        self._size = min(2 * self._size, self._most)
        # tasks of a segment side by side, also where they were not read so
        read.sort(key=lambda job: sound_of(job.segment))
        read.sort(key=lambda job: job.segment.duration, reverse=self._longest_first)
        read.sort(key=lambda job: job.kind)
        self._longest_first = not self._longest_first
        self._window.extend(read)
        return bool(read)
