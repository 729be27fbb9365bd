"""How a study that measures says what it is at."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float], None]
"""Told what is about to run, and which share of the work is done, 0 to 1."""


def part(progress: Progress, name: str, begin: float, end: float) -> Progress:
    """What a part of the work is to tell, which lies between these shares of the whole."""
    return lambda words, done: progress(f"{name}: {words}", begin + (end - begin) * done)


def beams_of(width: int) -> str:
    """So many beams, in words."""
    return f"{width} beam{'s' * (width > 1)}"


class Steps:
    """Counts steps that take unequally long.

    Args:
        progress: told of each.
        total: weights of all of them.
    """

    def __init__(self, progress: Progress, total: float) -> None:
        self._progress, self._total = progress, total
        self._done = self._now = 0.0

    def begin(self, words: str, weight: float = 1.0) -> None:
        """What was at work is done, and what `words` name begins."""
        self._done, self._now = self._done + self._now, weight
        self._progress(words, self._done / self._total)
