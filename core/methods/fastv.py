"""FastV (Chen et al., ECCV 2024, arXiv 2403.06764): the least attended tokens go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..flops import RECEIVED, Scoring
from ..merge import Plan
from .base import AudioView, Method, Signal
from .choose import largest


@dataclass(frozen=True, slots=True)
class FastV(Method):
    """Keep the tokens that the last prompt token attends to most, as the original does.

    The original scores in layer K - 1 and prunes at the input of layer K; here the same scores
    prune one MLP earlier, where every method of this package acts.
    """

    name: ClassVar[str] = "fastv"
    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.LAST_QUERY})
    scoring: ClassVar[Scoring] = Scoring(last_query=True)
    at_input: ClassVar[bool] = False

    def plan(self, view: AudioView, kept: Sequence[int]) -> Plan:
        """The tokens with the largest scores stay."""
        if view.last_query is None:
            raise ValueError("fastv needs the last query's attention")
        return Plan.from_kept(largest(view.last_query, view.lengths, kept), kept)


@dataclass(frozen=True, slots=True)
class FastVReceived(Method):
    """Keep the tokens that received most attention from all queries.

    The variant that FastAdaSP compares itself with (arXiv 2410.03007, its Table 9). Early tokens
    are seen by more queries and so favoured; the published code does not correct that.
    """

    name: ClassVar[str] = "fastv-received"
    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.RECEIVED})
    scoring: ClassVar[Scoring] = RECEIVED
    at_input: ClassVar[bool] = False

    def plan(self, view: AudioView, kept: Sequence[int]) -> Plan:
        """The tokens with the largest column sums stay."""
        if view.received is None:
            raise ValueError("fastv-received needs the received attention")
        return Plan.from_kept(largest(view.received(), view.lengths, kept), kept)
