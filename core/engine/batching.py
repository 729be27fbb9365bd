"""Groups of segments that go through the model together: similar lengths, bounded look-ahead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from ..records import Segment

LOOK_AHEAD = 4
"""How many batches are read before the first is formed."""


def batches(segments: Iterable[Segment], size: int) -> Iterator[list[Segment]]:
    """Groups of at most `size` segments, longest first inside each look-ahead window.

    Segments of many recordings may share a batch. Longest first: what does not fit in memory
    shows at once.
    """
    source = iter(segments)
    while window := list(islice(source, size * LOOK_AHEAD)):
        window.sort(key=lambda segment: -len(segment.samples))
        for first in range(0, len(window), size):
            yield window[first : first + size]
