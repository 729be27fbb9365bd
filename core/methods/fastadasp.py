"""FastAdaSP's merge (Lu et al., EMNLP 2024 industry, arXiv 2410.03007, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ..flops import SAMPLE_EVERY, Scoring
from ..merge import Plan
from .base import AudioView, Method, Signal
from .choose import adjacent_cosine, largest, pairs, received_by_members, removed


@dataclass(frozen=True, slots=True)
class FastAdaSP(Method):
    """Join the neighbours whose keys are most alike; weigh them by the attention they received."""

    name: ClassVar[str] = "fastadasp"
    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.RECEIVED})
    scoring: ClassVar[Scoring] = Scoring(received=True, members=True, dots=2)
    at_input: ClassVar[bool] = False

    def plan(self, view: AudioView, kept: Sequence[int]) -> Plan:
        """Joins of the most similar adjacent pairs; chains collapse into one token."""
        if view.received is None:
            raise ValueError("fastadasp needs the received attention")
        likeness = adjacent_cosine(view.keys)
        gone = removed(view.lengths, kept)
        joined = largest(likeness, pairs(view.lengths), gone)
        weight = received_by_members(view.received, joined, gone)
        return Plan.from_joins(joined, weight, view.lengths, kept)


@dataclass(frozen=True, slots=True)
class FastAdaSPSampled(FastAdaSP):
    """The same with weights estimated from a sample of the queries, at a fraction of the cost."""

    name: ClassVar[str] = "fastadasp-sampled"
    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.SAMPLED})
    scoring: ClassVar[Scoring] = replace(FastAdaSP.scoring, every=SAMPLE_EVERY)
