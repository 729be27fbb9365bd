"""H2O (Zhang et al., NeurIPS 2023, arXiv 2306.14048, section 4): heavy hitters and the latest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from ..evict import CachePlan
from ..flops import RECEIVED, Scoring
from .base import CacheMethod, CacheView, Signal
from .choose import column, largest


@dataclass(frozen=True, slots=True)
class H2O(CacheMethod):
    """Keep the keys that received most attention so far, of each head, and the most recent ones.

    As published: the score is the attention summed over all queries, not divided by how many could
    see the key; each head keeps its own tokens; half of the budget goes to the latest tokens,
    counted from the prompt's end. Departures: text always stays, so the recent half is first the
    text behind the audio and then the end of the audio; query heads that share a key head are
    summed; scores are those of the prefill, and what is generated always stays, since decoding
    through a fused kernel yields no attention weights.

    Attributes:
        recent: share of the budget for the latest tokens (the paper's experiments: half).
    """

    name: ClassVar[str] = "h2o"
    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.RECEIVED})
    scoring: ClassVar[Scoring] = RECEIVED
    recent: float = 0.5

    def plan(self, view: CacheView, kept: Sequence[int]) -> CachePlan:
        """The latest audio and, of the rest, each head's largest column sums stay."""
        if view.received is None:
            raise ValueError("h2o needs the received attention")
        budgets = [row.text + left for row, left in zip(view.rows, kept, strict=True)]
        latest = [
            min(left, max(0, int(self.recent * budget) - row.after))
            for row, left, budget in zip(view.rows, kept, budgets, strict=True)
        ]
        heads = view.received.shape[1]
        place = torch.arange(view.received.shape[2], device=view.received.device)
        first = [row.audio - late for row, late in zip(view.rows, latest, strict=True)]
        is_late = place >= column(first, view.received)
        scores = view.received.masked_fill(is_late.unsqueeze(1), torch.inf).flatten(0, 1)
        lengths = [row.audio for row in view.rows for _ in range(heads)]
        stays = largest(scores, lengths, [left for left in kept for _ in range(heads)])
        return CachePlan.from_stays(stays.view(len(view.rows), heads, -1), tuple(kept))
