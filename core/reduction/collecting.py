"""The attention of a prefill layer that also brings back what a method asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..flops import SAMPLE_EVERY
from ..methods import Signal
from .attention import attend, attend_plainly, biased
from .decoding import Taken
from .layout import AudioColumns
from .received import received_attention
from .scores import last_query_attention

COLLECTING = "fastadasp"


@dataclass(slots=True)
class Collected:
    """What the attention of a layer brings back.

    Attributes:
        columns: where the audio stands.
        bias: added to the scores of each key, (batch, width), or None.
        wanted: what the method asks for.
        keys: audio keys after rotary embedding, (batch, kv_heads, audio, head_dim).
        tokens: columns of the batch.
        sums: `received_attention` of this layer, by place; made when it is asked for, and only for
            what it is asked for.
        last_query: see `last_query_attention`.
    """

    columns: AudioColumns
    bias: Tensor | None
    wanted: frozenset[Signal]
    keys: Tensor = field(default_factory=lambda: torch.empty(0))
    tokens: int = 0
    sums: Callable[..., Tensor] | None = None
    last_query: Tensor | None = None

    def received(self, members: Tensor | None = None, most: Sequence[int] = ()) -> Tensor:
        """See `Received`."""
        assert self.sums is not None, "it was not asked for"
        if members is None:
            return self.sums().sum(1)
        index = (~members).byte().argsort(dim=1, stable=True)[:, : max(most)]
        chosen = members.gather(1, index)
        places = self.columns.places(range(self.columns.width), members.device)
        place = places.expand(len(members), -1).gather(1, index)
        found = self.sums(place=place.masked_fill(~chosen, self.tokens)).sum(1)
        return torch.zeros(members.shape, device=members.device).scatter_(1, index, found)


def collecting_attention(  # noqa: PLR0913
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    collected: Collected,
    taken: Taken,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention backend of a collecting layer, in the form that transformers calls it."""
    taken.by = COLLECTING
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    collected.keys, collected.tokens = collected.columns.gather(key, 2), key.shape[2]
    states = query, key, value
    if attention_mask is None and collected.bias is not None:
        states = biased(*states, collected.bias, scale)
    if not collected.wanted:
        output = attend_plainly(*states, attention_mask, scale)
        return output.transpose(1, 2)[..., : query.shape[-1]].contiguous(), None
    output, lse = attend(*states, attention_mask, scale)
    output = output[..., : query.shape[-1]]
    seen = (query, key, lse, collected.columns, collected.bias, scale)
    if Signal.RECEIVED in collected.wanted:
        collected.sums = partial(received_attention, *seen)
    if Signal.SAMPLED in collected.wanted:
        collected.sums = partial(received_attention, *seen, every=SAMPLE_EVERY)
    if Signal.LAST_QUERY in collected.wanted:
        collected.last_query = last_query_attention(*seen)
    return output.transpose(1, 2).contiguous(), None
