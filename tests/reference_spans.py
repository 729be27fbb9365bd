"""Prompts with several spans of audio, slow and obvious: the fifth part of the oracle.

The same walk through the layers as in `tests.reference`, one prompt, float64; but the audio is a
list of spans, each token knows which of them it belongs to, and a rule is asked about the tokens of
one span at a time. What it cannot see it cannot merge with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tests.reference import LayerTrace, Positions, Prompt
from tests.reference_eviction import Read
from tests.reference_layers import (
    Token,
    add,
    attend,
    enter,
    feed_forward,
    head_logits,
    linear,
    project,
    sampled,
)
from tests.reference_methods import Rule, Seen, regroup

Member = tuple[Token, int | None]  # a token, and the number of its span; None = text


@torch.no_grad()
def prefill(
    model: Any,
    embeds: Tensor,
    runs: Sequence[int],
    kept: Sequence[Sequence[int]],
    rule: Rule,
    positions: Positions,
    size_bias: bool,
) -> Prompt:
    """Run one prompt [n, d] of text and audio in turn, `runs` tokens each.

    `kept[l][s]` tokens of span s enter layer l; one last entry leaves the last layer.
    """
    owner = [run // 2 if run % 2 else None for run, size in enumerate(runs) for _ in range(size)]
    assert len(owner) == len(embeds)
    states = enter(model, embeds)
    members: list[Member] = [(Token(state, (i,), i), owner[i]) for i, state in enumerate(states)]
    nothing = [0.0] * len(embeds)
    members = _cut(members, kept[0], rule, (states, states, nothing, nothing, nothing))
    traces = []
    for index, layer in enumerate(model.get_decoder().layers):
        tokens = [token for token, _ in members]
        first = len(embeds) - len(tokens)
        gapless = list(range(first, len(embeds)))
        at = gapless if positions == "reindex" else [token.position for token in tokens]
        sizes = [token.size if size_bias else 1 for token in tokens]
        log_sizes = torch.tensor(sizes, dtype=torch.float64).log()
        states = torch.stack([token.state for token in tokens])
        queries, keys, values = project(model, layer, states, at)
        mixed, received = attend(queries, keys, values, log_sizes)
        after = add(layer, states, linear(layer.self_attn.o_proj, mixed.flatten(1)))
        sources = [token.sources for token in tokens]
        traces.append(LayerTrace(sources, at, log_sizes, keys, values, received, [], [], math.inf))
        _, last = attend(queries[-1:], keys, values, log_sizes)
        scores = (received.tolist(), sampled(queries, keys, log_sizes).tolist(), last.tolist())
        members = [
            (Token(after[i], token.sources, token.position), span)
            for i, (token, span) in enumerate(members)
        ]
        members = _cut(members, kept[index + 1], rule, (keys.flatten(1), after, *scores))
        states = feed_forward(layer, torch.stack([token.state for token, _ in members]))
        members = [
            (Token(states[i], token.sources, token.position), span)
            for i, (token, span) in enumerate(members)
        ]
    tokens = [token for token, _ in members]
    return Prompt(len(embeds), traces, tokens, head_logits(model, tokens[-1].state))


def _cut(
    members: list[Member], kept: Sequence[int], rule: Rule, known: tuple[Any, ...]
) -> list[Member]:
    """Each span by itself: its tokens in `members`, in place, until `kept` of them are left."""
    keys, states, *scores = known
    found: list[Member] = []
    for span in [None, *range(len(kept))]:
        mine = [i for i, (_, own) in enumerate(members) if own == span]
        tokens = [members[i][0] for i in mine]
        if span is not None and len(mine) > kept[span]:
            received, every_fourth, last = ([one[i] for i in mine] for one in scores)
            sizes = [token.size for token in tokens]
            seen = Seen(keys[mine], states[mine], received, every_fourth, last, sizes)
            tokens = regroup(tokens, rule(seen, kept[span]))
        assert span is None or len(tokens) == kept[span]
        found += [(token, span) for token in tokens]
    return sorted(found, key=lambda member: member[0].position)


def h2o(prompt: Read, layer: int, head: int, runs: Sequence[int], kept: Sequence[int]) -> set[int]:
    """Half of what is left of the prompt is its end; each span fills up with its heavy hitters."""
    left = list(runs)
    left[1::2] = kept
    found: set[int] = set()
    for span, count in enumerate(kept):
        begin = sum(runs[: 2 * span + 1])
        audio = list(range(begin, begin + runs[2 * span + 1]))
        recent = min(count, max(0, sum(left) // 2 - sum(left[2 * span + 2 :])))
        late = audio[len(audio) - recent :]
        rest = [i for i in audio if i not in late]
        rest.sort(key=lambda i: -float(prompt.received[layer][head, i]))
        found |= {*late, *rest[: count - recent]}
    return found
