"""Prefill once, then decode greedily or with beams, over a batch of prompts of different lengths.

Knows token ids, embeddings and caches; knows nothing of audio files or text. Greedy and beam
search mean what `transformers.generate` means by them (`early_stopping=False`,
`length_penalty=1`), with three differences in cost: one prefill whatever the number of beams,
logits of the last position only, and rows that end on their own caps.
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

_NEVER = -1.0e9
StepHook = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Decoder:
    """The parts of a language model that generation needs.

    Attributes:
        stack: transformers decoder: embeddings in, last hidden states out.
        head: hidden states to logits.
        embeddings: ids to embeddings.
        ends: ids that end an answer.
    """

    stack: Any
    head: nn.Module
    embeddings: nn.Module
    ends: tuple[int, ...]


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


def prefill(
    decoder: Decoder,
    prompts: Sequence[Tensor],
    rows: Sequence[PromptLengths],
    kept: Sequence[Sequence[int]],
    reduction: Reduction | Eviction,
    encoder: EncoderScores | None = None,
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
    """
    cache = prompt_cache(rows, kept, reduction, encoder)
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


class _Steps:
    """Runs one token after the other behind the prompts.

    Args:
        decoder: the language model.
        start: prompts after prefill; its cache is used up.
        caps: most new tokens of each row.
        beams: decode rows of each prompt.
    """

    def __init__(
        self, decoder: Decoder, start: Prefilled, caps: Sequence[int], beams: int = 1
    ) -> None:
        device = start.logits.device
        self.decoder, self.cache = decoder, start.cache
        lengths = torch.tensor(start.lengths, device=device)
        self._position = lengths.repeat_interleave(beams).unsqueeze(1)
        # the last token is never fed back
        start.cache.begin(beams, max(caps) - 1, device)

    def __call__(self, tokens: Tensor, parents: Tensor | None = None) -> Tensor:
        """Logits after one more token in each decode row, (rows * beams, vocab), float32.

        Args:
            tokens: (rows * beams,).
            parents: the beam that each beam continues, (rows, beams); None: its own.
        """
        self.cache.advance(parents)
        hidden = self.decoder.stack(
            inputs_embeds=self.decoder.embeddings(tokens).unsqueeze(1),
            position_ids=self._position,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        self._position = self._position + 1
        logits: Tensor = self.decoder.head(hidden[:, -1]).float()
        return logits


def greedy(
    decoder: Decoder,
    start: Prefilled,
    caps: Sequence[int],
    hook: StepHook = lambda: None,
    no_repeat: int = 0,
) -> list[Answer]:
    """The likeliest token at each step.

    Args:
        decoder: the language model.
        start: prompts after prefill; its cache is used up.
        caps: most new tokens of each row.
        hook: called when the first token of every row is known.
        no_repeat: longest run of tokens that may come twice, plus one; 0 allows all.
    """
    steps = _Steps(decoder, start, caps)
    answers: list[list[int]] = [[] for _ in caps]
    open_rows = set(range(len(caps)))
    ended: set[int] = set()
    logits = start.logits
    for step in range(max(caps)):
        if no_repeat:
            _forbid_repeats(logits, answers, no_repeat)
        best = logits.argmax(-1)
        tokens = best.tolist()
        if step == 0:
            hook()
        for row in sorted(open_rows):
            if tokens[row] in decoder.ends:
                ended.add(row)
            else:
                answers[row].append(tokens[row])
            if row in ended or len(answers[row]) == caps[row]:
                open_rows.discard(row)
        if not open_rows:
            break
        logits = steps(best)
    return [Answer(tuple(ids), row in ended) for row, ids in enumerate(answers)]


def _forbid_repeats(logits: Tensor, answers: Sequence[list[int]], size: int) -> None:
    """Set to -inf every token that would end a run of `size` tokens for the second time."""
    for row, ids in enumerate(answers):
        tail = ids[len(ids) - size + 1 :]
        for first in range(len(ids) - size + 1):
            if ids[first : first + size - 1] == tail:
                logits[row, ids[first + size - 1]] = -torch.inf


@dataclass(slots=True)
class _Beams:
    """Running and finished hypotheses of one row; scores are summed log-probabilities."""

    width: int
    cap: int
    running: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)
    finished: list[tuple[float, tuple[int, ...], bool]] = field(default_factory=list)
    done: bool = False

    def __post_init__(self) -> None:
        # all beams are the same at first: only one of them may be followed
        self.running = [(0.0, ()), *[(_NEVER, ())] * (self.width - 1)]

    def advance(
        self, candidates: Sequence[tuple[float, int, int]], ends: frozenset[int]
    ) -> list[int]:
        """Take the best continuations (score, beam, token), best first; returns kept beams."""
        length = len(self.running[0][1]) + 1
        kept: list[tuple[float, tuple[int, ...], int]] = []
        for rank, (score, beam, token) in enumerate(candidates):
            ids = (*self.running[beam][1], token)
            stops = token in ends or length == self.cap
            if stops and rank < self.width:
                self.finished.append((score / length, ids, token in ends))
            elif not stops and len(kept) < self.width:
                kept.append((score, ids, beam))
        self.finished = sorted(self.finished, key=lambda found: -found[0])[: self.width]
        if len(kept) < self.width:
            self.done = True
            return list(range(self.width))
        self.running = [(score, ids) for score, ids, _ in kept]
        full = len(self.finished) == self.width
        self.done = full and self.running[0][0] / length <= self.finished[-1][0]
        return [beam for _, _, beam in kept]


def beam_search(
    decoder: Decoder,
    start: Prefilled,
    caps: Sequence[int],
    beams: int,
    hook: StepHook = lambda: None,
) -> list[Answer]:
    """The best of `beams` hypotheses a row, by mean log-probability of its tokens.

    The prompt is prefilled once and its cache shared by the beams.

    Args:
        decoder: the language model.
        start: prompts after prefill; its cache is used up.
        caps: most new tokens of each row.
        beams: hypotheses followed in each row.
        hook: called when the first tokens are known.
    """
    ends = frozenset(decoder.ends)
    rows = [_Beams(beams, cap) for cap in caps]
    keep = max(2, 1 + len(ends)) * beams
    steps = _Steps(decoder, start, caps, beams)
    logits = start.logits.repeat_interleave(beams, 0)
    for step in range(max(caps)):
        candidates = _candidates(logits, rows, keep)
        if step == 0:
            hook()
        chosen = [
            list(range(beams)) if row.done else row.advance(options, ends)
            for row, options in zip(rows, candidates, strict=True)
        ]
        if all(row.done for row in rows):
            break
        last = [ids[-1] if ids else 0 for row in rows for _, ids in row.running]
        tokens, parents = (torch.tensor(ids, device=logits.device) for ids in (last, chosen))
        logits = steps(tokens, parents)
    return [_best(row) for row in rows]


def _candidates(
    logits: Tensor, rows: Sequence[_Beams], keep: int
) -> list[list[tuple[float, int, int]]]:
    """The `keep` best continuations of each row: (score, beam, token), best first."""
    beams, vocab = rows[0].width, logits.shape[-1]
    running = torch.tensor([[score for score, _ in row.running] for row in rows])
    scores = logits.log_softmax(-1).view(len(rows), beams, vocab)
    scores = scores + running.to(logits.device).unsqueeze(-1)
    best = scores.flatten(1).topk(min(keep, beams * vocab), dim=1)
    return [
        [(score, index // vocab, index % vocab) for score, index in zip(*pair, strict=True)]
        for pair in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def _best(row: _Beams) -> Answer:
    score, ids, ended = row.finished[0]
    return Answer(ids[:-1] if ended else ids, ended, score)
