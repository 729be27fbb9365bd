"""The sides that are measured: each turns embedded prompts into tokens, its own way.

All of them make the same number of tokens, whatever these are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...engine.beams import beam_search
from ...engine.cost import Clock
from ...engine.generate import prefill
from ...engine.greedy import greedy
from ...flops import PromptLengths
from ...records import Seconds
from ...reduction import Eviction, Reduction, reducing
from .shapes import parts


@dataclass(frozen=True, slots=True)
class Work:
    """What every side is given.

    Attributes:
        model: transformers language model.
        embedded: prompts, (batch, tokens, hidden).
        prompt: their token counts.
        beams: of the search.
        tokens: that are made.
    """

    model: Any
    embedded: Tensor
    prompt: PromptLengths
    beams: int
    tokens: int

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.embedded.device


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one side.

    Attributes:
        prefill_s: until the scores of the first token are known.
        decode_s: from there to the last token.
        kv_bytes: of the cache at the end, spare room included.
        ids: the first prompt's answer.
        prompt_bytes: of the cache when the prompt had been read, no room counted; None where it
            was not looked at.
    """

    prefill_s: Seconds
    decode_s: Seconds
    kv_bytes: int
    ids: tuple[int, ...]
    prompt_bytes: int | None = None

    @property
    def busy_s(self) -> Seconds:
        """Prefill and decoding."""
        return self.prefill_s + self.decode_s


Side = Callable[[Work], Run]


def plain(work: Work) -> Run:
    """`generate` of the untouched model: fused attention (SDPA), a cache that grows."""
    return _generate(work)


def static(work: Work) -> Run:
    """`generate` with a cache of fixed size, which transformers compiles for on a GPU."""
    return _generate(work, cache_implementation="static")


def _generate(work: Work, **options: Any) -> Run:
    marks = list[Seconds]()
    clock = Clock(work.device)

    def mark(_: Tensor, scores: Tensor) -> Tensor:
        """A logits processor that only looks at the clock, once."""
        if not marks:
            marks.append(clock.lap())
        return scores

    shape = work.embedded.shape[:2]
    out = work.model.generate(
        inputs_embeds=work.embedded,
        attention_mask=torch.ones(shape, dtype=torch.long, device=work.device),
        max_new_tokens=work.tokens,
        num_beams=work.beams,
        do_sample=False,
        logits_processor=[mark],
        return_dict_in_generate=True,
        **options,
    )
    decode = clock.lap()
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in out.past_key_values.layers)
    return Run(marks[0], decode, held, tuple(out.sequences[0].tolist()))


def own(work: Work, kept: tuple[int, ...], reduction: Reduction | Eviction) -> Run:
    """This project's engine, with as many audio tokens in each layer as `kept` says."""
    decoder = parts(work.model)
    batch = len(work.embedded)
    clock = Clock(work.device)
    with reducing(decoder.stack):
        start = prefill(
            decoder, list(work.embedded), [work.prompt] * batch, [kept] * batch, reduction
        )
        before = clock.lap()
        prompt = sum(layer.keys.nbytes + layer.values.nbytes for layer in start.cache.layers)
        caps = [work.tokens] * batch
        if work.beams == 1:
            answers = greedy(decoder, start, caps)
        else:
            answers = beam_search(decoder, start, caps, work.beams)
    decode = clock.lap()
    held = sum(layer.held_bytes for layer in start.cache.layers)
    return Run(before, decode, held, answers[0].ids, prompt)
