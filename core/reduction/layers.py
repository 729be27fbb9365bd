"""`reducing(...)`: the decoder layers of a model reduce audio tokens while a `ReducedCache` fills.

The only code that touches a model. A layer that merges is split between attention and MLP; every
other layer runs its own forward with the positions and the mask of the shorter sequence. Without a
`ReducedCache`, or with one that removes nothing, every layer runs exactly as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from ..methods import AudioView, Signal
from .attention import AudioColumns, attend, received_attention
from .cache import PromptState, ReducedCache
from .decoding import SHARED, attending_by, decode_layer, shared_attention
from .last import SKIPPED, last_layer, shortens, skipped_attention
from .masks import log_sizes

_BACKEND = "fastadasp"
_MISSING = object()


@contextmanager
def reducing(decoder: Any) -> Iterator[None]:
    """Let the layers of `decoder` reduce prompts that come with a `ReducedCache`.

    Args:
        decoder: a transformers decoder with `.layers` of the pre-norm kind (`input_layernorm`,
            `self_attn`, `post_attention_layernorm`, `mlp`).

    The model is left exactly as it was, also after an exception.
    """
    AttentionInterface.register(_BACKEND, _collecting_attention)
    AttentionInterface.register(SHARED, shared_attention)
    AttentionInterface.register(SKIPPED, skipped_attention)
    layers = list(decoder.layers)
    before = [layer.__dict__.get("forward", _MISSING) for layer in layers]
    try:
        for index, layer in enumerate(layers):
            layer.forward = partial(_forward, layer, layer.forward, index)
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            layer.__dict__.pop("forward", None)
            if forward is not _MISSING:
                layer.forward = forward


def _forward(
    layer: Any,
    plain: Callable[..., Tensor],
    index: int,
    hidden_states: Tensor,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """What a decoder layer does inside `reducing`."""
    cache = kwargs.get("past_key_values")
    if isinstance(cache, ReducedCache) and cache.beams:
        return decode_layer(layer, plain, index, hidden_states, args, kwargs)
    if not isinstance(cache, ReducedCache) or not cache.reduces:
        return plain(hidden_states, *args, **kwargs)
    state = cache.state
    cache.prompts.append(state)
    kwargs["position_embeddings"] = _rotary(kwargs["position_embeddings"], state)
    if shortens(layer, cache, index):
        return last_layer(layer, plain, hidden_states, args, kwargs)
    kwargs["attention_mask"] = cache.masks.prefill(state, hidden_states)
    kept = cache.leaving(index)
    if kept == state.columns.length:
        return plain(hidden_states, *args, **kwargs)
    return _merging_layer(layer, hidden_states, kept, kwargs)


def _merging_layer(
    layer: Any, hidden: Tensor, kept: tuple[int, ...], kwargs: dict[str, Any]
) -> Tensor:
    """A layer of the form x + attn(norm(x)), then x + mlp(norm(x)), with a merge in between."""
    cache: ReducedCache = kwargs["past_key_values"]
    reduction, state = cache.reduction, cache.state
    scale = getattr(layer, "residual_multiplier", 1.0)
    bias = log_sizes(state) if reduction.size_bias else None
    collected = Collected(state.columns, bias, Signal.RECEIVED in reduction.method.needs)
    with attending_by(layer.self_attn, _BACKEND, {}):
        attended, _ = layer.self_attn(
            hidden_states=layer.input_layernorm(hidden), collected=collected, **kwargs
        )
    hidden = hidden + (attended if scale == 1.0 else attended * scale)
    hidden = _merge(hidden, collected, cache, kept)
    updated: Tensor = layer.mlp(layer.post_attention_layernorm(hidden))
    output: Tensor = hidden + (updated if scale == 1.0 else updated * scale)
    return output


def _merge(
    hidden: Tensor, collected: Collected, cache: ReducedCache, kept: tuple[int, ...]
) -> Tensor:
    """Merge the audio rows of `hidden` and move the cache's state on."""
    state, columns = cache.state, collected.columns
    sizes = columns.gather(state.sizes_on(hidden.device), 1)
    view = AudioView(columns.length, collected.keys, collected.received, sizes)
    plan = cache.reduction.method.plan(view, kept)
    cache.state = state.merged(plan, cache.reduction.positions == "keep", hidden.device)
    return state.splice(hidden, plan.mean(columns.gather(hidden, 1)), cache.state)


@dataclass(slots=True)
class Collected:
    """What the attention of a merging layer brings back.

    Attributes:
        columns: where the audio stands.
        bias: added to the scores of each key, (batch, width), or None.
        wants_received: whether the received attention is needed.
        keys: audio keys after rotary embedding, (batch, kv_heads, audio, head_dim).
        received: see `received_attention`.
    """

    columns: AudioColumns
    bias: Tensor | None
    wants_received: bool
    keys: Tensor = field(default_factory=lambda: torch.empty(0))
    received: Tensor | None = None


def _collecting_attention(  # noqa: PLR0913
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    collected: Collected,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention backend of a merging layer, in the form that transformers calls it."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output, lse = attend(query, key, value, attention_mask, scale)
    collected.keys = collected.columns.gather(key, 2)
    if collected.wants_received:
        collected.received = received_attention(
            query, key, lse, collected.columns, collected.bias, scale
        )
    return output.transpose(1, 2).contiguous(), None


def _rotary(embeddings: tuple[Tensor, Tensor], state: PromptState) -> tuple[Tensor, Tensor]:
    """The rotary embeddings of the tokens that are left, (batch, width, head_dim) each."""
    cos, sin = embeddings
    if state.origin is None:
        return cos[:, -state.width :], sin[:, -state.width :]
    batch = len(state.origin)
    index = state.origin.unsqueeze(-1).expand(-1, -1, cos.shape[-1])
    return (
        cos.expand(batch, -1, -1).gather(1, index),
        sin.expand(batch, -1, -1).gather(1, index),
    )
