"""StreamingLLM (Xiao et al., ICLR 2024, arXiv 2309.17453, section 3.2): sinks and a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from ..evict import CachePlan
from .base import CacheMethod, CacheView
from .choose import column


@dataclass(frozen=True, slots=True)
class StreamingLLM(CacheMethod):
    """Keep the prompt's first tokens and the most recent ones, whatever they say.

    Departures: text always stays, so sinks are audio only where fewer tokens stand before it; the
    window is cut once, behind the prompt, and does not slide over what is generated, which always
    stays; keys keep their positions instead of being numbered anew inside the cache.

    Attributes:
        sinks: tokens at the beginning of the prompt (the paper: 4).
    """

    name: ClassVar[str] = "streaming-llm"
    sinks: int = 4

    def plan(self, view: CacheView, kept: Sequence[int]) -> CachePlan:
        """The beginning of the audio as far as it is a sink, and its end."""
        sinks = [
            min(left, max(0, self.sinks - row.before))
            for row, left in zip(view.rows, kept, strict=True)
        ]
        lengths = [row.audio for row in view.rows]
        begin = [
            row.audio - left + sink for row, left, sink in zip(view.rows, kept, sinks, strict=True)
        ]
        place = torch.arange(max(lengths), device=view.device)
        like = place.unsqueeze(0)
        late = (place >= column(begin, like)) & (place < column(lengths, like))
        stays = late | (place < column(sinks, like))
        return CachePlan.from_stays(stays.unsqueeze(1), tuple(kept))
