"""FastAdaSP's merge (Lu et al., EMNLP 2024 industry, arXiv 2410.03007, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..merge import Plan
from .base import AudioView, Method, Signal


@dataclass(frozen=True, slots=True)
class FastAdaSP(Method):
    """Join the neighbours whose keys are most alike; weigh them by the attention they received."""

    name: ClassVar[str] = "fastadasp"
    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.KEYS, Signal.RECEIVED})

    def plan(self, view: AudioView, kept: Sequence[int]) -> Plan:
        """Joins of the most similar adjacent pairs; chains collapse into one token."""
        if view.received is None:
            raise ValueError("fastadasp needs the received attention")
        joined = most_alike(adjacent_cosine(view.keys), view.lengths, kept)
        return Plan.from_joins(joined, view.received, view.lengths, kept)


def adjacent_cosine(keys: Tensor) -> Tensor:
    """Cosine similarity of neighbouring keys with all heads concatenated, in float32.

    bfloat16 would tie massively: its three digits cannot rank neighbours that are .99 alike.

    Args:
        keys: (batch, kv_heads, tokens, head_dim).

    Returns:
        (batch, tokens - 1).
    """
    keys = keys.float()
    square = keys.square().sum(dim=(1, 3))
    product = (keys[:, :, :-1] * keys[:, :, 1:]).sum(dim=(1, 3))
    return product * (square[:, :-1] * square[:, 1:]).clamp_min(1e-30).rsqrt()


def most_alike(similarity: Tensor, lengths: Sequence[int], kept: Sequence[int]) -> Tensor:
    """The `length - kept` most similar pairs of each row: (batch, tokens - 1), bool.

    The counts are known on the host, so nothing waits for the device.
    """
    joins = [length - left for length, left in zip(lengths, kept, strict=True)]
    device = similarity.device
    if min(lengths) <= similarity.shape[1]:
        pairs = torch.arange(similarity.shape[1], device=device)
        last = torch.tensor(lengths, device=device).unsqueeze(1) - 1
        similarity = similarity.masked_fill(pairs >= last, -torch.inf)
    best = similarity.topk(max(joins), dim=1).indices
    wanted = torch.ones_like(best, dtype=torch.bool)
    if min(joins) < max(joins):
        rank = torch.arange(max(joins), device=device)
        wanted = (rank < torch.tensor(joins, device=device).unsqueeze(1)).expand_as(best)
    return torch.zeros_like(similarity, dtype=torch.bool).scatter_(1, best, wanted)
