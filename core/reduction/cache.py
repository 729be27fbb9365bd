"""The KV cache of a reduced prompt, and the shape its sequence has in each layer.

All state of a reduction rides on the cache object that is handed to the decoder, so the model
itself holds none and several caches can be alive at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import Cache

from ..flops import PromptLengths
from ..merge import Plan
from ..methods import EncoderScores, Method, ThresholdMethod
from .columns import AudioColumns
from .fixed import FixedLayer, FixedTails
from .growing import GrowingLayer
from .masks import Masks, Tails
from .spans import shared


@dataclass(frozen=True, slots=True)
class Threshold:
    """A method that decides by itself how many tokens stay, at one place.

    Attributes:
        method: makes the plan.
        value: what it decides by.
        place: 0 = the decoder's input, l + 1 = layer l.
    """

    method: ThresholdMethod
    value: float
    place: int


@dataclass(frozen=True, slots=True)
class Reduction:
    """How audio tokens are reduced.

    Attributes:
        method: makes the plans.
        positions: `reindex` closes the gaps, right-aligned, as the published code does; `keep`
            leaves each merged token at the position of its first member.
        size_bias: add log(size) to the attention scores of merged tokens (ToMe's proportional
            attention, Bolya et al., ICLR 2023).
        shortcut: run the last layer of a prefill for its last position only (see `last`).
        threshold: what decides in place of the counts that a prompt comes with.
    """

    method: Method
    positions: str = "keep"
    size_bias: bool = False
    shortcut: bool = True
    threshold: Threshold | None = None


@dataclass(frozen=True, slots=True)
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

    @property
    def width(self) -> int:
        """Columns of the batch."""
        return max(row.total for row in self.rows)

    @property
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


class PromptCache(Cache):  # type: ignore[misc]
    """Per-layer KV cache of a batch of prompts, each held once, whatever the number of beams.

    Attributes:
        rows: token counts of each prompt before anything was removed.
        state: the batch as the next layer of the prefill sees it.
        prompts: the batch as each prefilled layer holds it.
        masks: the masks that its layers ask for.
        beams: decode rows per prompt row; 0 until the prompts are complete.
        fixed: where generated tokens go if their memory is not to move, see `fix`.
        configs: see `decoding.attending_by`.
        gates: what each row's prompt steers the decoder by, (rows, hidden); None as a rule.
        movable: whether its rows can become rows of another cache (see `regroup`).
    """

    movable: ClassVar[bool] = True
    layers: list[Any]

    def __init__(self, rows: Sequence[PromptLengths], size_bias: bool = False) -> None:
        super().__init__(layer_class_to_replicate=GrowingLayer)
        self.rows = tuple(rows)
        self.state = PromptState(self.rows)
        self.prompts: list[PromptState] = []
        self.masks = Masks(size_bias)
        self.beams = 0
        self.fixed: FixedTails | None = None
        self.configs: dict[int, Any] = {}
        self.gates: Tensor | None = None

    @property
    def reduces(self) -> bool:
        """Whether anything of any row goes, so that layers need masks of their own."""
        return False

    def seen_by(self, layer: int) -> PromptState:
        """The prompts as this layer holds them."""
        return self.prompts[layer] if self.prompts else self.state

    def begin(self, beams: int, steps: int, device: torch.device) -> None:
        """End the prompts: at most `steps` tokens of `beams` beams a row will follow."""
        self.beams = beams
        self.masks.begin(Tails(len(self.rows), beams, device))
        for layer in self.layers:
            layer.share(beams, steps)

    def fix(self) -> None:
        """Hold what will be generated where it need not move (see `fixed`), after `begin`."""
        self.fixed = FixedTails(len(self.rows), self.beams, self.layers[0].device)
        self.layers = [FixedLayer(layer, self.fixed) for layer in self.layers]

    def advance(self) -> bool:
        """Count one more token; whether something had to move for it after all."""
        if self.fixed is None or not self.fixed.advance():
            return False
        for layer in self.layers:
            layer.make_room()
        return True

    def follow(self, parents: Tensor | None = None) -> None:
        """Make ready for the token that was counted last; see `Tails.advance` for `parents`."""
        if self.fixed is None:
            self.masks.advance(parents)
        else:
            self.fixed.follow(parents)

    @property
    def tail(self) -> int:
        """Slots that each row's generated tokens take in every layer."""
        return max((layer.tail for layer in self.layers), default=0)


class ReducedCache(PromptCache):
    """Cache of prompts that are reduced while the decoder prefills them.

    Layer l holds the tokens that entered its attention, so deeper layers hold fewer.

    Attributes:
        reduction: what to do.
        encoder: attention in the encoder, for methods that ask for it.
        kept: audio tokens of each row entering each layer, then leaving the last one; behind a
            threshold's place they are known once the prefill has passed it.
        last_position: whether only the last position's output is wanted of the prefill (see
            `last.shortens`); said by whoever runs it.
    """

    def __init__(
        self,
        rows: Sequence[PromptLengths],
        kept: Sequence[Sequence[int]],
        reduction: Reduction,
        encoder: EncoderScores | None = None,
    ) -> None:
        super().__init__(rows, reduction.size_bias)
        self.reduction = reduction
        self.encoder = encoder
        self.kept = tuple(tuple(row) for row in kept)
        self.last_position = False

    @property
    def reduces(self) -> bool:
        """Whether any token of any row goes, or may go."""
        rows = zip(self.kept, self.rows, strict=True)
        fewer = any(counts[-1] < row.audio for counts, row in rows)
        return fewer or self.reduction.threshold is not None

    @property
    def wanted(self) -> tuple[int, ...]:
        """Audio tokens of each span that are to be left at the place which the prefill has come to.

        That is the decoder's input, or the layer whose entry in `prompts` was made last.
        """
        if not any(row.gaps for row in self.rows):
            return self._wanted
        return shared(self.rows, self.state.rows, self._wanted, self.reduction.method.most)

    @property
    def _wanted(self) -> tuple[int, ...]:
        """The same of each row."""
        return tuple(row[len(self.prompts)] for row in self.kept)

    @property
    def decides(self) -> bool:
        """Whether a threshold decides at the place which the prefill has come to."""
        threshold = self.reduction.threshold
        return threshold is not None and threshold.place == len(self.prompts)

    @property
    def acts(self) -> bool:
        """Whether tokens go at that place."""
        return self.decides or self._wanted != self.state.columns.length

    def settle(self, left: Sequence[int]) -> None:
        """Note what a threshold left of each row: no more goes behind it."""
        place = len(self.prompts)
        self.kept = tuple(
            (*row[:place], *[count] * (len(row) - place))
            for row, count in zip(self.kept, left, strict=True)
        )

    @property
    def held(self) -> tuple[tuple[int, ...], ...]:
        """Audio tokens of each row in each layer's cache."""
        return tuple(row[:-1] for row in self.kept)
