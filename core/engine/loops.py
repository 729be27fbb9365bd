"""Has an answer run in a loop? Told from people who repeat themselves: counting, spelling, singing.

A model in a loop seldom finds its end: an answer that is cut off at its cap in the middle of
repeats is one. An answer that ended by itself is one only if most of it is the same few tokens, it
packs as only loops do (Whisper's limit), and nobody would have said them so often or so fast.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from ..records import Seconds
from .generate import Answer

TIMES = 4
"""Repeats of the same few tokens, one after the other, from which on they may be a loop."""

_PERIODS = range(1, 41)
_TIMES_FOR_CERTAIN = 8
_TOKENS_PER_SECOND = 8  # English is spoken at 3 to 5
_MOST_PACKED = 2.4  # bytes of text per byte of zlib, Whisper's compression_ratio_threshold


def looped(answer: Answer, text: str, seconds: Seconds) -> bool:
    """Whether an answer to so many seconds of audio ran in a loop.

    Args:
        answer: its tokens.
        text: the same in letters.
        seconds: length of what was heard.
    """
    ids = answer.ids
    if not answer.ended:
        return any(_tail(ids, period) >= TIMES * period for period in _PERIODS)
    most, times = longest_run(ids)
    often = times >= _TIMES_FOR_CERTAIN or most > _TOKENS_PER_SECOND * seconds
    return 2 * most >= len(ids) > 0 and often and packed(text) > _MOST_PACKED


def longest_run(ids: Sequence[int]) -> tuple[int, int]:
    """Tokens of the longest stretch that is `TIMES` or more repeats, and how many; else (0, 0)."""
    best = (0, 0)
    for period in _PERIODS:
        run = 0
        for now, before in zip(ids[period:], ids, strict=False):
            run = run + 1 if now == before else 0
            times = (run + period) // period
            if times >= TIMES and run + period > best[0]:
                best = (run + period, times)
    return best


def packed(text: str) -> float:
    """Bytes of the text per byte of what zlib makes of it; 0 for none."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def _tail(ids: Sequence[int], period: int) -> int:
    """Tokens at the end that repeat at this distance, the first of them included."""
    run = 0
    for now, before in zip(reversed(ids), reversed(ids[:-period]), strict=False):
        if now != before:
            break
        run += 1
    return run + period if run else 0
