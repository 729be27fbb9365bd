"""SA-MAP (Tencent AngelSlim, preprint 202606.0741): merge what is alike, then prune for diversity.

Before the language model, with the attention of the encoder's last layer. Departures: the published
code pads with copies where merging alone leaves fewer groups than the budget; here the merging
threshold rises until enough groups are left, so the budget is met exactly. Its loop over tokens is
pointer jumping here; the pruning takes one step for each token that stays, as it must.
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
from .base import AudioView, Method, Signal
from .choose import column

_ALIKE = 2**-16
_BISECTIONS = 16
_NOTHING = 1e-10


@dataclass(frozen=True, slots=True)
class SAMap(Method):
    """Groups of neighbours that are alike; of these, a relevant and diverse choice stays.

    Attributes:
        threshold: mean cosine with all members of a group that lets a token in.
    """

    name: ClassVar[str] = "sa-map"
    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.ENCODER})
    scoring: ClassVar[Scoring] = Scoring(dots=1, gram=2)
    in_layer: ClassVar[bool] = False
    threshold: float = 0.85

    def plan(self, view: AudioView, kept: Sequence[int]) -> Plan:
        """Groups weighed by received attention, pruned by greedy MAP inference of a DPP."""
        if view.encoder is None:
            raise ValueError("sa-map needs the encoder's attention")
        states, weight = view.states.float(), view.encoder.received
        group, count = groups(states, view.lengths, kept, self.threshold)
        means = _means(states, weight, group)
        relevance = _means(view.encoder.own.unsqueeze(-1), torch.ones_like(weight), group)
        stays = diverse(means, relevance.squeeze(-1), count, kept)
        number = (stays.long().cumsum(1) - 1).masked_fill(~stays, -1)
        # padding has a group of its own, behind the last one
        slot = torch.nn.functional.pad(number, (0, 1), value=-1).gather(1, group)
        moved = max(length - left for length, left in zip(view.lengths, kept, strict=True))
        return Plan(slot, weight, tuple(kept), moved)


def groups(
    states: Tensor, lengths: Sequence[int], kept: Sequence[int], threshold: float
) -> tuple[Tensor, Tensor]:
    """Group of each token at the threshold, or at the lowest above it that leaves `kept` groups.

    A token joins the group before it if its mean cosine with all members reaches the threshold.

    Returns:
        group of each token, (batch, tokens), padding in group `tokens`; groups of each row,
        (batch, 1).
    """
    batch, tokens = states.shape[:2]
    unit = normalize(states, dim=-1)
    sums = torch.nn.functional.pad((unit @ unit.transpose(1, 2)).cumsum(2), (1, 0))
    places = torch.arange(tokens, device=states.device)
    # mean cosine of token t (last dimension) with tokens s .. t - 1
    own = sums.gather(2, places.view(1, -1, 1).expand(batch, -1, 1))
    mean = ((own - sums[..., :-1]) / (places[:, None] - places).clamp_min(1)).transpose(1, 2)
    # what rounding alone tells apart is alike, whoever stands beside it in the batch
    mean = (mean / _ALIKE).round() * _ALIKE
    ends = column(lengths, states).unsqueeze(-1)
    mean = mean.masked_fill(places <= places[:, None], torch.inf)
    target = column(kept, states)
    high = states.new_full((batch, 1), 1.0 + 1e-3)
    starts = _starts(mean, torch.full_like(high, threshold), ends)
    enough = starts.sum(1, keepdim=True) >= target
    low, high = torch.full_like(high, threshold), torch.where(enough, threshold, high)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        enough = _starts(mean, middle, ends).sum(1, keepdim=True) >= target
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    starts = _starts(mean, high, ends)
    group = (starts.long().cumsum(1) - 1).masked_fill(places >= ends.squeeze(-1), tokens)
    return group, starts.sum(1, keepdim=True)


def _starts(mean: Tensor, threshold: Tensor, ends: Tensor) -> Tensor:
    """Tokens that open a group, (batch, tokens), bool.

    From every token the first one that would not join its group is known at once; those that a
    walk from the first token meets are found by jumps that double.
    """
    tokens = mean.shape[1]
    refused = mean < threshold.unsqueeze(-1)
    jump = torch.where(refused.any(2), refused.int().argmax(2), tokens)
    jump = torch.nn.functional.pad(jump, (0, 1), value=tokens)
    met = torch.zeros_like(jump, dtype=torch.bool)
    met[:, 0] = True
    for _ in range(tokens.bit_length()):
        met = met | torch.zeros_like(met).scatter(1, jump.masked_fill(~met, tokens), True)
        jump = jump.gather(1, jump)
    places = torch.arange(tokens, device=mean.device)
    return met[:, :-1] & (places < ends.squeeze(-1))


def diverse(means: Tensor, relevance: Tensor, count: Tensor, kept: Sequence[int]) -> Tensor:
    """Greedy MAP inference of a determinantal point process (Chen et al., NeurIPS 2018).

    The kernel is the cosine of two groups times the relevance of both. Where nothing new is left
    (more groups than dimensions), the earliest are taken; float64 tells nothing from rounding.

    Args:
        means: of each group, (batch, groups, hidden), float32.
        relevance: of each group, (batch, groups), positive.
        count: groups of each row, (batch, 1).
        kept: how many to choose, no more than there are.

    Returns:
        (batch, groups), bool.
    """
    precise = torch.float32 if means.device.type == "mps" else torch.float64
    unit = normalize(means.to(precise), dim=-1)
    real = torch.arange(means.shape[1], device=means.device) < count
    relevance = relevance.to(precise).masked_fill(~real, 0)
    relevance = relevance / relevance.amax(1, keepdim=True).clamp_min(1e-30)
    kernel = unit @ unit.transpose(1, 2) * relevance.unsqueeze(1) * relevance.unsqueeze(2)
    # its diagonal, without the rounding that would tell equal groups apart
    gain = (unit.square().sum(-1).round() * relevance.square()).masked_fill(~real, -torch.inf)
    basis = kernel.new_zeros(*relevance.shape, max(kept))
    chosen, target = torch.zeros_like(real), column(kept, means)
    for step in range(max(kept)):
        best = gain.argmax(1, keepdim=True)
        new = gain.gather(1, best)
        across = best.unsqueeze(-1)
        row = kernel.gather(1, across.expand(-1, 1, kernel.shape[2])).squeeze(1)
        known = basis.gather(1, across.expand(-1, 1, basis.shape[2])).transpose(1, 2)
        rest = row - (basis @ known).squeeze(-1)
        basis[..., step] = torch.where(new > 0, rest / new.clamp_min(_NOTHING).sqrt(), 0)
        gain = gain - basis[..., step].square()
        gain = gain.masked_fill(gain < _NOTHING, 0).masked_fill(~real, -torch.inf)
        chosen = chosen.scatter(1, best, chosen.gather(1, best) | (step < target))
        gain = gain.masked_fill(chosen, -torch.inf)
    return chosen


def _means(values: Tensor, weight: Tensor, group: Tensor) -> Tensor:
    """Weighted means of groups: (batch, tokens, width) -> the same shape, one row a group."""
    width = values.shape[1] + 1
    sums = values.new_zeros(len(values), width, values.shape[2])
    index = group.unsqueeze(-1)
    sums.scatter_add_(1, index.expand_as(values), values * weight.unsqueeze(-1))
    shares = weight.new_zeros(len(values), width).scatter_add_(1, group, weight)
    return (sums / shares.clamp_min(1e-30).unsqueeze(-1))[:, :-1]
