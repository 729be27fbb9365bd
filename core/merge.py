"""Plan: where each audio token goes, and how it is applied. Torch only; knows no model, no method.

A plan is made once per layer from that layer's scores and applied to everything that has one entry
per audio token: hidden states, positions, sizes. Merging and dropping are the same thing: a token
whose slot is -1 goes nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Plan:
    """Where each audio token of a batch goes.

    Rows may have different numbers of audio tokens and keep different numbers: the tensors are
    padded on the right, padding has slot -1. Slots of a row are 0 .. kept-1 in order of time, none
    of them empty, so kept counts are known without asking the device.

    Attributes:
        slot: output slot of each token, -1 = dropped or padding; shape (batch, audio), int64.
        weight: non-negative share of each token in its slot's mean, any scale; (batch, audio),
            float32.
        kept: slots of each row.
        moved: the largest number of tokens of any row that are not the first of their slot.
    """

    slot: Tensor
    weight: Tensor
    kept: tuple[int, ...]
    moved: int

    @classmethod
    def from_joins(
        cls, joined: Tensor, weight: Tensor, lengths: Sequence[int], kept: Sequence[int]
    ) -> Plan:
        """Plan in which runs of joined neighbours collapse into one slot each.

        Args:
            joined: True at i when token i+1 goes to the slot of token i; (batch, audio - 1), bool.
            weight: see `Plan.weight`.
            lengths: audio tokens of each row.
            kept: slots of each row, = length - number of joins.
        """
        first = torch.nn.functional.pad(~joined, (1, 0), value=True)
        slot = first.long().cumsum(-1) - 1
        columns = torch.arange(slot.shape[1], device=slot.device)
        if min(lengths) < slot.shape[1]:
            slot = slot.masked_fill(columns >= _column(lengths, slot.device), -1)
        moved = max(length - left for length, left in zip(lengths, kept, strict=True))
        return cls(slot, weight, tuple(kept), moved)

    @classmethod
    def from_kept(cls, stays: Tensor, kept: Sequence[int]) -> Plan:
        """Plan in which tokens stay as they are or go.

        Args:
            stays: True at the tokens that stay, False in the padding; (batch, audio), bool.
            kept: how many stay in each row.
        """
        slot = (stays.long().cumsum(-1) - 1).masked_fill(~stays, -1)
        return cls(slot, torch.ones_like(slot, dtype=torch.float32), tuple(kept), 0)

    @property
    def width(self) -> int:
        """Slots of the longest row."""
        return max(self.kept)

    def mean(self, states: Tensor) -> Tensor:
        """Weighted mean of the members of each slot.

        Most slots have one member, so the first members are gathered and only the others are
        added: one copy of the output instead of a scatter of the whole input.

        Args:
            states: (batch, audio, hidden), any float dtype; summed in float32.

        Returns:
            (batch, width, hidden), dtype of `states`; rows with fewer slots end in zeros.
        """
        hidden = states.shape[-1]
        share, first = self._shares(), self.first_member()
        out = _rows(states, first).float() * share.gather(1, first).unsqueeze(-1)
        if min(self.kept) < self.width:
            columns = torch.arange(self.width, device=out.device)
            padding = columns >= _column(self.kept, out.device)
            out = out.masked_fill(padding.unsqueeze(-1), 0)
        if self.moved:
            rest, slot, share = self._rest(first, share)
            moved = _rows(states, rest).float() * share.unsqueeze(-1)
            row = torch.arange(len(out), device=out.device).unsqueeze(1) * self.width
            out.view(-1, hidden).index_add_(0, (slot + row).flatten(), moved.view(-1, hidden))
        return out.to(states.dtype)

    def total(self, values: Tensor) -> Tensor:
        """Sum over the members of each slot: (batch, audio) -> (batch, width)."""
        out = values.new_zeros(values.shape[0], self.width + 1)
        return out.scatter_add_(1, self._bins, values)[:, :-1]

    def made(self) -> Tensor:
        """What the slots really are, whatever `kept` says: (2, batch), int64.

        Slots that tokens go to: one more than the last of them, and how many are not empty. A plan
        that keeps its word has `kept` twice. Stays on the device.
        """
        filled = self._members[:, :-1] > 0
        return torch.stack([self.slot.amax(1) + 1, filled.sum(1)])

    def first_member(self) -> Tensor:
        """Index of each slot's first token: (batch, width), int64; 0 in a row's padding."""
        slot = self._bins
        columns = torch.arange(slot.shape[1], device=slot.device).expand_as(slot)
        first = torch.full_like(slot[:, :1], slot.shape[1]).expand(-1, self.width + 1).clone()
        first = first.scatter_reduce_(1, slot, columns, "amin")[:, :-1]
        return first.masked_fill(first == slot.shape[1], 0)

    def first(self, values: Tensor) -> Tensor:
        """Value of each slot's first token: (batch, audio) -> (batch, width)."""
        return values.gather(1, self.first_member())

    @cached_property
    def _bins(self) -> Tensor:
        """Slots, but a bin behind the last one for what is dropped or has no slot (see `made`)."""
        return self.slot.masked_fill(self.slot < 0, self.width).clamp_max(self.width)

    @cached_property
    def _members(self) -> Tensor:
        """Tokens of each slot and of the bin: (batch, width + 1), float32."""
        members = torch.zeros(self.slot.shape[0], self.width + 1, device=self.slot.device)
        return members.scatter_add_(1, self._bins, torch.ones_like(self._bins, dtype=torch.float32))

    def _shares(self) -> Tensor:
        """Weights scaled to sum to 1 in each slot; equal ones where a slot has none."""
        slot = self._bins
        sums = torch.zeros(slot.shape[0], self.width + 1, device=slot.device)
        sums = sums.scatter_add_(1, slot, self.weight.float()).gather(1, slot)
        counts = self._members.gather(1, slot)
        return torch.where(sums > 0, self.weight / sums.clamp_min(1e-30), 1 / counts)

    def _rest(self, first: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The tokens that are not the first of their slot: index, slot and share, (batch, moved).

        Their largest number is known on the host, so a sort finds them without asking the device
        how many there are; rows with fewer are filled up with tokens whose share is 0.
        """
        slot = self._bins
        idle = (slot == self.width).scatter(1, first, True)
        rest = idle.long().argsort(dim=1, stable=True)[:, : self.moved]
        share = share.masked_fill(idle, 0).gather(1, rest)
        return rest, slot.gather(1, rest).clamp_max(self.width - 1), share


def _rows(states: Tensor, index: Tensor) -> Tensor:
    """Gather whole rows: (batch, n, hidden) at (batch, m) -> (batch, m, hidden)."""
    if states.shape[0] == 1:
        return states[0].index_select(0, index[0]).unsqueeze(0)
    return states.gather(1, index.unsqueeze(-1).expand(-1, -1, states.shape[-1]))


def _column(counts: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(counts, device=device).unsqueeze(1)
