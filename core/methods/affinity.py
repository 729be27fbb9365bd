"""Affinity pooling (Xiang et al., Findings of ACL 2026, arXiv 2604.06871), driven by a budget.

The paper scans the tokens from left to right: a token joins the current group if it is alike enough
to one of the group's last few members, else it opens the next. What a token does depends on how
long the group already is, up to a few; such a scan is a chain of small functions, composed here by
doubling instead of token by token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..flops import Scoring
from ..merge import Plan
from .base import AudioView, ThresholdMethod
from .choose import column, largest, pairs, removed


@dataclass(frozen=True, slots=True)
class Affinity(ThresholdMethod):
    """Groups of neighbours by the cosine of their hidden states; plain mean.

    The paper's threshold decides how many tokens are left (`decide`). For a budget it falls until
    that is met; where several joins come with the same threshold, the most alike of them are taken.

    Attributes:
        at_first: members a newcomer is compared with at the input (the paper: 1).
        inside: the same in a decoder layer (the paper: 3, at the third last layer).
    """

    name: ClassVar[str] = "affinity"
    scoring: ClassVar[Scoring] = Scoring(dots=4)
    at_first: int = 1
    inside: int = 3

    def plan(self, view: AudioView, kept: Sequence[int]) -> Plan:
        """Joins at the highest threshold that gives enough of them."""
        valid, wanted = pairs(view.lengths), removed(view.lengths, kept)
        joined = _meet(self._affinity(view), valid, wanted)
        return Plan.from_joins(joined, torch.ones_like(view.sizes), view.lengths, kept)

    def decide(self, view: AudioView, threshold: float) -> Plan:
        """Joins at this cosine, as published (the paper: 0.7 to 0.9)."""
        affinity, valid = self._affinity(view), column(pairs(view.lengths), view.states)
        joined = joins(affinity, affinity.new_full((len(affinity), 1), threshold))
        joined &= torch.arange(joined.shape[1], device=joined.device) < valid
        found: list[int] = joined.sum(1).tolist()
        kept = [length - gone for length, gone in zip(view.lengths, found, strict=True)]
        return Plan.from_joins(joined, torch.ones_like(view.sizes), view.lengths, kept)

    def _affinity(self, view: AudioView) -> Tensor:
        return affinities(view.states, self.at_first if view.at_input else self.inside)


def affinities(states: Tensor, window: int) -> Tensor:
    """Largest cosine of each token with its last 1, 2, ... `window` predecessors.

    Args:
        states: (batch, tokens, hidden).
        window: how far back.

    Returns:
        (batch, tokens - 1, window), float32; non-decreasing along the last dimension.
    """
    unit = normalize(states.float(), dim=-1)
    tokens = unit.shape[1]
    found = unit.new_full((unit.shape[0], max(tokens - 1, 0), window), -torch.inf)
    for back in range(1, min(window, tokens - 1) + 1):
        found[:, back - 1 :, back - 1] = (unit[:, back:] * unit[:, :-back]).sum(-1)
    return found.cummax(-1).values


def joins(affinity: Tensor, threshold: Tensor) -> Tensor:
    """Which tokens join the group of the token before them.

    Args:
        affinity: see `affinities`; entry i is about token i + 1.
        threshold: of each row, (batch, 1).

    Returns:
        (batch, tokens - 1), bool. A lower threshold never takes a join away.
    """
    count, window = affinity.shape[1:]
    if not count:
        return affinity.new_zeros(affinity.shape[:2], dtype=torch.bool)
    near = affinity >= threshold.unsqueeze(-1)
    # a group of s + 1 members (as far as anyone looks back) grows to s + 2 or starts anew
    grown = torch.arange(1, window + 1, device=near.device).clamp_max(window - 1)
    states = near * grown
    step = 1
    while step < count:
        states = torch.cat([states[:, :step], states[:, step:].gather(2, states[:, :-step])], 1)
        step *= 2
    before = torch.nn.functional.pad(states[:, :-1, 0], (1, 0))
    return near.gather(2, before.unsqueeze(-1)).squeeze(-1)


def _meet(affinity: Tensor, valid: Sequence[int], wanted: Sequence[int]) -> Tensor:
    """Exactly `wanted` joins of each row: those of one threshold and the best of the next."""
    batch, count = affinity.shape[:2]
    if not count:
        return joins(affinity, affinity.new_zeros(batch, 1))
    padding = torch.arange(count, device=affinity.device) >= column(valid, affinity)
    affinity = affinity.masked_fill(padding.unsqueeze(-1), -torch.inf)
    levels = affinity.flatten(1).sort(1, descending=True).values
    target = column(wanted, affinity)
    low, high = torch.zeros_like(target), torch.full_like(target, levels.shape[1] - 1)
    for _ in range(levels.shape[1].bit_length()):
        middle = (low + high) // 2
        found = joins(affinity, levels.gather(1, middle)).masked_fill(padding, False)
        enough = found.sum(1, keepdim=True) >= target
        high = torch.where(enough, middle, high)
        low = torch.where(enough, low, middle + 1).clamp_max(high)
    level = levels.gather(1, high)
    loose = joins(affinity, level)
    above = levels.masked_fill(levels <= level, torch.inf).amin(1, keepdim=True)
    strict = joins(affinity, above).masked_fill(above.isinf(), False)
    # first what the stricter threshold joins, then what the looser one adds
    score = affinity[..., -1].masked_fill(~loose, -torch.inf).masked_fill(strict, torch.inf)
    return largest(score, valid, wanted)
