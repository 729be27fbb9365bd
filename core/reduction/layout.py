"""Where text and audio stand in a batch of prompts, as one layer sees it.

Knows numbers and tensors only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..flops import PromptLengths
from ..merge import Plan


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


@dataclass(frozen=True)
class PromptState:
    """The right-aligned batch of prompts as one layer sees it.

    Attributes:
        rows: token counts of each row in this layer.
        origin: column of the unreduced prompt whose position each token has, (batch, width); None
            while every token stands where it stood, right-aligned.
        sizes: original tokens that each token stands for, (batch, width), float32; None while all
            are 1.
    """

    rows: tuple[PromptLengths, ...]
    origin: Tensor | None = None
    sizes: Tensor | None = None

    @cached_property
    def width(self) -> int:
        """Columns of the batch."""
        return max(row.total for row in self.rows)

    @cached_property
    def columns(self) -> AudioColumns:
        """Where the audio stands."""
        pad = tuple(self.width - row.total for row in self.rows)
        start = tuple(p + row.before for p, row in zip(pad, self.rows, strict=True))
        gaps = tuple(row.gaps for row in self.rows)
        return AudioColumns(
            start, tuple(row.audio for row in self.rows), pad, gaps if any(gaps) else ()
        )

    def sizes_on(self, device: torch.device) -> Tensor:
        """`sizes`, written out where all are 1."""
        if self.sizes is None:
            return torch.ones(len(self.rows), self.width, device=device)
        return self.sizes.to(device)

    def merged(
        self,
        plan: Plan,
        rows: tuple[PromptLengths, ...],
        keep_positions: bool,
        device: torch.device,
    ) -> PromptState:
        """The batch after `plan` was applied to its audio, which leaves `rows`."""
        columns, sizes = self.columns, self.sizes_on(device)
        after = PromptState(rows)
        sizes = self.splice(sizes, plan.total(columns.gather(sizes, 1)), after)
        if not keep_positions:
            return replace(after, sizes=sizes)
        origin = self.origin
        if origin is None:
            origin = torch.arange(self.width, device=device).expand(len(rows), -1)
        origin = origin.to(device)
        origin = self.splice(origin, plan.first(columns.gather(origin, 1)), after)
        return replace(after, origin=origin, sizes=sizes)

    def splice(self, values: Tensor, audio: Tensor, after: PromptState) -> Tensor:
        """Put new audio values between the old text values, right-aligned.

        Args:
            values: (batch, width, ...).
            audio: (batch, audio of `after`, ...), rows padded on the right.
            after: the shape that comes out.

        Returns:
            (batch, width of `after`, ...); what stands in the left padding is unspecified.
        """
        row = self.rows[0]
        if len(set(after.rows)) == len(set(self.rows)) == 1 and not row.gaps:
            head, tail = values[:, : row.before], values[:, row.before + row.audio :]
            return torch.cat([head, audio, tail], dim=1)
        index = self._sources(after, values.device)
        index = index.view(*index.shape, *[1] * (values.ndim - 2))
        index = index.expand(-1, -1, *values.shape[2:])
        return torch.cat([values, audio], dim=1).gather(1, index)

    def _sources(self, after: PromptState, device: torch.device) -> Tensor:
        """Column of [old batch, new audio] that each column of `after` takes."""
        old, new = self.columns, after.columns
        pad, before, kept, shift = (
            torch.tensor(counts, device=device).unsqueeze(1)
            for counts in (
                new.pad,
                [row.before for row in after.rows],
                new.length,
                [was - now for was, now in zip(old.pad, new.pad, strict=True)],
            )
        )
        column = torch.arange(after.width, device=device)
        inside = column - pad - before
        source = torch.where(inside < 0, column + shift, self.width + inside)
        passed = torch.zeros_like(kept)
        for (was, _), (first, text) in zip(old.each_gap(device), new.each_gap(device), strict=True):
            begin, end = first + passed, first + passed + text
            behind = torch.where(inside < end, column + shift + was - first, source - text)
            source, passed = torch.where(inside < begin, source, behind), end - first
        source = torch.where(inside >= kept + passed, column + self.width - after.width, source)
        return source.masked_fill(column < pad, 0)
