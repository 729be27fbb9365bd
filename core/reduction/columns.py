"""Where audio stands among the columns of a batch. Knows numbers and tensors only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class AudioColumns:
    """Where the audio of each row stands among the keys of a right-aligned batch.

    Attributes:
        start: first audio column of each row.
        length: audio tokens of each row.
        pad: left-padding columns of each row.
        gaps: text inside the audio of each row, see `PromptLengths.gaps`; empty where no row has
            any.
    """

    start: tuple[int, ...]
    length: tuple[int, ...]
    pad: tuple[int, ...]
    gaps: tuple[tuple[tuple[int, int], ...], ...] = ()

    @property
    def width(self) -> int:
        """Audio tokens of the row that has most."""
        return max(self.length)

    def each_gap(self, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """First, second, ... gap of all rows: audio tokens in front and text, (batch, 1) each.

        A row that has no such gap has an empty one behind its audio.
        """
        for number in range(max(map(len, self.gaps), default=0)):
            rows = zip(self.gaps, self.length, strict=True)
            found = [gaps[number] if number < len(gaps) else (end, 0) for gaps, end in rows]
            first, text = torch.tensor(found, device=device).unsqueeze(-1).unbind(1)
            yield first, text

    def places(self, audio: range, device: torch.device) -> Tensor:
        """Column of each of these audio tokens, (batch, len(audio)), counted on behind its end."""
        number = torch.arange(audio.start, audio.stop, device=device)
        found = torch.tensor(self.start, device=device).unsqueeze(1) + number
        for first, text in self.each_gap(device):
            found = found + (number >= first) * text
        return found

    def padding(self, device: torch.device) -> Tensor:
        """True behind the audio of a row that has less than another, (batch, width)."""
        length = torch.tensor(self.length, device=device).unsqueeze(1)
        return torch.arange(self.width, device=device) >= length

    def gather(self, values: Tensor, dim: int) -> Tensor:
        """The audio columns of `values` along `dim`, (batch, ...), rows padded on the right.

        What stands in the padding is unspecified.
        """
        if len(set(self.start)) == 1 and not self.gaps:
            first = self.start[0]
            size = min(self.width, values.shape[dim] - first)
            if size == self.width:
                return values.narrow(dim, first, self.width)
        shape = [len(self.start)] + [1] * (values.ndim - 1)
        shape[dim] = self.width
        index = self.places(range(self.width), values.device)
        index = index.clamp_max(values.shape[dim] - 1).view(shape)
        expanded = list(values.shape)
        expanded[dim] = self.width
        return values.gather(dim, index.expand(expanded))
