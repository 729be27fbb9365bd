"""Groups of segments that a study takes through the model together, and what to do if one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import torch

from ..engine.hypotheses import failed
from ..errors import FastAdaSPError
from ..records import Cost, Hypothesis, Segment

LOOK_AHEAD = 4
"""How many groups are read before the first is formed."""


def groups(segments: Iterable[Segment], size: int) -> Iterator[list[Segment]]:
    """Groups of at most `size` segments, longest first inside each look-ahead window.

    Segments of many recordings may share a batch. Longest first: what does not fit in memory
    shows at once.
    """
    source = iter(segments)
    while window := list(islice(source, size * LOOK_AHEAD)):
        window.sort(key=lambda segment: -len(segment.samples))
        for first in range(0, len(window), size):
            yield window[first : first + size]


def by_halves(
    batch: Sequence[Segment], work: Callable[[Sequence[Segment]], list[Hypothesis]]
) -> list[Hypothesis]:
    """Do a batch; one that fails (out of memory) is halved, a segment that fails alone says so.

    Args:
        batch: at least one segment.
        work: answers to segments, in their order; must leave nothing behind when it raises.
    """
    try:
        return work(batch)
    except (FastAdaSPError, RuntimeError, ValueError) as error:
        if len(batch) == 1:
            return [failed(batch[0], error, Cost())]
    torch.cuda.empty_cache()
    half = len(batch) // 2
    return by_halves(batch[:half], work) + by_halves(batch[half:], work)
