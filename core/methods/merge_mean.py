"""FastAdaSP's pairs without its weights (arXiv 2410.03007, ablation; `merge_ave` in its code)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from ..flops import Scoring
from ..merge import Plan
from .base import AudioView, Method
from .choose import adjacent_cosine, largest, pairs, removed


@dataclass(frozen=True, slots=True)
class MergeMean(Method):
    """Join the neighbours whose keys are most alike; plain mean, whatever they stand for.

    At the input this is what SA-MAP's tables call FastAdaSP.
    """

    name: ClassVar[str] = "merge-mean"
    scoring: ClassVar[Scoring] = Scoring(dots=2)

    def plan(self, view: AudioView, kept: Sequence[int]) -> Plan:
        """Joins of the most similar adjacent pairs; chains collapse into one token."""
        likeness = adjacent_cosine(view.keys)
        joined = largest(likeness, pairs(view.lengths), removed(view.lengths, kept))
        return Plan.from_joins(joined, torch.ones_like(view.sizes), view.lengths, kept)
