"""Decode steps over a cache that holds each prompt once: what a layer does with one new token.

The beams of a row become so many queries of one attention over [prompt ; all its beams' tokens],
with a mask that shows each beam its own past: one fused kernel, every key read once. Where what is
generated has a fixed place, the kernel takes it apart from the prompt (see `split`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .cache import ReducedCache

SHARED = "fastadasp_shared"
SPLIT = "fastadasp_split"


def decode_layer(
    layer: Any,
    plain: Callable[..., Tensor],
    index: int,
    hidden: Tensor,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Tensor:
    """One new token in each decode row, (rows * beams, 1, hidden), through one layer."""
    cache: ReducedCache = kwargs["past_key_values"]
    if cache.fixed is not None:
        kwargs["attention_mask"] = cache.masks.prompt(cache.seen_by(index), hidden)
        with attending_by(layer.self_attn, SPLIT, cache.configs):
            return plain(hidden, *args, behind=cache.layers[index].behind, **kwargs)
    kwargs["attention_mask"] = cache.masks.decode(cache.seen_by(index), hidden)
    if cache.beams == 1:
        return plain(hidden, *args, **kwargs)
    with attending_by(layer.self_attn, SHARED, cache.configs):
        return plain(hidden, *args, **kwargs)


@contextmanager
def attending_by(attention: Any, backend: str, kept: dict[int, Any]) -> Iterator[None]:
    """Give one attention module another backend through a copy of its config.

    Args:
        attention: the module; it is left as it was.
        backend: name in transformers' `AttentionInterface`.
        kept: copies made before, by the module's identity: a copy takes longer than the swap.
    """
    plain = attention.config
    if id(attention) not in kept:
        kept[id(attention)] = copy.copy(plain)
        kept[id(attention)]._attn_implementation_internal = backend
    attention.config = kept[id(attention)]
    try:
        yield
    finally:
        attention.config = plain


def shared_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **__: Any,
) -> tuple[Tensor, None]:
    """Attention backend of a decode step with several beams, in the form transformers calls it.

    Args:
        module: the attention module, not used.
        query: (rows * beams, heads, 1, head_dim).
        key, value: (rows, kv_heads, slots, head_dim).
        attention_mask: additive, (rows, 1, beams, slots).
        scaling: factor on the scores.

    Returns:
        (rows * beams, 1, heads, head_dim), and no weights.
    """
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
    return mixed.reshape(rows * beams, 1, heads, width), None
