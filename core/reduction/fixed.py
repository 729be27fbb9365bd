"""What is generated, in memory that stays where it is: a step that is recorded can be played back.

The prompt's keys and values are left where the prefill put them. Behind them lies room for so many
tokens; which of its slots come next, and who sees which, is known to the device alone. Knows
tensors and the cache interface of transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from .growing import SPARE, GrowingLayer, SlotsLayer


class FixedTails:
    """Which generated slots each beam sees, as `masks.Tails`, moved on without a new tensor.

    Attributes:
        steps: tokens generated so far, the one under way included.
        room: tokens that there is room for.
        seen: (rows, beams, room * beams), bool.
        slots: where the token under way goes, (beams,), int64.
        filled: slots in use, (1,), int32.
    """

    def __init__(self, rows: int, beams: int, device: torch.device) -> None:
        self.beams, self.steps, self.room = beams, 0, SPARE
        self.seen = torch.zeros(rows, beams, SPARE * beams, dtype=torch.bool, device=device)
        self.slots = torch.arange(-beams, 0, device=device)
        self.filled = torch.zeros(1, dtype=torch.int32, device=device)
        self._own = torch.eye(beams, dtype=torch.bool, device=device).repeat(rows, 1, 1)

    @property
    def length(self) -> int:
        """Slots in use."""
        return self.steps * self.beams

    def advance(self) -> bool:
        """Count one more token; whether the room for it has to be made, and then twice as much."""
        self.steps += 1
        if self.steps <= self.room:
            return False
        self.seen = pad(self.seen, (0, self.room * self.beams))
        self.room *= 2
        return True

    def follow(self, parents: Tensor | None) -> None:
        """Let the device go on to the token that was counted last.

        Args:
            parents: the beam that each beam continues, (rows, beams), int64; None: its own.
        """
        if parents is not None and self.beams > 1:
            self.seen.copy_(self.seen.gather(1, parents.unsqueeze(-1).expand_as(self.seen)))
        self.slots += self.beams
        self.filled += self.beams
        self.seen.index_copy_(2, self.slots, self._own)

    def saved(self) -> list[Tensor]:
        """Copies of what `follow` changes."""
        return [held.clone() for held in self._changing]

    def restore(self, saved: list[Tensor]) -> None:
        """Undo what `follow` has changed since."""
        for held, before in zip(self._changing, saved, strict=True):
            held.copy_(before)

    @property
    def _changing(self) -> tuple[Tensor, ...]:
        return self.seen, self.slots, self.filled


@dataclass(frozen=True, slots=True)
class Behind:
    """What one layer holds behind its prompts.

    Attributes:
        keys, values: (rows, kv_heads, room * beams, head_dim).
        tails: which of the slots are in use, and who sees them.
    """

    keys: Tensor
    values: Tensor
    tails: FixedTails


class FixedLayer(SlotsLayer):
    """Keys and values of one decoder layer: the prompt as it was, and room behind it.

    Args:
        prompt: the layer after a prefill; it is used up.
        tails: shared by all layers; they must advance together.

    Attributes:
        keys, values: of the prompt, (rows, kv_heads, width, head_dim).
    """

    def __init__(self, prompt: GrowingLayer, tails: FixedTails) -> None:
        super().__init__()
        self.dtype, self.device = prompt.dtype, prompt.device
        self.is_initialized, self._prompt, self._tails = True, prompt, tails
        self.keys, self.values = prompt.filled
        rows, heads, _, width = self.keys.shape
        size = rows, heads, tails.room * tails.beams, width
        self._behind = [self.keys.new_zeros(size), self.values.new_zeros(size)]

    @property
    def behind(self) -> Behind:
        """What stands behind the prompt."""
        keys, values = self._behind
        return Behind(keys, values, self._tails)

    @property
    def length(self) -> int:
        """Slots in use, the prompt's included."""
        return self._prompt.length + self.tail

    @property
    def tail(self) -> int:
        """Slots in use behind the prompt, one for each token of each beam."""
        return self._tails.length

    @property
    def held_bytes(self) -> int:
        """Bytes of the buffers, spare room included."""
        return self._prompt.held_bytes + sum(held.nbytes for held in self._behind)

    def make_room(self) -> None:
        """As much behind the prompt as the tails have room for."""
        more = self._tails.room * self._tails.beams - self._behind[0].shape[2]
        for index, held in enumerate(self._behind):
            self._behind[index] = pad(held, (0, 0, 0, more))

    def give(self) -> Tensor:
        """See `GrowingLayer.give`."""
        return torch.cat([self._prompt.give(), self._behind.pop(0)[:, :, : self.tail]], dim=2)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: a prompt is there from the beginning."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Take in one token of each beam, (rows * beams, kv_heads, 1, head_dim); the prompt's."""
        beams = self._tails.beams
        for held, states in zip(self._behind, (key_states, value_states), strict=True):
            by_row = states.view(len(held), beams, -1, held.shape[3]).transpose(1, 2)
            held.index_copy_(2, self._tails.slots, by_row)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Slots in use."""
        return self.length
