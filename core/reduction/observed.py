"""What became of a batch of prompts, counted from what happened and held against the plan.

Where tokens go, those that are left are counted on the device, and read when the prefill has ended;
how many slots the cache of a layer has stands in its shape. Knows tensors, no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ReductionError

Counts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Observed:
    """One prompt after its prefill.

    Attributes:
        kept: audio tokens that entered each layer, then those that left the last one. A last layer
            that runs for the last position alone merges nothing: there the plan stands, as in the
            cost model, which counts that layer whole on both sides.
        held: audio tokens in the cache of each layer.
        slot_bytes: bytes of the keys and values of one token, in each layer.
    """

    kept: Counts
    held: Counts
    slot_bytes: Counts


@dataclass(frozen=True, slots=True)
class Made:
    """What a plan really made.

    Attributes:
        place: 0 = at the decoder's input, l + 1 = in layer l.
        left: tokens left of each span, counted in one or more ways, (ways, spans), int64.
        spans: how many each row has.
    """

    place: int
    left: Tensor
    spans: Counts

    def of(self, rows: Sequence[int]) -> Made:
        """The same in a batch whose rows are copies of these."""
        each = torch.split(self.left, list(self.spans), dim=1)
        return Made(
            self.place, torch.cat([each[n] for n in rows], 1), tuple(self.spans[n] for n in rows)
        )


def counted(made: Sequence[Made], planned: Sequence[Counts]) -> list[dict[int, int]]:
    """Audio tokens of each row that were left, by the place where some went.

    Waits for the device, once.

    Args:
        made: all places of one prefill.
        planned: audio tokens of each row that were to be left, by place.

    Raises:
        ReductionError: more or fewer were left than planned.
    """
    found: list[dict[int, int]] = [{} for _ in planned]
    if not made:
        return found
    home = made[0].left.device
    spans = iter(torch.cat([one.left.to(home) for one in made], 1).T.tolist())
    for one in made:
        for row, number in enumerate(one.spans):
            ways = zip(*(next(spans) for _ in range(number)), strict=True)
            for left in map(sum, ways):
                check(one.place - 1, planned[row][one.place], left)
                found[row][one.place] = left
    return found


def check(layer: int, planned: int, left: int) -> None:
    """Hold the audio tokens that a layer leaves (-1: what enters the first) against the plan.

    Raises:
        ReductionError: they differ.
    """
    if left != planned:
        where = "before the first layer" if layer < 0 else f"in layer {layer}"
        raise ReductionError(
            f"{where} {planned} audio tokens were to stay, and {left} did: nothing of it counts as"
            " cut; use --preset none or another --method"
        )
