"""Decode steps over a cache that holds each prompt once: what a layer does with one new token.

The beams of a row become so many queries of one attention over [prompt ; all its beams' tokens],
with a mask that shows each beam its own past: one fused kernel, every key read once. Where what is
generated has a fixed place, the kernel takes it apart from the prompt (see `split`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ReductionError
from .cache import PromptCache
from .call import LayerCall

SHARED = "fastadasp_shared"
SPLIT = "fastadasp_split"


def decode_layer(call: LayerCall, cache: PromptCache) -> Tensor:
    """One new token in each decode row, (rows * beams, 1, hidden), through one layer."""
    state, attention = cache.seen_by(call.index), call.layer.self_attn
    if cache.fixed is not None:
        call.hand("attention_mask", cache.masks.prompt(state, call.hidden))
        with attending_by(attention, SPLIT, cache.configs) as taken:
            return call.plain(behind=cache.layers[call.index].behind, taken=taken)
    call.hand("attention_mask", cache.masks.decode(state, call.hidden))
    if cache.beams == 1:
        return call.plain()
    with attending_by(attention, SHARED, cache.configs) as taken:
        return call.plain(taken=taken)


@dataclass(slots=True)
class Taken:
    """The backend that was called, told by itself: a list would be copied on the way to a device.

    Attributes:
        by: its name; None before.
    """

    by: str | None = None


@contextmanager
def attending_by(attention: Any, backend: str, kept: dict[int, Any]) -> Iterator[Taken]:
    """Give one attention module another backend through a copy of its config.

    Args:
        attention: the module; it is left as it was.
        backend: name in transformers' `AttentionInterface`.
        kept: copies made before, by the module's identity: a copy takes longer than the swap.

    Yields:
        What the backend is to be given as `taken`, in which it says its name.

    Raises:
        ReductionError: the module went by another backend.
    """
    plain, taken = attention.config, Taken()
    if id(attention) not in kept:
        kept[id(attention)] = _with_backend(plain, backend)
    attention.config = kept[id(attention)]
    try:
        yield taken
    finally:
        attention.config = plain
    if taken.by != backend:
        raise ReductionError(
            f"{type(attention).__name__} does not attend as its config says, so its prompts cannot"
            " be reduced here; install the transformers that fastadasp asks for (fastadasp doctor)"
        )


def _with_backend(config: Any, backend: str) -> Any:
    """A copy of a config that names this backend; parts that it shares with others are not told."""
    named = copy.copy(config)
    named._attn_implementation = {"": backend}
    return named


def shared_attention(  # noqa: PLR0913
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    *,
    taken: Taken,
    **__: Any,
) -> tuple[Tensor, None]:
    """Attention backend of a decode step with several beams, in the form transformers calls it.

    Args:
        module: the attention module, not used.
        query: (rows * beams, heads, 1, head_dim).
        key, value: (rows, kv_heads, slots, head_dim).
        attention_mask: additive, (rows, 1, beams, slots).
        scaling: factor on the scores.
        taken: see `attending_by`.

    Returns:
        (rows * beams, 1, heads, head_dim), and no weights.
    """
    taken.by = SHARED
    return attend_shared(query, key, value, attention_mask, scaling), None


def attend_shared(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
) -> Tensor:
    """See `shared_attention`: (rows * beams, 1, heads, head_dim)."""
    rows, kv_heads, width = key.shape[0], key.shape[1], key.shape[3]
    beams, heads = query.shape[0] // rows, query.shape[1]
    groups = heads // kv_heads
    # heads that share a key head are queries of it like the beams are: nothing is repeated
    folded = query.reshape(rows, beams, kv_heads, groups, width).transpose(1, 2)
    folded = folded.reshape(rows, kv_heads, beams * groups, width)
    if attention_mask is not None and groups > 1:
        attention_mask = attention_mask.repeat_interleave(groups, dim=2)
    mixed = torch.nn.functional.scaled_dot_product_attention(
        folded, key, value, attn_mask=attention_mask, scale=scaling
    )
    mixed = mixed.view(rows, kv_heads, beams, groups, width).transpose(1, 2)
    return mixed.reshape(rows * beams, 1, heads, width)
