"""Prompts that begin alike: their beginning is prefilled once, then each of them reads on.

Rows of a cache of beginnings are copied, one for each prompt, to where a batch of the whole prompts
would have them: right-aligned, the slots of the words that follow still empty. These words are then
read in one pass, which is the last columns of an ordinary prefill. A row with fewer words than
another has the end of its beginning in the first of these columns, and what it has there stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..flops import PromptLengths
from .cache import ReducedCache, Reduction
from .call import LayerCall
from .growing import SPARE, GrowingLayer
from .layout import PromptState


class ForkedCache(ReducedCache):
    """Cache of prompts whose beginnings it holds, and whose last words are to be read in one pass.

    Attributes:
        words: that are missing in each row.
    """

    def __init__(
        self,
        rows: Sequence[PromptLengths],
        kept: Sequence[Sequence[int]],
        reduction: Reduction,
        words: Sequence[int],
    ) -> None:
        super().__init__(rows, kept, reduction)
        self.words = tuple(words)
        self._unread: dict[torch.device, Tensor] = {}

    def unread(self, like: Tensor) -> Tensor:
        """Mask of the pass over all slots, additive, (rows or 1, 1, columns, width).

        On the device and in the dtype of `like`.
        """
        if like.device not in self._unread:
            column = torch.arange(self.state.width, device=like.device)
            past = column <= column[-max(self.words) :, None]
            seen = self.masks.prompt(self.state, like)
            seen = like.new_zeros(()) if seen is None else seen
            # not -inf: a padding query without any key would be undefined
            unseen = torch.finfo(like.dtype).min
            self._unread[like.device] = torch.where(past[None, None], seen, unseen)
        return self._unread[like.device]

    def begin(self, beams: int, steps: int, device: torch.device) -> None:
        """End the prompts, see `PromptCache.begin`."""
        self._unread.clear()
        super().begin(beams, steps, device)


def fork(
    beginnings: ReducedCache, rows: Sequence[PromptLengths], source: Sequence[int]
) -> ForkedCache:
    """A cache for whole prompts.

    Args:
        beginnings: after their prefill, in no layer of which anything went: before the first, or
            not at all. It is used up.
        rows: token counts of the prompts before anything was removed.
        source: the row of `beginnings` that each begins with, all but its last words.
    """
    held = beginnings.seen_by(0)
    words = [row.after - held.rows[n].after for row, n in zip(rows, source, strict=True)]
    cache = ForkedCache(rows, [beginnings.kept[n] for n in source], beginnings.reduction, words)
    cache.made = [made.of(source) for made in beginnings.made]
    left = [replace(held.rows[n], after=row.after) for row, n in zip(rows, source, strict=True)]
    cache.state = PromptState(tuple(left))
    place = _Place(tuple(source), cache.words, cache.state.width)
    if held.sizes is not None:
        sizes = place.move(held.sizes[:, None, :, None])
        cache.state = replace(cache.state, sizes=sizes[:, 0, :, 0])
    while beginnings.layers:
        cache.layers.append(_Unread(beginnings.layers.pop(0), place))
    return cache


@dataclass(frozen=True, slots=True)
class _Place:
    """Where rows of the beginnings go.

    Attributes:
        source: the row that each new row is a copy of.
        words: columns that stay empty behind each.
        width: columns of the new rows.
    """

    source: tuple[int, ...]
    words: tuple[int, ...]
    width: int

    def move(self, states: Tensor, spare: int = 0) -> Tensor:
        """(beginnings, heads, slots, dim) -> (rows, heads, width + spare, dim), elsewhere 1."""
        _, heads, slots, dim = states.shape
        moved = states.new_ones(len(self.source), heads, self.width + spare, dim)
        for words in set(self.words):
            rows = [n for n, count in enumerate(self.words) if count == words]
            end = self.width - words
            taken = min(slots, end)
            held = states[:, :, slots - taken :]
            moved[rows, :, end - taken : end] = held[[self.source[n] for n in rows]]
        return moved

    def empty(self, device: torch.device) -> Tensor:
        """True where a word is missing, in the columns of the pass: (rows, 1, columns, 1)."""
        most = max(self.words)
        words = torch.tensor(self.words, device=device).view(-1, 1, 1, 1)
        return torch.arange(most, device=device).view(-1, 1) >= most - words


class _Unread(GrowingLayer):
    """Slots of one layer, of which the first update fills those that are empty."""

    def __init__(self, beginnings: GrowingLayer, place: _Place) -> None:
        super().__init__()
        self.lazy_initialization(beginnings.keys, beginnings.values)
        self.length = place.width
        held = beginnings.keys, beginnings.values
        self._buffers = [place.move(states, SPARE) for states in held]
        self.keys, self.values = self.filled
        self._empty: Tensor | None = place.empty(beginnings.keys.device)

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Add tokens and return all slots in use: the first time no more of them than before."""
        if self._empty is None:
            return super().update(key_states, value_states)
        columns = slice(-self._empty.shape[2], None)
        for held, states in ((self.keys, key_states), (self.values, value_states)):
            held[:, :, columns] = torch.where(self._empty, states, held[:, :, columns])
        self._empty = None
        return self.keys, self.values


def unread_layer(call: LayerCall, cache: ForkedCache) -> Tensor:
    """The last columns of a prefill, (rows, columns, hidden), through one layer."""
    call.hand("attention_mask", cache.unread(call.hidden))
    return call.plain()
