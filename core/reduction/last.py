"""The last decoder layer of a prefill: keys and values for all tokens, the rest for the last one.

A prefill is asked for the logits of its last position, and nothing attends to what leaves the last
layer. So its queries, its output projection, its MLP and its merge are wanted for one token only.
The result is that of the whole layer but for rounding: a product of one row is summed in another
order than one of thousands. A cache that removes nothing therefore takes no part in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from .cache import ReducedCache
from .call import LayerCall
from .decoding import Taken, attending_by

SKIPPED = "fastadasp_skipped"
_MISSING = object()


def shortens(layer: Any, cache: ReducedCache, index: int) -> bool:
    """Whether this layer of the prefill is run for the last position only.

    Not where the last token is audio that the layer merges. Not where a threshold is yet to
    decide how many tokens leave it. Not where queries have no projection of their own, which could
    be left out.
    """
    last = cache.last_position and index == len(cache.kept[0]) - 2 and not cache.decides
    apart = all(hasattr(layer.self_attn, name) for name in ("q_proj", "o_proj"))
    stays = not cache.acts or all(row.after > 0 for row in cache.state.rows)
    return last and apart and stays


def last_layer(call: LayerCall, cache: ReducedCache) -> Tensor:
    """Keys and values of (batch, width, hidden), then the layer's output for the last column.

    Args:
        call: of a layer of the form x + attn(norm(x)), then x + mlp(norm(x)); its position
            embeddings are those of its states.
        cache: of the prefill.

    Returns:
        (batch, 1, hidden).
    """
    layer, embeddings = call.layer, call.take("position_embeddings")
    earlier, last = (
        {**call.kwargs, "position_embeddings": tuple(part[:, columns] for part in embeddings)}
        for columns in (slice(None, -1), slice(-1, None))
    )
    call.take("attention_mask")
    earlier["attention_mask"] = None
    with _keys_and_values_only(layer.self_attn) as taken:
        layer.self_attn(
            hidden_states=layer.input_layernorm(call.hidden[:, :-1]), taken=taken, **earlier
        )
    last["attention_mask"] = cache.masks.prompt(cache.state, call.hidden)
    cache.shortened = True
    return call.forward(call.hidden[:, -1:], *call.args, **last)


@contextmanager
def _keys_and_values_only(attention: Any) -> Iterator[Taken]:
    """Let an attention module fill its cache and do none of the rest; see `attending_by`."""
    with ExitStack() as stack:
        taken = stack.enter_context(attending_by(attention, SKIPPED, {}))
        for projection in (attention.q_proj, attention.o_proj):
            stack.enter_context(_standing_in(projection))
        yield taken


@contextmanager
def _standing_in(projection: Any) -> Iterator[None]:
    """Let a projection answer with zeros that take no memory."""

    def zeros(states: Tensor) -> Tensor:
        return states.new_zeros(()).expand(*states.shape[:-1], projection.out_features)

    before = projection.__dict__.get("forward", _MISSING)
    projection.forward = zeros
    try:
        yield
    finally:
        del projection.forward
        if before is not _MISSING:
            projection.forward = before


def skipped_attention(
    module: nn.Module, query: Tensor, *_: Any, taken: Taken, **__: Any
) -> tuple[Tensor, None]:
    """Attention backend that mixes nothing: zeros, (batch, queries, heads, head_dim)."""
    taken.by = SKIPPED
    batch, heads, queries, width = query.shape
    return query.new_zeros(()).expand(batch, queries, heads, width), None
