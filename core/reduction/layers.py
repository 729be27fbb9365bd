"""`reducing(...)`: the decoder layers of a model reduce audio tokens while a `PromptCache` fills.

The only code that touches a model. A layer that merges is split between attention and MLP; every
other layer runs its own forward with the positions and the mask of the shorter sequence. What goes
at the input goes as the first layer is entered. Without a `PromptCache`, or with one that removes
nothing, every layer runs exactly as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from ..errors import ReductionError
from ..merge import Plan
from ..methods import AudioView
from ..placing import home, spread
from .cache import PromptCache, ReducedCache
from .call import LayerCall
from .collecting import COLLECTING, Collected, collecting_attention
from .decoding import SHARED, SPLIT, attending_by, decode_layer, shared_attention
from .evicting import EvictedCache, evicting_layer
from .forking import ForkedCache, unread_layer
from .last import SKIPPED, last_layer, shortens, skipped_attention
from .layout import PromptState
from .masks import log_sizes
from .observed import Made
from .spans import Spans
from .split import split_attention

_MISSING = object()


@contextmanager
def reducing(decoder: Any) -> Iterator[None]:
    """Let the layers of `decoder` reduce prompts that come with a `PromptCache`.

    Args:
        decoder: a transformers decoder with `.layers` of the pre-norm kind (`input_layernorm`,
            `self_attn`, `post_attention_layernorm`, `mlp`).

    The model is left exactly as it was, also after an exception.
    """
    AttentionInterface.register(COLLECTING, collecting_attention)
    AttentionInterface.register(SHARED, shared_attention)
    AttentionInterface.register(SPLIT, split_attention)
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
    forward: Callable[..., Tensor],
    index: int,
    hidden_states: Tensor,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """What a decoder layer does inside `reducing`."""
    call = LayerCall(layer, forward, index, hidden_states, args, kwargs)
    # known by its type: the keyword is the model's own affair, and has changed before
    cache = next((one for one in (*kwargs.values(), *args) if isinstance(one, PromptCache)), None)
    if cache is None:
        return call.plain()
    cache.visited.append(index)
    if spread(layer):
        _bring(call)
    if cache.beams:
        return decode_layer(call, cache)
    if isinstance(cache, ForkedCache):
        return unread_layer(call, cache)
    if isinstance(cache, EvictedCache) and cache.reduces:
        return evicting_layer(call, cache)
    if isinstance(cache, ReducedCache) and cache.reduces:
        return _reducing_layer(call, cache)
    return call.plain()


def _bring(call: LayerCall) -> None:
    """What the layer before left on another device, for a model that is spread over several."""
    device = home(call.layer)
    embeddings = call.take("position_embeddings")
    call.hand("position_embeddings", tuple(part.to(device) for part in embeddings))
    call.hidden = call.hidden.to(device)


def _reducing_layer(call: LayerCall, cache: ReducedCache) -> Tensor:
    """A layer of a prefill some of whose audio tokens go."""
    if call.index == 0 and cache.acts:
        call.hidden = _merge(call.hidden, _input_view(call.hidden, cache), cache)
    state = cache.state
    cache.prompts.append(state)
    call.hand("position_embeddings", _rotary(call.take("position_embeddings"), state))
    if shortens(call.layer, cache, call.index):
        return last_layer(call, cache)
    mask = cache.masks.prefill(state, call.hidden)
    call.hand("attention_mask", mask)
    if cache.acts:
        return _merging_layer(call, cache)
    bias = _bias(cache, call.hidden)
    if mask is not None or bias is None:
        return call.plain()
    with attending_by(call.layer.self_attn, COLLECTING, {}) as taken:
        return call.plain(collected=Collected(state.columns, bias, frozenset()), taken=taken)


def _bias(cache: ReducedCache, like: Tensor) -> Tensor | None:
    """What the size bias adds to the scores of each key, (rows, width); None if nothing."""
    return log_sizes(cache.state, like.device) if cache.reduction.size_bias else None


def _merging_layer(call: LayerCall, cache: ReducedCache) -> Tensor:
    """A layer of the form x + attn(norm(x)), then x + mlp(norm(x)), with a merge in between."""
    layer = call.layer
    scale = getattr(layer, "residual_multiplier", 1.0)
    hidden = _attended_and_merged(call, cache, scale)
    updated: Tensor = layer.mlp(layer.post_attention_layernorm(hidden))
    output: Tensor = hidden + (updated if scale == 1.0 else updated * scale)
    return output


def _attended_and_merged(call: LayerCall, cache: ReducedCache, scale: float) -> Tensor:
    """The first half of `_merging_layer`; queries and scores are gone when it ends."""
    layer, hidden, state = call.layer, call.hidden, cache.state
    collected = Collected(state.columns, _bias(cache, hidden), cache.reduction.method.needs)
    with attending_by(layer.self_attn, COLLECTING, {}) as taken:
        attended, _ = layer.self_attn(
            hidden_states=layer.input_layernorm(hidden),
            collected=collected,
            taken=taken,
            **call.kwargs,
        )
    hidden = hidden + (attended if scale == 1.0 else attended * scale)
    return _merge(hidden, _layer_view(hidden, collected, state), cache)


def _merge(hidden: Tensor, view: AudioView, cache: ReducedCache) -> Tensor:
    """Merge the audio rows of `hidden` and move the cache's state on."""
    state, spans = cache.state, Spans(cache.state.rows)
    found = _plan(spans.view(view), cache)
    each = tuple(len(row.spans) for row in state.rows)
    cache.made.append(Made(len(cache.prompts), found.made(), each))
    plan, rows = spans.plan(found), spans.left(found.kept)
    if cache.decides:
        cache.settle(plan.kept)
    cache.state = state.merged(plan, rows, cache.reduction.positions == "keep", hidden.device)
    return state.splice(hidden, plan.mean(view.states), cache.state)


def _plan(view: AudioView, cache: ReducedCache) -> Plan:
    """Where the tokens of each span go."""
    threshold = cache.reduction.threshold
    if threshold is not None and cache.decides:
        return threshold.method.decide(view, threshold.value)
    kept = cache.wanted
    plan = cache.reduction.method.plan(view, kept)
    if plan.kept != kept:
        raise ReductionError(
            f"the method kept {plan.kept} audio tokens where {kept} were asked for"
        )
    return plan


def _layer_view(hidden: Tensor, collected: Collected, state: PromptState) -> AudioView:
    columns = collected.columns
    return AudioView(
        lengths=columns.length,
        keys=collected.keys,
        states=columns.gather(hidden, 1),
        received=None if collected.sums is None else collected.received,
        last_query=collected.last_query,
        sizes=columns.gather(state.sizes_on(hidden.device), 1),
    )


def _input_view(hidden: Tensor, cache: ReducedCache) -> AudioView:
    """The projected tokens, before any layer; they stand in as keys of one head."""
    columns = cache.state.columns
    states = columns.gather(hidden, 1)
    encoder = cache.encoder
    if encoder is not None:
        received, own = (part.to(hidden.device) for part in (encoder.received, encoder.own))
        encoder = replace(encoder, received=received, own=own)
    return AudioView(
        lengths=columns.length,
        keys=states.unsqueeze(1),
        states=states,
        received=None,
        last_query=None,
        sizes=torch.ones(states.shape[:2], device=hidden.device),
        at_input=True,
        encoder=encoder,
    )


def _rotary(embeddings: tuple[Tensor, Tensor], state: PromptState) -> tuple[Tensor, Tensor]:
    """The rotary embeddings of the tokens that are left, (batch, width, head_dim) each."""
    cos, sin = embeddings
    if state.origin is None:
        return cos[:, -state.width :], sin[:, -state.width :]
    batch = len(state.origin)
    index = state.origin.to(cos.device).unsqueeze(-1).expand(-1, -1, cos.shape[-1])
    return (
        cos.expand(batch, -1, -1).gather(1, index),
        sin.expand(batch, -1, -1).gather(1, index),
    )
