"""Rows of several caches become rows of one: how a prompt joins others that are being decoded.

Every row ends at the right edge, as in a batch of prompts. What was generated so far counts from
then on as text behind the audio, so rows of any length and any progress stand side by side, and
the next token takes the same slot in all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..flops import PromptLengths
from .cache import ReducedCache
from .growing import GrowingLayer
from .layout import PromptState

Part = tuple[PromptState, Sequence[int], int]


def regroup(parts: Sequence[tuple[ReducedCache, Sequence[int]]]) -> ReducedCache:
    """A cache of the chosen rows of some caches, one after the other; these are used up.

    Args:
        parts: caches after prefill or with one beam, of equal reductions, each with the rows that
            stay, in ascending order.

    Returns:
        A cache that holds no beams yet: call `begin`.
    """
    cache, chosen = parts[0]
    untouched = cache.fixed is None and not cache.tail
    if len(parts) == 1 and untouched and len(chosen) == len(cache.kept):
        return cache
    joined = ReducedCache(
        [row for one, stay in parts for row in _grown(one.rows, stay, one.tail)],
        [one.kept[n] for one, stay in parts for n in stay],
        cache.reduction,
    )
    if cache.gates is not None:
        gates = [one.gates[list(stay)] for one, stay in parts if one.gates is not None]
        joined.gates = torch.cat(gates)
    states: dict[tuple[int, ...], PromptState] = {}
    for index in range(len(cache.layers)):
        seen = [one.seen_by(index) for one, _ in parts]
        # layers that saw the same batch go on sharing a state, and with it their mask
        key = tuple(map(id, seen))
        if key not in states:
            held: list[Part] = [
                (state, stay, one.tail) for state, (one, stay) in zip(seen, parts, strict=True)
            ]
            states[key] = _side_by_side(held, joined.reduction.size_bias)
        joined.prompts.append(states[key])
        layers = [(one.layers[index], stay) for one, stay in parts]
        joined.layers.append(GrowingLayer.side_by_side(layers, states[key].width))
    return joined


def _grown(rows: Sequence[PromptLengths], stay: Sequence[int], tail: int) -> list[PromptLengths]:
    return [replace(rows[n], after=rows[n].after + tail) for n in stay]


def _side_by_side(parts: Sequence[Part], size_bias: bool) -> PromptState:
    """The chosen rows of some batches with their tails, right-aligned; positions are not kept."""
    rows = tuple(row for state, stay, tail in parts for row in _grown(state.rows, stay, tail))
    after = PromptState(rows)
    sized = [state.sizes for state, _, _ in parts if state.sizes is not None]
    if not size_bias or not sized:
        return after
    sizes = torch.ones(len(rows), after.width, device=sized[0].device)
    first = 0
    for state, stay, tail in parts:
        known = _right(state.sizes_on(sizes.device)[list(stay)], tail, after.width)
        sizes[first : first + len(stay), after.width - known.shape[1] :] = known
        first += len(stay)
    return replace(after, sizes=sizes)


def _right(sizes: Tensor, tail: int, width: int) -> Tensor:
    """The last `width` columns at most, a tail of single tokens behind them."""
    return torch.nn.functional.pad(sizes, (0, tail), value=1.0)[:, -width:]
