"""Greedy search over rows that come and go: a pool decodes all its rows by one token at a time.

Means what `transformers.generate` means by it without beams. A row that ends gives its place to
the next prompt, which is what keeps the machine full (continuous batching).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from ..reduction import EvictedCache, ReducedCache
from ..reduction.regroup import regroup
from .generate import Answer, Decoder, Prefilled, StepHook
from .steps import Steps


@dataclass(slots=True)
class Row:
    """One answer under way.

    Attributes:
        cap: most new tokens.
        ids: tokens so far, without the end token.
        ended: whether the end token came.
    """

    cap: int
    ids: list[int] = field(default_factory=list)
    ended: bool = False

    @property
    def open(self) -> bool:
        """Whether another token is wanted."""
        return not self.ended and len(self.ids) < self.cap

    @property
    def fed(self) -> int:
        """Tokens that the cache holds behind the prompt: the last one is never fed back."""
        return len(self.ids) - 1 + self.ended

    @property
    def answer(self) -> Answer:
        """What was generated."""
        return Answer(tuple(self.ids), self.ended)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows of one cache, with the token and the position, (rows,) each, that come next."""

    cache: ReducedCache | EvictedCache
    rows: list[Row]
    tokens: Tensor
    position: Tensor


class Pool:
    """Rows that are decoded together; prompts join, and rows leave once they have ended.

    Must be used inside `reducing(decoder.stack)`. An exception leaves it in no state to go on.

    Args:
        decoder: the language model.
        no_repeat: longest run of tokens that may come twice, plus one; 0 allows all.
    """

    def __init__(self, decoder: Decoder, no_repeat: int = 0) -> None:
        self._decoder, self._no_repeat = decoder, no_repeat
        self._rows: list[Row] = []  # as the cache holds them: some may have ended
        self._cache: ReducedCache | EvictedCache | None = None
        self._steps: Steps | None = None
        self._tokens = self._position = torch.empty(0)

    @property
    def open(self) -> int:
        """Rows that want another token."""
        return sum(row.open for row in self._rows)

    def join(self, starts: Sequence[Prefilled], caps: Sequence[int]) -> list[Row]:
        """Choose the first token behind each prompt and take the rows in that go on.

        Args:
            starts: prompts after prefill; their caches are used up.
            caps: most new tokens of each row of all of them.

        Returns:
            The rows, in the order given; they fill as `step` is called.
        """
        fresh = [Row(cap) for cap in caps]
        left = iter(fresh)
        joining = []
        for start in starts:
            rows = list(islice(left, len(start.lengths)))
            tokens = self._choose(start.logits, rows)
            lengths = torch.tensor(start.lengths, device=tokens.device)
            joining.append(_Batch(start.cache, rows, tokens, lengths))
        self._regroup(*joining)
        return fresh

    def step(self) -> None:
        """One more token for every open row."""
        assert self._cache is not None and self._steps is not None, "no row has joined"
        logits = self._steps.take(self._tokens, self._position)
        self._tokens = self._choose(logits, self._rows)
        self._position = self._position + 1
        # moving rows costs about a step, so it waits until half of a step is for nothing
        if self.open * 2 <= len(self._rows) and self._cache.movable:
            self._regroup()

    def _choose(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """The likeliest token of each row, (rows,), added to the rows that are open."""
        if self._no_repeat:
            _forbid_repeats(logits, [row.ids for row in rows], self._no_repeat)
        best = logits.argmax(-1)
        for row, token in zip(rows, best.tolist(), strict=True):
            if row.open and token in self._decoder.ends:
                row.ended = True
            elif row.open:
                row.ids.append(token)
        return best

    def _regroup(self, *joining: _Batch) -> None:
        """Let go of the rows that have ended, and take in the open ones of those that join.

        A cache whose rows cannot be moved stays as it is, alone.
        """
        held = [] if self._cache is None else [self._held(self._cache)]
        batches = [*held, *joining]
        stays = [
            [n for n, row in enumerate(batch.rows) if row.open or not batch.cache.movable]
            for batch in batches
        ]
        parts = [pair for pair in zip(batches, stays, strict=True) if pair[1]]
        self._rows = [batch.rows[n] for batch, stay in parts for n in stay]
        if not parts:
            self._cache = self._steps = None
            return
        self._tokens = torch.cat([batch.tokens[stay] for batch, stay in parts])
        self._position = torch.cat([batch.position[stay] for batch, stay in parts])
        if parts[0][0].cache.movable:
            self._cache = regroup([(batch.cache, stay) for batch, stay in parts])
        else:
            ((batch, _),) = parts
            self._cache = batch.cache
        steps = max(row.cap - len(row.ids) for row in self._rows)
        self._steps = Steps(self._decoder, self._cache, 1, steps, self._tokens.device)

    def _held(self, cache: ReducedCache | EvictedCache) -> _Batch:
        return _Batch(cache, self._rows, self._tokens, self._position)


def greedy(
    decoder: Decoder,
    start: Prefilled,
    caps: Sequence[int],
    hook: StepHook = lambda: None,
    no_repeat: int = 0,
) -> list[Answer]:
    """The likeliest token at each step, for one batch to its end.

    Args:
        decoder: the language model.
        start: prompts after prefill; its cache is used up.
        caps: most new tokens of each row.
        hook: called when the first token of every row is known.
        no_repeat: longest run of tokens that may come twice, plus one; 0 allows all.
    """
    pool = Pool(decoder, no_repeat)
    rows = pool.join([start], caps)
    hook()
    while pool.open:
        pool.step()
    return [row.answer for row in rows]


def _forbid_repeats(logits: Tensor, answers: Sequence[list[int]], size: int) -> None:
    """Set to -inf every token that would end a run of `size` tokens for the second time."""
    for row, ids in enumerate(answers):
        tail = ids[len(ids) - size + 1 :]
        for first in range(len(ids) - size + 1):
            if ids[first : first + size - 1] == tail:
                logits[row, ids[first + size - 1]] = -torch.inf
