"""Caches that keep a part of what their layers read: the prompt runs whole, decoding meets less.

Each layer is cut as soon as its attention is done, so at no time more than one of them is held
whole. What stays is copied out; the buffers of the full length are freed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..errors import ReductionError
from ..evict import CachePlan
from ..flops import PromptLengths
from ..methods import CacheMethod, CacheView, EncoderScores
from .cache import PromptCache, ReducedCache, Reduction
from .call import LayerCall
from .collecting import COLLECTING, Collected
from .decoding import attending_by
from .layout import PromptState
from .observed import Made, Observed, counted
from .spans import Spans, shared


@dataclass(frozen=True, slots=True)
class Eviction:
    """How the caches of a prompt are cut.

    Attributes:
        method: makes the plans.
    """

    method: CacheMethod


class EvictedCache(PromptCache):
    """Cache of prompts that keeps some of their audio, in each key head what its plan says.

    Attributes:
        eviction: what to do.
        held: audio tokens of each row that each layer keeps.
    """

    # every key head holds other slots, so the rows of two caches do not line up
    movable: ClassVar[bool] = False

    def __init__(
        self,
        rows: Sequence[PromptLengths],
        held: Sequence[Sequence[int]],
        eviction: Eviction,
    ) -> None:
        super().__init__(rows)
        self.eviction = eviction
        self.held = tuple(tuple(row) for row in held)
        self._states = {self.state.columns.length: self.state}

    @property
    def reduces(self) -> bool:
        """Whether any key of any row goes."""
        return any(min(held) < row.audio for held, row in zip(self.held, self.rows, strict=True))

    @property
    def kept(self) -> tuple[tuple[int, ...], ...]:
        """Audio tokens of each row entering each layer, then leaving the last one: all of them."""
        return tuple(
            (row.audio,) * (len(held) + 1) for row, held in zip(self.rows, self.held, strict=True)
        )

    @property
    def wanted(self) -> tuple[int, ...]:
        """Audio tokens of each row that the layer under way is to keep."""
        return tuple(row[len(self.prompts)] for row in self.held)

    def evict(self, received: Tensor | None) -> None:
        """Cut the layer that was filled last.

        Args:
            received: see `CacheView.received`.
        """
        layer, spans = self.layers[len(self.prompts)], Spans(self.rows)
        kept = shared(self.rows, self.rows, self.wanted)
        view = spans.cache_view(CacheView(self.rows, received, layer.device), kept)
        found = self.eviction.method.plan(view, kept)
        if found.kept != kept:
            raise ReductionError(f"the method kept {found.kept} keys where {kept} were asked for")
        each = tuple(len(row.spans) for row in self.rows)
        self.made.append(Made(len(self.prompts) + 1, found.made(), each))
        plan = spans.cache_plan(found)
        # layers that hold equally many share a state, and with it the masks
        after = self._states.setdefault(plan.kept, PromptState(spans.left(kept)))
        layer.hold(*(self._left(states, plan, after) for states in (layer.keys, layer.values)))
        self.prompts.append(after)

    def keep_all(self) -> None:
        """Leave the layer that was filled last as it is."""
        self.prompts.append(self.state)

    def observed(self) -> list[Observed]:
        """What became of each row, see `ReducedCache.observed`."""
        rows = zip(self.rows, self.held, strict=True)
        counted(self.made, [(row.audio, *held) for row, held in rows])
        held = self._held(self.held)
        size = self._slot_bytes
        return [Observed(*one, size) for one in zip(self.kept, held, strict=True)]

    def _left(self, states: Tensor, plan: CachePlan, after: PromptState) -> Tensor:
        """What stays of (rows, kv_heads, width, head_dim), right-aligned as `after` says."""
        audio = plan.gather(self.state.columns.gather(states, 2))
        spliced = self.state.splice(states.transpose(1, 2), audio.transpose(1, 2), after)
        return spliced.transpose(1, 2)


def prompt_cache(
    rows: Sequence[PromptLengths],
    counts: Sequence[Sequence[int]],
    how: Reduction | Eviction,
    encoder: EncoderScores | None = None,
) -> ReducedCache | EvictedCache:
    """An empty cache for prompts of which only the last position's output is wanted.

    Args:
        rows: token counts of each prompt.
        counts: audio tokens of each row: those that each layer's cache is to keep, for an
            `Eviction`; else those entering each layer, then leaving the last one.
        how: what becomes of them.
        encoder: attention in the encoder, for methods that ask for it.
    """
    if isinstance(how, Eviction):
        return EvictedCache(rows, counts, how)
    cache = ReducedCache(rows, counts, how, encoder)
    cache.last_position = how.shortcut
    return cache


def evicting_layer(call: LayerCall, cache: EvictedCache) -> Tensor:
    """A layer of a prefill, whole: (batch, width, hidden); then its cache is cut."""
    call.hand("attention_mask", cache.masks.prefill(cache.state, call.hidden))
    if cache.wanted == cache.state.columns.length:
        output = call.plain()
        cache.keep_all()
        return output
    collected = Collected(cache.state.columns, None, cache.eviction.method.needs)
    with attending_by(call.layer.self_attn, COLLECTING, {}) as taken:
        output = call.plain(collected=collected, taken=taken)
    cache.evict(None if collected.sums is None else collected.sums())
    return output
