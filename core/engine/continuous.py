"""Continuous batching: a segment that has its answer makes way for the next one at once.

Segments are encoded and prefilled in groups, on a CPU in portions of these (see `windows.runs`),
and then join the rows that are being decoded. With beams a group is a batch: it is decoded to its
end before the next begins. Rows of several tasks stand side by side where one method reduces them;
else a kind waits for the rows of another to end.

When does the next group start? One by one, every prefill would pay alone for what a group shares
(weights that are read, kernels that are launched), and moving the rows together costs about a step
each time; waiting for all rows leaves the machine ever emptier. With R rows, answers of L steps and
a start that costs as much as s steps whatever its size, waiting for k free rows costs s/k + kL/2R^2
steps a row, least at k = R sqrt(2s/L). That is flat around its minimum, and with s of 2 to 4 and L
of 20 to 100 it lies between a fifth and two thirds of R: here it is a quarter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain

import torch

from ..errors import first_line
from ..records import Cost, Hypothesis, Segment
from .batching import Waiting, portions
from .generate import Prefilled
from .greedy import Pool
from .hypotheses import failed
from .job import Job, asked
from .memory import Room, out_of_memory
from .runner import Runner

FREE_SHARE = 4
"""One in so many rows must be free before the next group starts."""


class Continuous:
    """Iterate for the answers, each as soon as it is there; a segment's own failure is one too.

    What does not fit in memory goes back to the head of the line and is tried with less, down to
    one segment alone. Any other error is followed down to the segment that causes it.

    Args:
        runner: takes groups through the model.
        rows: most that are decoded together.
        room: what they may take together; it learns.
        segments: drawn lazily, see `Waiting`; what it raises ends the iteration.
    """

    def __init__(self, runner: Runner, rows: int, room: Room, segments: Iterable[Segment]) -> None:
        self._runner, self._rows, self._room = runner, rows, room
        self._waiting = Waiting(self._jobs(segments), rows, runner.kinds)
        self._pool = Pool(runner.decoder)
        self._under_way: list[Job] = []
        self._full = 0
        self._done: deque[Hypothesis] = deque()

    def __iter__(self) -> Iterator[Hypothesis]:
        """Go on until no segment is left."""
        while True:
            over = not self._begin() and not self._under_way
            if self._under_way:
                self._step()
            while self._done:
                yield self._done.popleft()
            if over:
                return

    def _jobs(self, segments: Iterable[Segment]) -> Iterator[Job]:
        for segment in chain.from_iterable(map(asked, segments)):
            try:
                job = self._runner.job(segment)
            except Exception as error:
                self._done.append(failed(segment, error, Cost()))
            else:
                yield job

    def _begin(self) -> bool:
        """Start the next group if it is time to; whether one was started or tried."""
        free = self._full - len(self._under_way)
        if self._under_way and free < max(1, self._full // FREE_SHARE):
            return False
        group = self._waiting.take(self._rows - len(self._under_way), self._fits)
        if group:
            self._start(group)
        self._full = len(self._under_way)
        return bool(group)

    def _fits(self, group: Sequence[Job]) -> bool:
        rows = [*self._under_way, *group]
        if rows[0].kind != rows[-1].kind:
            return False
        most = min(job.most for job in rows)
        # one alone is always tried
        return len(rows) == 1 or (len(rows) <= most and self._room.holds(_wanted(rows)))

    def _start(self, group: list[Job]) -> None:
        mixes = self._runner.mixes(group[0])
        self._room.recover()
        try:
            if mixes:
                starts = self._prefilled(group)
            else:
                found = self._runner.search(self._runner.start(group), group)
            self._room.check()
        except Exception as error:
            if len(group) == 1 or out_of_memory(error):
                self._back_off(group, self._under_way, error)
                return
            # one of them is to blame, whoever is being decoded is not
            self._gave_up(group, error)
            half = len(group) // 2
            self._start(group[:half])
            self._start(group[half:])
            return
        self._room.settle()
        if mixes:
            self._join(starts, group)
        else:
            self._done.extend(found)

    def _prefilled(self, group: list[Job]) -> list[Prefilled]:
        """Start a group portion by portion; whoever is done first waits for the others."""
        parts = portions(group, self._runner.lm.device)
        starts = [self._runner.start(part) for part in parts]
        waited = sum(part[0].spent.first_token for part in parts)
        for job in group:
            job.spent.first_token = waited
        return starts

    def _join(self, starts: Sequence[Prefilled], group: list[Job]) -> None:
        self._under_way += group
        try:
            with torch.inference_mode():
                rows = self._pool.join(starts, [job.cap for job in group])
            self._room.check()
        except Exception as error:
            self._start_over(error)
            return
        self._runner.prefilled(group)
        for job, row in zip(group, rows, strict=True):
            job.row = row
        for job in self._under_way:
            job.company = max(job.company, len(self._under_way))
        self._land()

    def _step(self) -> None:
        self._runner.clock.lap()
        try:
            with torch.inference_mode():
                self._pool.step()
            self._room.check()
        except Exception as error:
            self._start_over(error)
            return
        self._runner.stepped(self._under_way)
        self._land()

    def _land(self) -> None:
        rows = [(job, job.row) for job in self._under_way if job.row is not None]
        self._under_way = [job for job, row in rows if row.open]
        for job, row in rows:
            if not row.open:
                self._done.append(self._runner.answered(job, row.answer, row.fed))

    def _start_over(self, error: Exception) -> None:
        """A pool that failed on the way is of no more use: its rows go back to the line."""
        group, self._under_way = self._under_way, []
        self._pool = Pool(self._runner.decoder)
        self._back_off(group, [], error)

    def _back_off(self, group: list[Job], beside: Sequence[Job], error: Exception) -> None:
        """Let a group that failed try again in smaller company; alone, it has failed for good."""
        self._gave_up(group, error)
        rows, memory = [*beside, *group], out_of_memory(error)
        if len(rows) == 1 or (len(group) == 1 and not memory):
            self._room.forgive()
            self._done.append(self._runner.failed(group[0], error))
            return
        if memory:
            self._room.shrink(_wanted(rows))
        else:
            for job in group:
                job.most = len(group) // 2
        self._waiting.put_back(group)

    def _gave_up(self, group: Sequence[Job], error: Exception) -> None:
        """Note an attempt that failed: who is answered in smaller company says so."""
        if len(group) > 1 and not out_of_memory(error):
            for job in group:
                job.failures.append(first_line(error))
        with suppress(RuntimeError):  # a device that is lost for good fails here too
            self._runner.gave_up(group)


def _wanted(jobs: Sequence[Job]) -> int:
    """Bytes of their rows, each padded to the longest."""
    return len(jobs) * max(job.size for job in jobs)
