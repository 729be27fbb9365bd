"""Decode steps of one batch: launched one by one, or played back once one has been recorded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..reduction import EvictedCache, ReducedCache, splits
from .generate import Decoder, step

PLAIN_STEPS = 4
"""Steps of a batch before one is recorded, which takes as long as a few of them."""

_TOLERANCE = {torch.float32: 1e-3}  # of the largest logit
_ROUGH_TOLERANCE = 0.05

Fed = tuple[Tensor, Tensor, Tensor | None]


class Steps:
    """The tokens of one batch of prompts, one after the other.

    A recording holds for as long as nothing moves: until the room for what is generated is used up,
    which doubles it, and until other rows make another batch.

    Args:
        decoder: the language model; must be inside `reducing(decoder.stack)`.
        cache: complete prompts.
        beams: decode rows a prompt.
        most: tokens that will follow, at most.
        device: where masks are made.
    """

    def __init__(
        self,
        decoder: Decoder,
        cache: ReducedCache | EvictedCache,
        beams: int,
        most: int,
        device: torch.device,
    ) -> None:
        self._decoder, self._cache = decoder, cache
        self._plain = 0
        self._played: Callable[[Fed], Tensor] | None = None
        cache.begin(beams, most, device)
        if splits(cache.layers):
            cache.fix()

    def take(self, tokens: Tensor, position: Tensor, parents: Tensor | None = None) -> Tensor:
        """Logits after one more token in each decode row, (rows * beams, vocab), float32.

        They may lie where those of the step before lay. See `generate.step`.
        """
        fed = tokens, position, parents
        if self._cache.advance():
            self._plain, self._played = 0, None
        if self._played is None and self._plain == PLAIN_STEPS and self._decoder.recorder.works:
            self._played = self._recorded(fed)
        if self._played is not None:
            return self._played(fed)
        self._plain += 1
        return step(self._decoder, self._cache, *fed)

    def _recorded(self, fed: Fed) -> Callable[[Fed], Tensor] | None:
        """What plays steps back, believed once two have given what two plain steps give.

        One alone would not do: a number of the host that a layer counts up is right once.
        """
        tails, recorder = self._cache.fixed, self._decoder.recorder
        if tails is None or tails.steps == tails.room:
            return None
        tokens, position, parents = fed
        held: Fed = tokens.clone(), position.clone(), None if parents is None else parents.clone()

        def again() -> Tensor:
            return step(self._decoder, self._cache, *held)

        def twice(work: Callable[[], Tensor]) -> Tensor:
            before, first = tails.saved(), work().clone()
            tails.steps += 1
            held[0].copy_((tokens + 1) % first.shape[-1])
            held[1].add_(1)
            both = torch.stack([first, work()])
            tails.steps -= 1
            tails.restore(before)
            held[0].copy_(tokens)
            held[1].copy_(position)
            return both

        expected = twice(again)
        play = recorder.record(again)
        if play is None:
            return None
        found = twice(play)
        limit = _TOLERANCE.get(self._cache.layers[0].dtype, _ROUGH_TOLERANCE)
        if not (found - expected).abs().max() <= limit * expected.abs().max():
            recorder.give_up("played back, they give other logits")
            return None

        def played(new: Fed) -> Tensor:
            for place, one in zip(held, new, strict=True):
                if place is not None and one is not None:
                    place.copy_(one)
            return play()

        return played
