"""One segment on its way through the model."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

from ..flops import PromptLengths
from ..records import Hypothesis, Seconds, Segment
from ..reduction import Observed
from ..scheduler import Budget
from .cost import Spent
from .greedy import Row


@dataclass(slots=True)
class Job:
    """What is known of a segment before, while and after the model answers it.

    Attributes:
        segment: what was heard.
        prompt: token counts, those of the audio by its length until it is encoded.
        budget: what is to be kept of the prompt in each layer.
        observed: what was; None before its prefill.
        cap: most new tokens.
        kind: jobs of one kind are reduced by one method and may go together.
        size: bytes that its row takes at its fullest, see `memory.row_bytes`.
        stem: jobs of equal stems are alike up to the end of the audio (see `stems`); None: of none.
        words: ids behind the audio.
        sharing: jobs that the stem was prefilled for at once.
        apart: how many of the words were not in the stem then.
        most: rows it may stand among; fewer once it was there when a step failed.
        company: most rows it was answered among, itself included.
        failures: why attempts in larger company failed, but for a lack of memory.
        encoder_flops: its own, padding in its group included.
        spent: its shares of the time.
        row: its answer in the pool.
    """

    segment: Segment
    prompt: PromptLengths
    budget: Budget
    cap: int
    size: int
    kind: int = 0
    stem: Hashable = None
    words: Sequence[int] = ()
    sharing: int = 1
    apart: int = 0
    most: int = sys.maxsize
    company: int = 0
    failures: list[str] = field(default_factory=list)
    observed: Observed | None = None
    encoder_flops: int = 0
    spent: Spent = field(default_factory=Spent)
    row: Row | None = None


def asked(segment: Segment) -> list[Segment]:
    """A segment for each of its tasks, one after the other; itself where there is but one."""
    return [replace(segment, tasks=(task,)) for task in segment.tasks] or [segment]


def sound_of(piece: Segment | Hypothesis) -> tuple[str, Seconds, Seconds]:
    """What a segment, or its answer, has in common with those of its other tasks: pieces of equal
    times are equal, however they were cut."""
    return piece.recording_id, piece.start, piece.end


def task_of(segment: Segment) -> str | None:
    """The task of one out of `asked`."""
    return segment.tasks[0] if segment.tasks else None
