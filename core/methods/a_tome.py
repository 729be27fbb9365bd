"""A-ToMe (Li et al., Interspeech 2023, arXiv 2306.16009), as FastAdaSP compares itself with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..flops import Scoring
from ..merge import Plan
from .base import AudioView, Method
from .choose import adjacent_cosine, column, order, pairs, removed


@dataclass(frozen=True, slots=True)
class AToMe(Method):
    """Merge pairs of neighbours with the most similar keys, never more than two tokens.

    As coded by FastAdaSP's authors: of the m most similar pairs, those that overlap with one
    already taken are skipped, from left to right. They so remove fewer than m tokens; here m grows
    until as many pairs are left as the budget asks for, which half of the tokens always allows.
    """

    name: ClassVar[str] = "a-tome"
    scoring: ClassVar[Scoring] = Scoring(dots=2)
    most: ClassVar[float] = 0.5

    def plan(self, view: AudioView, kept: Sequence[int]) -> Plan:
        """Joins of disjoint pairs; the mean is plain."""
        likeness = adjacent_cosine(view.keys)
        best = order(likeness, pairs(view.lengths))
        rank = torch.empty_like(best).scatter_(
            1, best, torch.arange(best.shape[1], device=best.device).expand_as(best)
        )
        joined = disjoint(rank, column(removed(view.lengths, kept), best))
        return Plan.from_joins(joined, torch.ones_like(view.sizes), view.lengths, kept)


def disjoint(rank: Tensor, wanted: Tensor) -> Tensor:
    """Disjoint pairs among the best of each row: as few of the best as give `wanted` pairs.

    One more candidate never takes a pair away and never gives two, so bisection on the number of
    candidates meets `wanted` exactly.

    Args:
        rank: place of each pair, 0 = most alike, (batch, pairs).
        wanted: (batch, 1), at most half of the row's tokens.

    Returns:
        (batch, pairs), bool.
    """
    low = torch.zeros_like(wanted)
    high = torch.full_like(wanted, rank.shape[1])
    for _ in range(rank.shape[1].bit_length()):
        middle = (low + high) // 2
        enough = _leftmost(rank < middle).sum(1, keepdim=True) >= wanted
        high = torch.where(enough, middle, high)
        low = torch.where(enough, low, middle + 1).clamp_max(high)
    return _leftmost(rank < high)


def _leftmost(candidates: Tensor) -> Tensor:
    """Every other pair of each run of candidates, its first one included."""
    places = torch.arange(candidates.shape[1], device=candidates.device).expand_as(candidates)
    before = places.masked_fill(candidates, -1).cummax(1).values
    return candidates & ((places - before) % 2 == 1)
