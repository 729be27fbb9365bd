"""Spans of audio as rows of their own: a method sees each alone, so nothing merges across a border.

What a method is shown is taken apart, its plan is put together again; where every prompt has one
span, both are left as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..evict import CachePlan
from ..flops import PromptLengths
from ..merge import Plan
from ..methods import AudioView, CacheView, Received
from ..scheduler import apportion


@dataclass(frozen=True, slots=True)
class Spans:
    """The spans of a batch: those of the first row, then those of the next, and so on.

    Attributes:
        rows: token counts of each prompt.
    """

    rows: tuple[PromptLengths, ...]

    @property
    def several(self) -> bool:
        """Whether any prompt has more than one."""
        return any(row.gaps for row in self.rows)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Audio tokens of each span."""
        return tuple(span for row in self.rows for span in row.spans)

    def left(self, kept: Sequence[int]) -> tuple[PromptLengths, ...]:
        """The prompts with so many audio tokens in each span."""
        each = iter(kept)
        return tuple(row.leaving([next(each) for _ in row.spans]) for row in self.rows)

    def view(self, view: AudioView) -> AudioView:
        """What a method is shown of each span."""
        if not self.several:
            return view
        encoder = view.encoder
        if encoder is not None:
            encoder = replace(
                encoder, received=self._apart(encoder.received), own=self._apart(encoder.own)
            )
        return replace(
            view,
            lengths=self.lengths,
            keys=self._apart(view.keys, 2),
            states=self._apart(view.states),
            received=None if view.received is None else partial(self._received, view.received),
            last_query=None if view.last_query is None else self._apart(view.last_query),
            sizes=self._apart(view.sizes),
            encoder=encoder,
        )

    def _received(
        self, of_rows: Received, members: Tensor | None = None, most: Sequence[int] = ()
    ) -> Tensor:
        """`Received` of the spans, from that of their rows."""
        if members is None:
            return self._apart(of_rows())
        each = iter(most)
        counts = [sum(next(each) for _ in row.spans) for row in self.rows]
        return self._apart(of_rows(self._together(members, False), counts))

    def cache_view(self, view: CacheView, kept: Sequence[int]) -> CacheView:
        """The same for what cuts a cache: around a span stands what will be left of the others.

        Args:
            view: the audio as the layer sees it.
            kept: tokens that each span is to keep.
        """
        if not self.several:
            return view
        rows = [
            _around(row, left, number)
            for row, left in zip(self.rows, self.left(kept), strict=True)
            for number in range(len(row.spans))
        ]
        received = None if view.received is None else self._apart(view.received, 2)
        return replace(view, rows=tuple(rows), received=received)

    def plan(self, plan: Plan) -> Plan:
        """The plan of the rows, from one of their spans."""
        if not self.several:
            return plan
        left = [row.spans for row in self.left(plan.kept)]
        kept = tuple(sum(spans) for spans in left)
        # slots go on counting from one span of a row to the next
        first = [slot for spans in left for slot in accumulate(spans[:-1], initial=0)]
        slot = plan.slot + torch.tensor(first, device=plan.slot.device).unsqueeze(1)
        slot = self._together(slot.masked_fill(plan.slot < 0, -1), -1)
        gone = max(row.audio - some for row, some in zip(self.rows, kept, strict=True))
        return Plan(slot, self._together(plan.weight, 0), kept, gone if plan.moved else 0)

    def cache_plan(self, plan: CachePlan) -> CachePlan:
        """The same for what cuts a cache."""
        if not self.several:
            return plan
        spans, heads, width = plan.index.shape
        device = plan.index.device
        kept = torch.tensor(plan.kept, device=device).view(-1, 1, 1)
        stays = torch.zeros(spans, heads, max(self.lengths), dtype=torch.bool, device=device)
        chosen = (torch.arange(width, device=device) < kept).expand_as(plan.index)
        stays = self._together(stays.scatter(2, plan.index, chosen).transpose(1, 2), False)
        rows = tuple(row.audio for row in self.left(plan.kept))
        return CachePlan.from_stays(stays.transpose(1, 2), rows)

    def _apart(self, values: Tensor, dim: int = 1) -> Tensor:
        """Audio along `dim` of rows (batch, ...) -> of spans, padded on the right."""
        row = [n for n, one in enumerate(self.rows) for _ in one.spans]
        first = [at for one in self.rows for at in (0, *(ahead for ahead, _ in one.gaps))]
        rows, begin = torch.tensor([row, first], device=values.device).unsqueeze(-1)
        index = begin + torch.arange(max(self.lengths), device=values.device)
        along = values.movedim(dim, 1)
        return along[rows, index.clamp_max(along.shape[1] - 1)].movedim(1, dim)

    def _together(self, values: Tensor, padding: float) -> Tensor:
        """Audio of spans (spans, widest, ...) -> of rows, padded on the right."""
        spans = iter(zip(values, self.lengths, strict=True))
        rows = [
            torch.cat([span[:length] for span, length in (next(spans) for _ in row.spans)])
            for row in self.rows
        ]
        return pad_sequence(rows, batch_first=True, padding_value=padding)


def shared(
    whole: Sequence[PromptLengths],
    left: Sequence[PromptLengths],
    kept: Sequence[int],
    most: float = 1.0,
) -> tuple[int, ...]:
    """Audio tokens of each span where each row keeps so many, see `apportion`.

    Raises:
        ValueError: a row cannot keep so few, or has not so many.
    """
    found: list[int] = []
    for row, now, total in zip(whole, left, kept, strict=True):
        spans = apportion(row.spans, now.spans, total, most) if row.gaps else (total,)
        if sum(spans) != total:
            raise ValueError(f"{len(spans)} spans of {now.audio} tokens cannot keep {total}")
        found += spans
    return tuple(found)


def _around(row: PromptLengths, left: PromptLengths, number: int) -> PromptLengths:
    """One span of a prompt, with what stands before and after it once the others are cut."""
    ahead = [text for _, text in row.gaps[:number]]
    before = row.before + sum(ahead) + sum(left.spans[:number])
    return PromptLengths(before, row.spans[number], left.total - before - left.spans[number])
