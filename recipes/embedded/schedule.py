"""What changes in the course of training, as functions of the elapsed share of the time budget."""

import math
from dataclasses import replace
from random import Random

import numpy as np

from .dataset import Item, group_by_length
from .losses import Weights

_STAGES = ((0.12, 3.2), (0.28, 6.0), (0.42, 11.0))
"""Until this share of the time, only recordings shorter than this many seconds."""

_WARM_UP_STEPS = 200
_FLAT_UNTIL = 0.3
_FINAL_RATE = 0.01
_WEAKEN_FROM = 0.6
_FADING = ("words", "voices", "moods", "others")


def longest_seconds(progress: float) -> float:
    """Return the length limit of the curriculum at `progress` in 0..1."""
    return next((limit for until, limit in _STAGES if progress < until), math.inf)


def rate_factor(progress: float, step: int) -> float:
    """Return the share of the peak learning rate: warm-up, flat, cosine down to 1 %."""
    warm = min(1.0, (step + 1) / _WARM_UP_STEPS)
    falling = max(0.0, (progress - _FLAT_UNTIL) / (1 - _FLAT_UNTIL))
    return warm * (_FINAL_RATE + (1 - _FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * falling)))


def loss_weights(progress: float) -> Weights:
    """Return the weights of the auxiliary losses; those on the audio tokens fade to a fifth.

    They make the audio tokens of one word alike. That helps to learn and then only flattens what
    token reduction could tell apart.
    """
    fading = max(0.0, (progress - _WEAKEN_FROM) / (1 - _WEAKEN_FROM))
    full = Weights()
    faded = {name: (1 - 0.8 * fading) * getattr(full, name) for name in _FADING}
    return replace(full, **faded)


class Curriculum:
    """Hands out batches: those items first that were used least, within the length limit.

    `uses` counts how often each item was handed out; saving it is enough to resume.
    """

    def __init__(
        self, items: list[Item], batch_seconds: float, seed: int, begun: bool = False
    ) -> None:
        """Start with every item unused; a model that has `begun` to learn takes any length."""
        self.uses = np.zeros(len(items), np.int16)
        self._items = items
        self._seconds = np.array([item.seconds for item in items])
        self._batch_seconds = batch_seconds
        self._seed = seed
        self._begun = begun
        self._limit = 0.0
        self._queue: list[list[Item]] = []
        self._number = {id(item): number for number, item in enumerate(items)}

    def next_batch(self, progress: float) -> list[Item]:
        """Return the next batch for `progress` in 0..1."""
        limit = math.inf if self._begun else longest_seconds(progress)
        if not self._queue or limit != self._limit:
            self._fill(limit)
        batch = self._queue.pop()
        for item in batch:
            self.uses[self._number[id(item)]] += 1
        return batch

    def _fill(self, limit: float) -> None:
        allowed = np.flatnonzero(self._seconds < limit)
        fresh = allowed[self.uses[allowed] == self.uses[allowed].min()]
        rng = Random(f"{self._seed}/{int(self.uses.sum())}")
        self._limit = limit
        self._queue = group_by_length([self._items[i] for i in fresh], self._batch_seconds, rng)
