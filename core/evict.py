"""CachePlan: which cached keys and values stay, and how it is applied. Torch only; knows no method.

The counterpart of `core.merge` for methods that leave the prompt as it is and cut what is kept of
it for decoding. Keys carry their rotary positions, so what stays is copied and nothing else: the
tokens that follow go on counting from the prompt's full length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class CachePlan:
    """Which audio tokens of a batch stay in the cache of one layer, for each key head.

    Attributes:
        index: the tokens that stay, in order of time, (batch, heads, width), int64; one head if
            all of them keep the same. Rows that keep fewer are padded on the right with tokens
            that go.
        kept: tokens of each row that stay, the same number in every head.
    """

    index: Tensor
    kept: tuple[int, ...]

    @classmethod
    def from_stays(cls, stays: Tensor, kept: tuple[int, ...]) -> CachePlan:
        """Plan from a mask.

        Args:
            stays: True at the tokens that stay, False in the padding; (batch, heads, audio), bool.
            kept: how many stay in every head of each row.
        """
        index = (~stays).long().argsort(dim=-1, stable=True)
        return cls(index[..., : max(kept)], kept)

    def made(self) -> Tensor:
        """Fewest different tokens that any head keeps of each row: (1, batch), int64.

        A plan that keeps its word has `kept`. Stays on the device.
        """
        width = self.index.shape[-1]
        column = torch.arange(width, device=self.index.device)
        kept = torch.tensor(self.kept, device=self.index.device).view(-1, 1, 1)
        later = self.index[..., 1:] > self.index[..., :-1]
        different = (later & (column[1:] < kept)).sum(-1) + (kept[..., 0] > 0)
        return different.amin(-1).unsqueeze(0)

    def gather(self, states: Tensor) -> Tensor:
        """The keys or values that stay.

        Args:
            states: (batch, heads, audio, head_dim), rows padded on the right.

        Returns:
            (batch, heads, width, head_dim); what stands in a row's padding is unspecified.
        """
        index = self.index.expand(-1, states.shape[1], -1).unsqueeze(-1)
        return torch.gather(states, 2, index.expand(-1, -1, -1, states.shape[-1]))
