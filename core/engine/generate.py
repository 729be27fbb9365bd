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

from torch import Tensor, nn

from ..flops import PromptLengths
from ..methods import EncoderScores
from ..reduction import (
    EvictedCache,
    Eviction,
    Observed,
    ReducedCache,
    Reduction,
    prompt_cache,
    read,
    read_prompts,
)
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
        observed: what became of each row.
    """

    logits: Tensor
    cache: ReducedCache | EvictedCache
    lengths: tuple[int, ...]
    observed: Sequence[Observed] = ()

    @classmethod
    def of(cls, decoder: Decoder, hidden: Tensor, cache: ReducedCache | EvictedCache) -> Prefilled:
        """What the last states of a prefill lead to, (batch, tokens, hidden).

        Raises:
            ReductionError: the cache does not hold what was planned.
        """
        logits = decoder.head(hidden[:, -1]).float()
        lengths = tuple(row.total for row in cache.rows)
        return cls(logits, cache, lengths, cache.observed())


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

    Raises:
        ReductionError: what was planned did not happen.
    """
    cache = prompt_cache(rows, kept, reduction, encoder)
    cache.gates = gates
    return Prefilled.of(decoder, read_prompts(decoder.stack, prompts, cache), cache)


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
    position = position.unsqueeze(1).to(embedded.device)
    hidden = read(decoder.stack, cache, inputs_embeds=embedded, position_ids=position)
    logits: Tensor = decoder.head(hidden[:, -1]).float()
    return logits
