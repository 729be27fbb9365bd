"""Clusters of neighbours by Ward's criterion (Ward, JASA 1963), a method of this project.

Top-k chains join whatever lies between two similar pairs, so they grow without bound and blur.
Here the pair of neighbouring clusters is joined that adds least to the squared distances of tokens
from the mean of their cluster, again and again: cost(a, b) = |a||b| / (|a| + |b|) * ||mean a - mean
b||^2, with sizes in original tokens. Constrained to neighbours, as in stratigraphy (CONISS, Grimm
1987). One join after the other would be hundreds of small steps; instead each round joins all pairs
at once that are cheaper than both their neighbours and that the budget would come to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..flops import Scoring
from ..merge import Plan
from .base import AudioView, Method
from .choose import column, pairs, removed

_FIRST_SHARE, _FALL = 0.5, 0.75
_BEYOND = 3


@dataclass(frozen=True, slots=True)
class Ward(Method):
    """Join neighbouring clusters whose union blurs least; the mean is over original tokens.

    Clusters differ much in size, a pause may become one token, so their sizes are added to the
    attention scores (ToMe's proportional attention, Bolya et al., ICLR 2023).
    """

    name: ClassVar[str] = "ward"
    # squared distances of all neighbours, then of four neighbours and one mean for each join that a
    # round has room for: twice as many as there are joins, and those are fewer than the tokens
    scoring: ClassVar[Scoring] = Scoring(dots=12)
    size_bias: ClassVar[bool] = True

    def plan(self, view: AudioView, kept: Sequence[int]) -> Plan:
        """Clusters of hidden states."""
        wanted = removed(view.lengths, kept)
        joined = clusters(view.states.float(), view.sizes, pairs(view.lengths), wanted)
        return Plan.from_joins(joined, view.sizes, view.lengths, kept)


def clusters(states: Tensor, sizes: Tensor, valid: Sequence[int], wanted: Sequence[int]) -> Tensor:
    """Which tokens end up with the token before them.

    Where no join makes a neighbouring pair cheaper than itself, this is what joining the cheapest
    pair again and again gives. Nothing waits for the device: the number of rounds, and the room
    for joins in each, follow from `wanted`; what is then still to be joined goes in chains.

    Args:
        states: (batch, tokens, hidden), float32.
        sizes: original tokens that each stands for, (batch, tokens), float32.
        valid: pairs of neighbouring tokens in each row.
        wanted: joins of each row.

    Returns:
        (batch, tokens - 1), bool; `wanted` of the first `valid` entries of a row are true.
    """
    line = _Line(states, sizes, valid)
    left = column(wanted, states)
    rooms = [_rooms(joins) for joins in wanted]
    for turn in range(max(map(len, rooms))):
        # each row by its own count, so that it does not depend on its neighbours in the batch
        room = [row[turn] if turn < len(row) else 0 for row in rooms]
        left = left - line.join(line.cheapest(left, room))
    return line.finish(left)


def _rooms(joins: int) -> list[int]:
    """Most joins of each round: far more than are found, and twice as many as wanted together."""
    rounds = joins.bit_length() + _BEYOND if joins else 0
    return [math.ceil(joins * _FIRST_SHARE * _FALL**turn) for turn in range(rounds)]


class _Line:
    """The clusters of each row as a linked list; what belongs to one stands at its first token.

    One column more than there are tokens: an idle one, which is nobody's neighbour, for whatever
    is out of use. Its contents mean nothing, except that it costs infinitely much.

    Args:
        states, sizes, valid: see `clusters`.
    """

    def __init__(self, states: Tensor, sizes: Tensor, valid: Sequence[int]) -> None:
        batch, tokens, hidden = states.shape
        self.idle = tokens
        columns = torch.arange(tokens + 1, device=states.device)
        self.mean = pad(states, (0, 0, 0, 1)).view(-1, hidden)
        self.size = pad(sizes, (0, 1), value=1.0)
        self.row = torch.arange(batch, device=states.device).unsqueeze(1) * (tokens + 1)
        ends = columns >= column(valid, states)
        self.after = (columns + 1).expand(batch, -1).masked_fill(ends, tokens)
        self.before = (columns - 1).masked_fill(columns % tokens == 0, tokens).repeat(batch, 1)
        self.gone = torch.zeros_like(self.after, dtype=torch.bool)
        distance = (states[:, 1:] - states[:, :-1]).square_().sum(-1)
        cost = pad(distance * _share(sizes[:, :-1], sizes[:, 1:]), (0, 2))
        self.cost = cost.masked_fill_(ends, torch.inf)
        # equal costs in a scattered order: in their own, only the first of them would be cheaper
        # than its neighbours. It does not depend on the width of the batch.
        self.scattered = (columns * 0x9E3779B1 % 2**32).argsort()

    def ranks(self) -> Tensor:
        """Place of each pair (a cluster and the next) from the cheapest, (batch, tokens + 1)."""
        cheapest = self.scattered[self.cost[:, self.scattered].argsort(dim=1, stable=True)]
        places = torch.arange(cheapest.shape[1], device=cheapest.device).expand_as(cheapest)
        return torch.empty_like(cheapest).scatter_(1, cheapest, places)

    def cheapest(self, left: Tensor, room: Sequence[int]) -> Tensor:
        """Pairs cheaper than both their neighbours that the budget comes to, `room` at the most.

        Args:
            left: joins still to be made, (batch, 1).
            room: pairs wanted of each row.

        Returns:
            First cluster of each, (batch, largest room), int64; the idle column fills up.
        """
        rank = self.ranks()
        low = (rank < rank.gather(1, self.after)) & (rank < rank.gather(1, self.before))
        rank = rank.masked_fill(~low | (rank >= left), self.idle + 1)
        best = rank.topk(max(room), dim=1, largest=False)
        places = torch.arange(max(room), device=rank.device)
        unwanted = (best.values > self.idle) | (places >= column(room, rank))
        return best.indices.masked_fill(unwanted, self.idle)

    def join(self, first: Tensor) -> Tensor:
        """Join each of these clusters with the next; how many there were, (batch, 1)."""
        second = self.after.gather(1, first)
        size, added = self.size.gather(1, first), self.size.gather(1, second)
        share = (added / (size + added)).unsqueeze(-1)
        mean = torch.lerp(self._mean(first), self._mean(second), share)
        self.mean.index_copy_(0, (first + self.row).flatten(), mean.flatten(0, 1))
        self.size.scatter_(1, first, size + added)
        self.gone.scatter_(1, second, True)
        self.cost.scatter_(1, second, torch.inf)
        third = self.after.gather(1, second)
        self.after.scatter_(1, first, third)
        self.before.scatter_(1, third, first)
        self._rest()
        self._count_again(torch.cat([first, self.before.gather(1, first)], 1))
        return (first < self.idle).sum(1, keepdim=True)

    def finish(self, left: Tensor) -> Tensor:
        """Tokens that went to the one before them, after the `left` cheapest joins, in chains."""
        last = self.after.masked_fill(self.ranks() >= left, self.idle)
        return self.gone.scatter(1, last, True)[:, 1:-1]

    def _count_again(self, first: Tensor) -> None:
        """Costs of these clusters with the next ones."""
        second = self.after.gather(1, first)
        distance = (self._mean(first) - self._mean(second)).square_().sum(-1)
        cost = distance * _share(self.size.gather(1, first), self.size.gather(1, second))
        self.cost.scatter_(1, first, cost.masked_fill(second == self.idle, torch.inf))
        self._rest()

    def _rest(self) -> None:
        """Keep the idle column idle."""
        self.after[:, -1] = self.before[:, -1] = self.idle
        self.cost[:, -1], self.size[:, -1] = torch.inf, 1.0

    def _mean(self, index: Tensor) -> Tensor:
        return self.mean.index_select(0, (index + self.row).flatten()).view(*index.shape, -1)


def _share(one: Tensor, other: Tensor) -> Tensor:
    return one * other / (one + other)
