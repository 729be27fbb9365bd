"""Keys and values of one decoder layer in one buffer: the prompt once, then what is generated.

Knows tensors and the cache interface of transformers; knows nothing of audio or of reduction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

SPARE = 64
"""Slots beyond what is filled, whenever a buffer is made; from then on the room doubles."""


class Giving(Protocol):
    """A layer whose keys and values can be taken out of it."""

    dtype: torch.dtype
    device: torch.device

    def give(self) -> Tensor:
        """Keys of the slots in use, at the second call values; they are let go of."""


class SlotsLayer(CacheLayerMixin):  # type: ignore[misc]
    """What a cache layer without a limit tells transformers of its slots."""

    is_sliding = False

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Slots that `query_length` new tokens will see, and the first of them."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """No limit."""
        return -1


class GrowingLayer(SlotsLayer):
    """Slots of one layer, (rows, kv_heads, slots, head_dim), written in place.

    Nothing is concatenated at a step. A generated token takes one slot for each beam of its row,
    behind the prompt, which all of them share: a choice of beams changes who sees which slot (see
    `masks.Tails`) and moves no memory.

    Attributes:
        beams: decode rows that share one row of the cache.
        keys, values: the slots in use, views of the buffers.
        length: slots in use.
    """

    def __init__(self) -> None:
        super().__init__()
        self.beams = 1
        self.length = 0
        self._prompt = 0
        self._most: int | None = None
        self._buffers: list[Tensor] = []

    @classmethod
    def side_by_side(cls, parts: Sequence[tuple[Giving, Sequence[int]]], width: int) -> Self:
        """A layer of the chosen rows of some layers, one after the other, right-aligned.

        Args:
            parts: layers with one beam, each with the rows that stay; they are emptied.
            width: slots of the longest row that stays.
        """
        joined = cls()
        like = parts[0][0]
        joined.dtype, joined.device = like.dtype, like.device
        joined.is_initialized, joined.length = True, width
        # keys first, and the old ones go before room is made for the values
        for _ in range(2):
            held = [(part.give(), rows) for part, rows in parts]
            joined._buffers.append(_right_aligned(held, width))
        return joined

    def share(self, beams: int, steps: int) -> None:
        """What is held now is the prompt; at most `steps` tokens of `beams` beams will follow."""
        self.beams, self._prompt, self._most = beams, self.length, beams * steps

    @property
    def tail(self) -> int:
        """Slots in use behind the prompt, one for each token of each beam."""
        return 0 if self._most is None else self.length - self._prompt

    @property
    def held_bytes(self) -> int:
        """Bytes of the buffers, spare room included."""
        return sum(buffer.nbytes for buffer in self._buffers)

    @property
    def filled(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the slots in use, views of the buffers."""
        keys, values = (buffer[:, :, : self.length] for buffer in self._buffers)
        return keys, values

    def give(self) -> Tensor:
        """Keys of the slots in use, at the second call values; they are let go of."""
        return self._buffers.pop(0)[:, :, : self.length]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make empty buffers for states of these shapes, (rows, kv_heads, any, head_dim)."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self._buffers = [states[:, :, :0] for states in (key_states, value_states)]
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Add tokens and return all slots in use.

        Args:
            key_states, value_states: (rows * beams, kv_heads, new, head_dim); `new` is 1 where
                rows have several beams.
        """
        fresh = [self._by_row(states) for states in (key_states, value_states)]
        if not self.is_initialized:
            self.lazy_initialization(*fresh)
        begin, self.length = self.length, self.length + fresh[0].shape[2]
        if self.length > self._buffers[0].shape[2]:
            self._grow(begin)
        for buffer, states in zip(self._buffers, fresh, strict=True):
            buffer[:, :, begin : self.length] = states
        self.keys, self.values = self.filled
        return self.keys, self.values

    def hold(self, key_states: Tensor, value_states: Tensor) -> None:
        """Hold these tokens, (rows, kv_heads, any, head_dim), and free all that was held."""
        self.length = 0
        self.lazy_initialization(key_states, value_states)
        self.update(key_states, value_states)

    def _by_row(self, states: Tensor) -> Tensor:
        """A slot for each beam: (rows * beams, heads, 1, dim) -> (rows, heads, beams, dim)."""
        if self.beams == 1:
            return states
        rows, heads, _, width = states.shape
        return states.view(rows // self.beams, self.beams, heads, width).transpose(1, 2)

    def _grow(self, filled: int) -> None:
        """Move the first `filled` slots to buffers in which `length` fit and as many again."""
        slots = self.length + max(SPARE, self.tail)
        if self._most is not None:
            slots = max(self.length, min(slots, self._prompt + self._most))
        for index, buffer in enumerate(self._buffers):
            rows, heads, _, width = buffer.shape
            grown = buffer.new_empty(rows, heads, slots, width)
            grown[:, :, :filled] = buffer[:, :, :filled]
            # one at a time: the old keys go before room is made for the values
            self._buffers[index] = grown

    def get_seq_length(self) -> int:
        """Slots in use."""
        return self.length


def _right_aligned(parts: Sequence[tuple[Tensor, Sequence[int]]], width: int) -> Tensor:
    """Rows of some keys or values in one buffer that is filled up to `width`.

    What stands in the left padding is zero: a mask hides it, but it must be finite.
    """
    like = parts[0][0]
    rows = sum(len(stay) for _, stay in parts)
    out = like.new_empty(rows, like.shape[1], width + SPARE, like.shape[3])
    first = 0
    for filled, stay in parts:
        taken = min(width, filled.shape[2])
        place = out[first : first + len(stay), :, :width]
        place[:, :, : width - taken] = 0
        held = filled[:, :, filled.shape[2] - taken :]
        chosen = torch.tensor(stay, device=held.device)
        torch.index_select(held, 0, chosen, out=place[:, :, width - taken :])
        first += len(stay)
    return out
