"""One pass of a decoder over a cache, and whether it went the way it was meant to go."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cache as remembered
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from ..errors import ReductionError
from .cache import PromptCache

_CACHE_NAMES = ("cache", "past_key_values")
"""The keyword of a KV cache, since transformers 5.24 and before it."""


def read(decoder: Any, cache: PromptCache, **inputs: Any) -> Tensor:
    """What leaves the last norm, (rows, tokens, hidden), for tokens that `cache` takes in.

    Args:
        decoder: a transformers decoder inside `reducing`.
        cache: of the prompts.
        inputs: of its forward.

    Raises:
        ReductionError: not every layer was reached, once and in order, or one of them holds more or
            fewer tokens afterwards than the prompts have there.
    """
    cache.visited.clear()
    kind: Any = type(decoder)
    inputs[_cache_name(kind)] = cache
    hidden: Tensor = decoder(**inputs, use_cache=True).last_hidden_state
    _check(cache, len(decoder.layers))
    return hidden


def read_prompts(decoder: Any, prompts: Sequence[Tensor], cache: PromptCache) -> Tensor:
    """What leaves the last norm, (batch, width, hidden), rows padded on the left.

    The width is that of the batch behind the last layer, or 1 where that layer ran for the last
    position only.

    Args:
        decoder: as of `read`.
        prompts: embeddings of each row, (row.total, hidden).
        cache: a new one.

    Raises:
        ReductionError: see `read`.
    """
    lengths = [row.total for row in cache.rows]
    width = max(lengths)
    padded = [nn.functional.pad(prompt, (0, 0, width - len(prompt), 0)) for prompt in prompts]
    embeddings = torch.stack(padded)
    pad = width - torch.tensor(lengths, device=embeddings.device).unsqueeze(1)
    column = torch.arange(width, device=embeddings.device)
    # a cache that reduces brings its own masks
    padded_rows = min(lengths) < width and not cache.reduces
    return read(
        decoder,
        cache,
        inputs_embeds=embeddings,
        attention_mask=(column >= pad).long() if padded_rows else None,
        position_ids=(column - pad).clamp_min(0),
    )


def _check(cache: PromptCache, layers: int) -> None:
    """Shapes only: nothing waits for the device."""
    if cache.visited != list(range(layers)):
        missed = sorted(set(range(layers)) - set(cache.visited))
        what = (
            f"layer {missed[0]} was not handed" if missed else "layers were handed more than once"
        )
        raise _unknown(f"{what} the KV cache of the prompt")
    for index in range(layers):
        layer = cache.layers[index] if index < len(cache.layers) else None
        held = 0 if layer is None or layer.keys is None else layer.keys.shape[2]
        if held != cache.width(index):
            raise _unknown(
                f"layer {index} holds {held} tokens and was to hold {cache.width(index)}"
            )


def _unknown(what: str) -> ReductionError:
    return ReductionError(
        f"{what}, so nothing counts as cut: use --preset none, or the transformers that fastadasp"
        f" asks for (this is {transformers.__version__}; see fastadasp doctor)"
    )


@remembered
def _cache_name(decoder: type) -> str:
    """The keyword under which this class of decoder takes its cache."""
    for kind in decoder.__mro__:
        forward = vars(kind).get("forward")
        names = inspect.signature(forward).parameters if forward else ()
        found = [name for name in _CACHE_NAMES if name in names]
        if found:
            return found[0]
    raise _unknown(f"{decoder.__name__} takes no KV cache that is known here")
