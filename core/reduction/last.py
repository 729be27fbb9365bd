"""The last decoder layer of a prefill: keys and values for all tokens, the rest for the last one.

A prefill is asked for the logits of its last position, and nothing attends to what leaves the last
layer. So its queries, its output projection, its MLP and its merge are wanted for one token only.
The result is that of the whole layer but for rounding: a product of one row is summed in another
order than one of thousands. A cache that removes nothing therefore takes no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from .cache import ReducedCache
from .decoding import attending_by

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


def last_layer(
    layer: Any,
    plain: Callable[..., Tensor],
    hidden: Tensor,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Tensor:
    """Keys and values of (batch, width, hidden), then the layer's output for the last column.

    Args:
        layer: of the form x + attn(norm(x)), then x + mlp(norm(x)).
        plain: its own forward.
        hidden: states that enter it.
        args, kwargs: of its forward; the position embeddings are those of `hidden`.

    Returns:
        (batch, 1, hidden).
    """
    cache: ReducedCache = kwargs["past_key_values"]
    earlier, last = (
        {**kwargs, "position_embeddings": tuple(part[:, columns] for part in _embeddings(kwargs))}
        for columns in (slice(None, -1), slice(-1, None))
    )
    earlier["attention_mask"] = None
    with _keys_and_values_only(layer.self_attn):
        layer.self_attn(hidden_states=layer.input_layernorm(hidden[:, :-1]), **earlier)
    last["attention_mask"] = cache.masks.prompt(cache.state, hidden)
    return plain(hidden[:, -1:], *args, **last)


def _embeddings(kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = kwargs["position_embeddings"]
    return found


@contextmanager
def _keys_and_values_only(attention: Any) -> Iterator[None]:
    """Let an attention module fill its cache and do none of the rest."""
    with ExitStack() as stack:
        stack.enter_context(attending_by(attention, SKIPPED, {}))
        for projection in (attention.q_proj, attention.o_proj):
            stack.enter_context(_standing_in(projection))
        yield


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


def skipped_attention(module: nn.Module, query: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
    """Attention backend that mixes nothing: zeros, (batch, queries, heads, head_dim)."""
    batch, heads, queries, width = query.shape
    return query.new_zeros(()).expand(batch, queries, heads, width), None
