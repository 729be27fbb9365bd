"""Beam search over a batch of prompts, whose caches are held once for all beams of a row.

Means what `transformers.generate` means by it (`early_stopping=False`, `length_penalty=1`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .generate import Answer, Decoder, Prefilled, StepHook
from .steps import Steps

_NEVER = -1.0e9


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
    logits = start.logits.repeat_interleave(beams, 0)
    position = torch.tensor(start.lengths, device=logits.device).repeat_interleave(beams)
    # the last token is never fed back
    steps = Steps(decoder, start.cache, beams, max(caps) - 1, logits.device)
    for made in range(max(caps)):
        candidates = _candidates(logits, rows, keep)
        if made == 0:
            hook()
        chosen = [
            list(range(beams)) if row.done else row.advance(options, ends)
            for row, options in zip(rows, candidates, strict=True)
        ]
        if all(row.done for row in rows):
            break
        last = [ids[-1] if ids else 0 for row in rows for _, ids in row.running]
        tokens, parents = (torch.tensor(ids, device=logits.device) for ids in (last, chosen))
        logits = steps.take(tokens, position + made, parents)
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
