"""Random tokens go: the baseline of FastAdaSP (arXiv 2410.03007, its Table 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..merge import Plan
from .base import AudioView, Method
from .choose import chance, largest


@dataclass(frozen=True, slots=True)
class RandomEvict(Method):
    """Drop random tokens.

    Attributes:
        seed: another seed, another choice.
    """

    name: ClassVar[str] = "random-evict"
    seed: int = 0

    def plan(self, view: AudioView, kept: Sequence[int]) -> Plan:
        """Whatever tokens the seed favours."""
        scores = chance(view.lengths, kept, self.seed, view.sizes)
        return Plan.from_kept(largest(scores, view.lengths, kept), kept)
