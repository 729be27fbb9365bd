"""What the prompts of a segment's tasks have in common is read once.

The words of a task stand behind the audio as a rule, so that all before them is the same for every
task: a stem, which is prefilled once, and from which each prompt reads on (see `fork`). That holds
for a reduced prompt too where what goes is decided before the first layer, by the audio alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..methods import EncoderScores
from ..reduction import (
    Eviction,
    ForkedCache,
    ReducedCache,
    Reduction,
    fork,
    prompt_cache,
    read,
    read_prompts,
)
from .generate import Decoder, Prefilled
from .job import Job
from .prompts import Prompts


@dataclass(frozen=True, slots=True)
class Stem:
    """The beginning of some prompts of a batch, at least to the end of the audio.

    Attributes:
        rows: which begin with it.
        words: text tokens behind the audio that belong to it; each row has more.
    """

    rows: tuple[int, ...]
    words: int


def before_layers(how: Reduction | Eviction, kept: Sequence[int]) -> bool:
    """Whether nothing goes in any layer, and what goes before the first does not ask for words.

    Args:
        how: what becomes of a prompt.
        kept: its audio tokens entering each layer, then leaving the last one.
    """
    return isinstance(how, Reduction) and how.threshold is None and kept[0] == kept[-1]


def stems(jobs: Sequence[Job]) -> list[Stem]:
    """The stems of a group, whose jobs are told; none where no two share one, or one has none."""
    names = [job.stem for job in jobs]
    for job in jobs:
        job.sharing = 1
    if None in names or len(set(names)) == len(names):
        return []
    found = []
    for name in dict.fromkeys(names):
        rows = [n for n, other in enumerate(names) if other == name]
        # each has its last token to itself: its logits are wanted
        columns = zip(*(jobs[n].words[:-1] for n in rows), strict=False)
        words = [*(len(set(ids)) == 1 for ids in columns), False].index(False)
        for n in rows:
            jobs[n].sharing, jobs[n].apart = len(rows), len(jobs[n].words) - words
        found.append(Stem(tuple(rows), words))
    return found


def prefill_stems(
    decoder: Decoder,
    ready: Prompts,
    kept: Sequence[Sequence[int]],
    how: Reduction | Eviction,
    stems: Sequence[Stem],
) -> Prefilled:
    """As `generate.prefill`, for prompts of which some begin alike.

    Args:
        decoder: the language model.
        ready: the prompts, without gates.
        kept: audio tokens of each row entering each layer, then leaving the last one.
        how: see `before_layers`, which must hold.
        stems: of all rows.
    """
    firsts = [stem.rows[0] for stem in stems]
    heads = [replace(ready.lengths[stem.rows[0]], after=stem.words) for stem in stems]
    scores = ready.scores
    if scores is not None:
        scores = EncoderScores(scores.received[firsts], scores.own[firsts])
    begun = prompt_cache(heads, [kept[n] for n in firsts], how, scores)
    assert isinstance(begun, ReducedCache)
    pairs = zip(firsts, heads, strict=True)
    read_prompts(decoder.stack, [ready.embedded[n][: head.total] for n, head in pairs], begun)
    source = {row: number for number, stem in enumerate(stems) for row in stem.rows}
    cache = fork(begun, ready.lengths, [source[n] for n in range(len(source))])
    return Prefilled.of(decoder, _read_on(decoder, ready.embedded, cache), cache)


def _read_on(decoder: Decoder, prompts: Sequence[Tensor], cache: ForkedCache) -> Tensor:
    """What leaves the last norm for the words that are missing, (rows, columns, hidden)."""
    width = max(cache.words)
    words = [
        nn.functional.pad(prompt[-count:], (0, 0, width - count, 0))
        for prompt, count in zip(prompts, cache.words, strict=True)
    ]
    embeddings = torch.stack(words)
    column = torch.arange(-width, 0, device=embeddings.device)
    total = torch.tensor([row.total for row in cache.rows], device=embeddings.device)
    position = (total.unsqueeze(1) + column).clamp_min(0)
    return read(decoder.stack, cache, inputs_embeds=embeddings, position_ids=position)
