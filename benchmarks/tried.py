"""Methods that were tried against the named ones and lost; `docs/methods.md` has their numbers.

`fastadasp eval SET --methods benchmarks/tried.py:Capped,... --schedules constant` measures them.
All of them join neighbours whose keys are most alike, as `fastadasp` does; each differs in one
thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from core.flops import Scoring
from core.merge import Plan
from core.methods import AudioView, Method, Signal
from core.methods.choose import adjacent_cosine, largest, pairs, removed

_LONGEST = 6
_LIKING = 0.1


@dataclass(frozen=True, slots=True)
class _Joining(Method):
    """Pairs of neighbours by likeness, weights by the subclass."""

    scoring: ClassVar[Scoring] = Scoring(dots=2)
    at_input: ClassVar[bool] = False

    def plan(self, view: AudioView, kept: Sequence[int]) -> Plan:
        """Joins of the best adjacent pairs; chains collapse into one token."""
        joined = self.joined(self.likeness(view), view.lengths, removed(view.lengths, kept))
        return Plan.from_joins(joined, self.weights(view), view.lengths, kept)

    def likeness(self, view: AudioView) -> Tensor:
        """How gladly each token joins the next, (batch, audio - 1)."""
        return adjacent_cosine(view.keys)

    def joined(self, likeness: Tensor, lengths: Sequence[int], wanted: Sequence[int]) -> Tensor:
        """Which do, (batch, audio - 1), bool."""
        return largest(likeness, pairs(lengths), wanted)

    def weights(self, view: AudioView) -> Tensor:
        """What each token weighs in its mean, (batch, audio)."""
        return torch.ones_like(view.sizes)


@dataclass(frozen=True, slots=True)
class Causal(_Joining):
    """Received attention divided by how many audio queries can see the token."""

    name: ClassVar[str] = "tried-causal"
    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.RECEIVED})
    scoring: ClassVar[Scoring] = Scoring(received=True, dots=2)

    def weights(self, view: AudioView) -> Tensor:
        """The mean over queries in place of the sum."""
        assert view.received is not None
        behind = torch.tensor(view.lengths, device=view.sizes.device).unsqueeze(1)
        behind = behind - torch.arange(view.sizes.shape[1], device=view.sizes.device)
        return view.received() / behind.clamp_min(1)


@dataclass(frozen=True, slots=True)
class LastQuery(_Joining):
    """Attention received from the last prompt token alone."""

    name: ClassVar[str] = "tried-last-query"
    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.LAST_QUERY})
    scoring: ClassVar[Scoring] = Scoring(last_query=True, dots=2)

    def weights(self, view: AudioView) -> Tensor:
        """The scores of one query."""
        assert view.last_query is not None
        return view.last_query


@dataclass(frozen=True, slots=True)
class KeyNorm(_Joining):
    """Norm of the key."""

    name: ClassVar[str] = "tried-key-norm"

    def weights(self, view: AudioView) -> Tensor:
        """No attention at all."""
        return view.keys.float().square().sum(dim=(1, 3)).sqrt()


@dataclass(frozen=True, slots=True)
class Sizes(_Joining):
    """How many original tokens a token stands for, in the mean and on the attention scores."""

    name: ClassVar[str] = "tried-sizes"
    size_bias: ClassVar[bool] = True

    def weights(self, view: AudioView) -> Tensor:
        """Mean over original tokens."""
        return view.sizes


@dataclass(frozen=True, slots=True)
class SilenceFirst(_Joining):
    """What receives little attention joins first."""

    name: ClassVar[str] = "tried-silence-first"
    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.RECEIVED})
    scoring: ClassVar[Scoring] = Scoring(received=True, dots=2)

    def likeness(self, view: AudioView) -> Tensor:
        """The cosine, less a little for each doubling of the attention that a pair received."""
        assert view.received is not None
        given = view.received().clamp_min(1e-9)
        return adjacent_cosine(view.keys) - _LIKING * (given[:, 1:] + given[:, :-1]).log2()

    def weights(self, view: AudioView) -> Tensor:
        """As `fastadasp`."""
        assert view.received is not None
        return view.received()


@dataclass(frozen=True, slots=True)
class Capped(_Joining):
    """No chain of one layer grows beyond six tokens, unless the budget leaves no other way."""

    name: ClassVar[str] = "tried-capped"

    def joined(self, likeness: Tensor, lengths: Sequence[int], wanted: Sequence[int]) -> Tensor:
        """The best pairs in turn, those that would make a chain too long put off to the end."""
        rows = zip(likeness.tolist(), lengths, wanted, strict=True)
        made = [_capped(row[: length - 1], joins) for row, length, joins in rows]
        width = likeness.shape[1]
        return torch.tensor([row + [False] * (width - len(row)) for row in made])


def _capped(likeness: list[float], joins: int) -> list[bool]:
    joined = [False] * len(likeness)
    best = sorted(range(len(likeness)), key=lambda pair: -likeness[pair])
    put_off = []
    for pair in best:
        if joins == 0:
            break
        first, last = pair, pair + 1
        while first and joined[first - 1]:
            first -= 1
        while last < len(joined) and joined[last]:
            last += 1
        if last - first >= _LONGEST:
            put_off.append(pair)
        else:
            joined[pair], joins = True, joins - 1
    for pair in put_off[:joins]:
        joined[pair] = True
    return joined
