"""The KV cache of a reduced prompt, and the shape its sequence has in each layer.

All state of a reduction rides on the cache object that is handed to the decoder, so the model
itself holds none and several caches can be alive at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import Cache

from ..flops import PromptLengths
from ..methods import EncoderScores, Method, ThresholdMethod
from .fixed import FixedLayer, FixedTails
from .growing import GrowingLayer
from .layout import PromptState
from .masks import Masks, Tails
from .observed import Counts, Made, Observed, check, counted
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


class PromptCache(Cache):  # type: ignore[misc]
    """Per-layer KV cache of a batch of prompts, each held once, whatever the number of beams.

    Attributes:
        rows: token counts of each prompt before anything was removed.
        state: the batch as the next layer of the prefill sees it.
        prompts: the batch as each prefilled layer holds it.
        masks: the masks that its layers ask for.
        visited: layers that the pass under way has come to.
        made: what the plans of the prefill made.
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
        self.visited: list[int] = []
        self.made: list[Made] = []
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

    def width(self, layer: int) -> int:
        """Slots that this layer is to have: of the prompts, and of what was generated since."""
        behind = 0 if self.fixed is not None else self.masks.steps * self.beams
        return self.seen_by(layer).width + behind

    def _held(self, planned: Sequence[Counts]) -> list[Counts]:
        """Audio tokens of each row in each layer, from the slots that are there.

        Args:
            planned: what it should be.

        Raises:
            ReductionError: it is not.
        """
        found: list[list[int]] = [[] for _ in self.rows]
        for index, layer in enumerate(self.layers):
            pad = self.seen_by(index).columns.pad
            for row, before in enumerate(pad):
                left = layer.keys.shape[2] - before - self.rows[row].text
                check(index, planned[row][index], left)
                found[row].append(left)
        return [tuple(row) for row in found]

    @property
    def _slot_bytes(self) -> Counts:
        """See `Observed.slot_bytes`."""
        return tuple(_slot_bytes(layer.keys) + _slot_bytes(layer.values) for layer in self.layers)


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
        shortened: whether the last layer ran for that position only.
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
        self.last_position = self.shortened = False

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

    def observed(self) -> list[Observed]:
        """What became of each row; after the prefill, before anything else.

        Raises:
            ReductionError: something else than planned.
        """
        left = counted(self.made, self.kept)
        held = self._held([row[:-1] for row in self.kept])
        rows = zip(self.rows, self.kept, left, strict=True)
        kept = [self._kept(*one) for one in rows]
        size = self._slot_bytes
        return [Observed(*one, size) for one in zip(kept, held, strict=True)]

    def _kept(self, row: PromptLengths, planned: Counts, left: dict[int, int]) -> Counts:
        """See `Observed.kept`; raises as `observed`."""
        kept, now = [], row.audio
        for place, asked in enumerate(planned):
            now = left.get(place, now)
            if place == len(self.layers) and self.shortened:
                now = asked
            check(place - 1, asked, now)
            kept.append(now)
        return tuple(kept)


def _slot_bytes(states: Tensor) -> int:
    """Bytes of one slot of one row of (rows, heads, slots, head_dim)."""
    return states.shape[1] * states.shape[3] * states.element_size()
