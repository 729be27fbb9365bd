"""What every search is made of: prefill of a batch of prompts of different lengths, and one step.

Knows token ids, embeddings and caches; knows nothing of audio files or text. Greedy and beam
search (`greedy`, `beams`) mean what `transformers.generate` means by them, with three differences
in cost: one prefill whatever the number of beams, logits of the last position only, and rows that
end on their own caps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..flops import PromptLengths
from ..methods import EncoderScores
from ..reduction import EvictedCache, Eviction, ReducedCache, Reduction, prompt_cache
from .recorder import Recorder

StepHook = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Decoder:
    """The parts of a language model that generation needs.

    Attributes:
        stack: transformers decoder: embeddings in, last hidden states out.
        head: hidden states to logits.
        embeddings: ids to embeddings.
        ends: ids that end an answer.
        recorder: of its steps.
    """

    stack: Any
    head: nn.Module
    embeddings: nn.Module
    ends: tuple[int, ...]
    recorder: Recorder = field(default_factory=Recorder)


@dataclass(slots=True)
class Prefilled:
    """A batch of prompts after prefill.

    Attributes:
        logits: of the last position, (batch, vocab), float32.
        cache: keys and values of every layer.
        lengths: prompt tokens of each row before reduction.
    """

    logits: Tensor
    cache: ReducedCache | EvictedCache
    lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """Generated ids without the end token, and whether the end token came before the cap."""

    ids: tuple[int, ...]
    ended: bool
    score: float | None = None


def prefill(  # noqa: PLR0913
    decoder: Decoder,
    prompts: Sequence[Tensor],
    rows: Sequence[PromptLengths],
    kept: Sequence[Sequence[int]],
    reduction: Reduction | Eviction,
    encoder: EncoderScores | None = None,
    gates: Tensor | None = None,
) -> Prefilled:
    """Run the prompts through the decoder; must be called inside `reducing(decoder.stack)`.

    So must be what decodes them: the masks of padded rows come from there.

    Args:
        decoder: the language model.
        prompts: embeddings of each row, (row.total, hidden).
        rows: token counts of each row.
        kept: audio tokens of each row, see `prompt_cache`.
        reduction: how they, or their keys and values, become so few.
        encoder: attention in the encoder, for methods that ask for it.
        gates: see `PromptCache.gates`.
    """
    cache = prompt_cache(rows, kept, reduction, encoder)
    cache.gates = gates
    hidden = hidden_states(decoder, prompts, cache)
    logits = decoder.head(hidden[:, -1]).float()
    return Prefilled(logits, cache, tuple(row.total for row in rows))


def hidden_states(
    decoder: Decoder, prompts: Sequence[Tensor], cache: ReducedCache | EvictedCache
) -> Tensor:
    """What leaves the last norm, (batch, width, hidden), rows padded on the left.

    Must be called inside `reducing(decoder.stack)`, with a new cache. The width is that of
    `cache.state`, or 1 where the last layer ran for the last position only.
    """
    lengths = [row.total for row in cache.rows]
    width = max(lengths)
    padded = [nn.functional.pad(prompt, (0, 0, width - len(prompt), 0)) for prompt in prompts]
    embeddings = torch.stack(padded)
    pad = width - torch.tensor(lengths, device=embeddings.device).unsqueeze(1)
    column = torch.arange(width, device=embeddings.device)
    # a cache that reduces brings its own masks
    padded_rows = min(lengths) < width and not cache.reduces
    hidden: Tensor = decoder.stack(
        inputs_embeds=embeddings,
        attention_mask=(column >= pad).long() if padded_rows else None,
        position_ids=(column - pad).clamp_min(0),
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    return hidden


def step(
    decoder: Decoder,
    cache: ReducedCache,
    tokens: Tensor,
    position: Tensor,
    parents: Tensor | None = None,
) -> Tensor:
    """Logits after one more token in each decode row, (rows * beams, vocab), float32.

    Asks nothing of the host but to launch the work, so it can be recorded (see `steps`).

    Args:
        decoder: the language model; must be inside `reducing(decoder.stack)`.
        cache: begun, and advanced to this token; it takes the tokens in.
        tokens: (rows * beams,).
        position: of each token in its unreduced row, (rows * beams,).
        parents: the beam that each beam continues, (rows, beams); None: its own.
    """
    cache.follow(parents)
    embedded = decoder.embeddings(tokens).unsqueeze(1)
    hidden = decoder.stack(
        inputs_embeds=embedded,
        position_ids=position.unsqueeze(1).to(embedded.device),
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    logits: Tensor = decoder.head(hidden[:, -1]).float()
    return logits
