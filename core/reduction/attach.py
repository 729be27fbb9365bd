"""Whether a decoder's layers are of the form that a reduction takes apart, tried on the decoder.

A layer that merges is not run by its own forward but piece by piece, as x + attn(norm(x)), then
x + mlp(norm(x)). A decoder whose layers do more than that (Gemma's extra norms, AltUp) would give
other numbers without a word. So before the first reduction the decoder reads two short prompts,
one of them padded: by its own forwards, and as a reduction goes. Every pass is checked to have gone
that way (see `passes.read`), so nothing is proven by two passes that are both untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..errors import ReductionError, StartError, first_line
from ..flops import PromptLengths
from ..merge import Plan
from ..methods import AudioView, Method
from ..placing import home
from .cache import ReducedCache, Reduction
from .layers import reducing
from .passes import read, read_prompts

_PROMPTS = (PromptLengths(3, 8, 3), PromptLengths(2, 5, 4))
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


@dataclass(frozen=True)
class _Pairs(Method):
    """Merges the first token with the second, the third with the fourth, and so on."""

    def plan(self, view: AudioView, kept: Sequence[int]) -> Plan:
        """Half of the tokens, rounded up; all of them where all are to stay."""
        device = view.states.device
        lengths, left = torch.tensor([view.lengths, kept], device=device).unsqueeze(-1)
        second = torch.arange(1, max(view.lengths), device=device)
        joined = (second % 2 == 1) & (second < lengths) & (left < lengths)
        return Plan.from_joins(joined, torch.ones_like(view.sizes), view.lengths, kept)


def why_not(decoder: Any, embeddings: nn.Module) -> str | None:
    """Why this decoder cannot be reduced, in one clause; None if it can.

    Costs six passes over at most thirty tokens, the first time that a decoder is asked about.

    Args:
        decoder: a transformers decoder, not inside `reducing`.
        embeddings: ids to embeddings, with a `weight`.

    Raises:
        StartError: its layers may be of the form, and are not reached.
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
    tokens = sum(prompt.total for prompt in _PROMPTS) + len(_PROMPTS)
    ids = torch.linspace(0, table.shape[0] - 1, tokens, device=home(embeddings)).long()
    *rows, next_token = torch.split(
        embeddings(ids), [*(prompt.total for prompt in _PROMPTS), len(_PROMPTS)]
    )
    try:
        gap = max(_apart(decoder, rows), _merged(decoder, rows, next_token))
        _shrinks(decoder, rows)
    except ReductionError as error:
        raise StartError(f"this model cannot be reduced here: {error}") from error
    except Exception as error:
        return f"its layers cannot be taken apart ({first_line(error)})"
    weights = [one.is_floating_point() for one in decoder.layers.parameters()]
    exact = next_token.dtype if all(weights) else None  # integers round as coarsely as any
    if gap <= _TOLERANCE.get(exact, _ROUGH_TOLERANCE):
        return None
    return f"its layers, taken apart, differ from their own forward by {gap:.1%}"


def _apart(decoder: Any, rows: Sequence[Tensor]) -> float:
    """How far all states are from the decoder's own when nothing is merged."""
    layers = len(decoder.layers)
    cache = _Untouched(_PROMPTS, [[row.audio] * (layers + 1) for row in _PROMPTS], _reduction())
    with reducing(decoder):
        found = read_prompts(decoder, rows, cache)
    cache.observed()
    expected = _own(decoder, rows, [_positions(row, 1) for row in _PROMPTS])
    pairs = zip(found, expected, strict=True)
    return max(_gap(one[-len(other) :], other) for one, other in pairs)


def _merged(decoder: Any, rows: Sequence[Tensor], next_token: Tensor) -> float:
    """How far the state of a next token is from that behind prompts that came merged already."""
    left = [-(-row.audio // 2) for row in _PROMPTS]
    kept = [[count] * (len(decoder.layers) + 1) for count in left]
    cache = ReducedCache(_PROMPTS, kept, _reduction())
    ends = torch.tensor([[row.total] for row in _PROMPTS], device=next_token.device)
    with reducing(decoder):
        read_prompts(decoder, rows, cache)
        cache.observed()
        cache.begin(1, 1, next_token.device)
        cache.advance()
        cache.follow()
        found = read(
            decoder, cache, inputs_embeds=next_token.unsqueeze(1), position_ids=ends
        ).squeeze(1)
    whole, positions = [], []
    for row, states, token in zip(_PROMPTS, rows, next_token, strict=True):
        head, audio, tail = torch.split(states, [row.before, row.audio, row.after])
        pairs = torch.stack([pair.mean(0) for pair in torch.split(audio, 2)])
        whole.append(torch.cat([head, pairs, tail, token[None]]))
        positions.append([*_positions(row, 2), row.total])
    expected = _own(decoder, whole, positions)
    return max(_gap(one, other[-1]) for one, other in zip(found, expected, strict=True))


def _shrinks(decoder: Any, rows: Sequence[Tensor]) -> None:
    """Merge inside the first layer; raises unless the layers behind it hold so much less."""
    layers = len(decoder.layers)
    kept = [[row.audio] + [-(-row.audio // 2)] * layers for row in _PROMPTS]
    cache = ReducedCache(_PROMPTS, kept, _reduction())
    with reducing(decoder):
        read_prompts(decoder, rows, cache)
    cache.observed()


def _reduction() -> Reduction:
    return Reduction(_Pairs(), "keep")


def _positions(row: PromptLengths, every: int) -> list[int]:
    """Positions of a prompt whose audio has one token left of so many."""
    first, end = row.before, row.before + row.audio
    return [*range(first), *range(first, end, every), *range(end, row.total)]


def _own(decoder: Any, rows: Sequence[Tensor], positions: Sequence[list[int]]) -> list[Tensor]:
    """What the untouched decoder makes of each row, (tokens, hidden), padded as one batch."""
    device = rows[0].device
    mask = pad_sequence(
        [torch.ones(len(row), device=device) for row in rows], True, padding_side="left"
    )
    numbers = [torch.tensor(one, device=device) for one in positions]
    hidden: Tensor = decoder(
        inputs_embeds=pad_sequence(list(rows), True, padding_side="left"),
        attention_mask=mask.long(),
        position_ids=pad_sequence(numbers, True, padding_side="left"),
        use_cache=False,
    ).last_hidden_state
    return [states[-len(row) :] for states, row in zip(hidden, rows, strict=True)]


def _gap(found: Tensor, expected: Tensor) -> float:
    """The largest difference, over the largest number."""
    return float((found.float() - expected.float()).abs().max() / expected.float().abs().max())
