"""Random neighbours merge: the baseline of FastAdaSP (arXiv 2410.03007, its Table 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from ..flops import WEIGHTS, Scoring
from ..merge import Plan
from .base import AudioView, Method, Signal
from .choose import chance, largest, pairs, received_by_members, removed


@dataclass(frozen=True, slots=True)
class RandomMerge(Method):
    """Join random neighbours, weighed by the attention they received, as the published code does.

    At the input, where nothing has been attended to yet, the mean is plain.

    Attributes:
        seed: another seed, another choice.
    """

    name: ClassVar[str] = "random-merge"
    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.RECEIVED})
    scoring: ClassVar[Scoring] = WEIGHTS
    seed: int = 0

    def plan(self, view: AudioView, kept: Sequence[int]) -> Plan:
        """Joins of random adjacent pairs; chains collapse into one token."""
        counts = pairs(view.lengths)
        scores = chance(counts, kept, self.seed, view.sizes)
        gone = removed(view.lengths, kept)
        joined = largest(scores, counts, gone)
        weight = torch.ones_like(view.sizes)
        if view.received is not None:
            weight = received_by_members(view.received, joined, gone)
        return Plan.from_joins(joined, weight, view.lengths, kept)
