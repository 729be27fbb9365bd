"""95 % intervals by resampling the recordings, alone and paired with the full model.

A draw is how often each recording was taken. The same draws serve all measures and all points of
a set, so the difference of two points is taken draw by draw: what is hard in a draw is hard for
both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .tallies import Counts, Measure, Tally

_TAILS = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Score:
    """One measure of one point.

    Attributes:
        measure: what it means.
        estimate: in percent or points.
        difference: to the full model, paired; None for the full model itself.
    """

    measure: Measure
    estimate: Estimate
    difference: Estimate | None = None


def scores(
    point: Sequence[Tally], full: Sequence[Tally] | None, draws: int, seed: int
) -> tuple[Score, ...]:
    """Every measure of a point.

    Args:
        point: its tallies, over the same recordings in the same order as `full`.
        full: tallies of the full model; None when the point is the full model.
        draws: number of resamples.
        seed: of the resampling.
    """
    found = []
    for index, tally in enumerate(point):
        taken = weights(len(tally.rows), draws, seed)
        here = _values(tally, taken)
        difference = None
        if full is not None:
            difference = _estimate(here - _values(full[index], taken))
        found.append(Score(tally.measure, _estimate(here), difference))
    return tuple(found)


@lru_cache(maxsize=1)
def weights(recordings: int, draws: int, seed: int) -> Counts:
    """How often each recording is taken: all of them once, then each draw; (1 + draws, n)."""
    generator = np.random.default_rng(seed)
    taken = generator.multinomial(recordings, np.full(recordings, 1 / recordings), size=draws)
    return np.concatenate([np.ones((1, recordings)), taken])


def _values(tally: Tally, taken: Counts) -> Counts:
    return tally.value(taken @ tally.rows)


def _estimate(values: Counts) -> Estimate:
    low, high = np.quantile(values[1:], _TAILS) if len(values) > 1 else (values[0], values[0])
    return Estimate(float(values[0]), float(low), float(high))
