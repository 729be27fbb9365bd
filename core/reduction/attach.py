"""Whether a decoder's layers are of the form that a reduction takes apart, tried on the decoder.

A layer that merges is not run by its own forward but piece by piece, as x + attn(norm(x)), then
x + mlp(norm(x)). A decoder whose layers do more than that (Gemma's extra norms, AltUp) would give
other numbers without a word. So before the first reduction the decoder reads a few tokens twice:
by its own forwards, and piece by piece with nothing merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..errors import first_line
from ..flops import PromptLengths
from ..methods import get_method
from ..placing import home
from .cache import ReducedCache, Reduction
from .layers import reducing

_PROMPT = PromptLengths(3, 8, 3)
_PARTS = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")
# of the largest number; kernels differ in rounding, forms differ in everything
_TOLERANCE: dict[torch.dtype | None, float] = {torch.float32: 1e-3}
_ROUGH_TOLERANCE = 0.05
_known: WeakKeyDictionary[nn.Module, str | None] = WeakKeyDictionary()


class _Untouched(ReducedCache):
    """Takes every layer apart, and merges nothing in any."""

    @property
    def reduces(self) -> bool:
        """Yes: it goes the road of a reduction."""
        return True

    @property
    def acts(self) -> bool:
        """In every layer, not before the first."""
        return bool(self.prompts)


def why_not(decoder: Any, embeddings: nn.Module) -> str | None:
    """Why this decoder cannot be reduced, in one clause; None if it can.

    Costs two passes over fourteen tokens, the first time that a decoder is asked about.

    Args:
        decoder: a transformers decoder, not inside `reducing`.
        embeddings: ids to embeddings, with a `weight`.
    """
    if decoder not in _known:
        _known[decoder] = _look(decoder.layers) or _try(decoder, embeddings)
    return _known[decoder]


def _look(layers: Sequence[Any]) -> str | None:
    """What can be seen without running anything."""
    for part in _PARTS:
        if not all(hasattr(layer, part) for layer in layers):
            return f"its layers have no {part}"
    kinds = {getattr(layer, "attention_type", "full_attention") for layer in layers}
    kinds |= set(getattr(getattr(layers[0].self_attn, "config", None), "layer_types", None) or ())
    odd = sorted(kinds - {"full_attention"})
    return f"its layers use {odd[0].replace('_', ' ')}" if odd else None


@torch.inference_mode()
def _try(decoder: Any, embeddings: nn.Module) -> str | None:
    table: Any = embeddings.weight
    ids = torch.linspace(0, table.shape[0] - 1, _PROMPT.total, device=home(embeddings)).long()
    states = embeddings(ids).unsqueeze(0)
    kept = [[_PROMPT.audio] * (len(decoder.layers) + 1)]
    cache = _Untouched([_PROMPT], kept, Reduction(get_method("uniform"), "reindex"))
    try:
        own = _read(decoder, states, use_cache=False)
        with reducing(decoder):
            apart = _read(decoder, states, past_key_values=cache, use_cache=True)
    except Exception as error:
        return f"its layers cannot be taken apart ({first_line(error)})"
    gap = float((apart.float() - own.float()).abs().max() / own.float().abs().max())
    weights = [one.is_floating_point() for one in decoder.layers.parameters()]
    exact = states.dtype if all(weights) else None  # integer weights round as coarsely as any
    if gap <= _TOLERANCE.get(exact, _ROUGH_TOLERANCE):
        return None
    return f"its layers, taken apart, differ from their own forward by {gap:.1%}"


def _read(decoder: Any, states: Tensor, **options: Any) -> Tensor:
    position = torch.arange(states.shape[1], device=states.device).unsqueeze(0)
    hidden: Tensor = decoder(
        inputs_embeds=states, position_ids=position, **options
    ).last_hidden_state
    return hidden
