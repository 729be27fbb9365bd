"""Decoding with a part of the prompt's cache, slow and obvious: the fourth part of the oracle.

The whole prompt runs through every layer in float64 and all of its keys and values are kept. A rule
says, for each layer and key head, which of them later tokens may look at; the others are passed
over one by one. Nothing is freed, gathered, padded or batched here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.reference_layers import feed_forward, head_logits, linear, project

Visible = list[list[set[int]]]  # of each layer and key head: positions of the prompt


@dataclass(frozen=True)
class Read:
    """A prompt after a full prefill."""

    length: int
    keys: list[Tensor]  # of each layer: [n, key heads, head size], rotated
    values: list[Tensor]
    received: list[Tensor]  # of each layer: [key heads, n], summed over queries and query heads
    logits: Tensor


Choice = Callable[[Read, int, int, tuple[int, int], int], set[int]]
"""Read prompt, layer, key head, audio span, audio tokens that stay -> audio positions that do."""


@torch.no_grad()
def read(model: Any, embeds: Tensor) -> Read:
    """Run one prompt [n, d] through the full model."""
    keys, values, received = [], [], []
    states = embeds.double()
    for layer in model.get_decoder().layers:
        q, k, v = project(model, layer, states, list(range(len(states))))
        group = q.shape[1] // k.shape[1]
        mixed, sums = torch.zeros_like(q), torch.zeros(k.shape[1], len(k), dtype=q.dtype)
        for i in range(len(q)):
            for head in range(q.shape[1]):
                seen = list(range(i + 1))
                shares = _shares(q[i, head], k[seen, head // group])
                mixed[i, head] = shares @ v[seen, head // group]
                sums[head // group, seen] += shares
        states = feed_forward(layer, states + linear(layer.self_attn.o_proj, mixed.flatten(1)))
        keys.append(k)
        values.append(v)
        received.append(sums)
    return Read(len(embeds), keys, values, received, head_logits(model, states[-1]))


def visible(prompt: Read, span: tuple[int, int], held: Sequence[int], choice: Choice) -> Visible:
    """What later tokens may look at: all text, and the audio that was chosen."""
    text = set(range(prompt.length)) - set(range(*span))
    heads = prompt.keys[0].shape[1]
    found = []
    for layer, kept in enumerate(held):
        chosen = [choice(prompt, layer, head, span, kept) for head in range(heads)]
        assert all(len(some) == kept for some in chosen)
        found.append([text | some for some in chosen])
    return found


@torch.no_grad()
def logits_after(model: Any, prompt: Read, seen: Visible, ids: Sequence[int]) -> Tensor:
    """Logits [vocabulary] after the prompt and these ids, one token after the other."""
    logits = prompt.logits
    layers = model.get_decoder().layers
    tails: list[list[tuple[Tensor, Tensor]]] = [[] for _ in layers]
    for step, token in enumerate(ids):
        state = model.get_input_embeddings().weight[[token]].double()
        for index, layer in enumerate(layers):
            q, k, v = project(model, layer, state, [prompt.length + step])
            tails[index].append((k[0], v[0]))
            mixed = torch.zeros_like(q)
            for head in range(q.shape[1]):
                own = head // (q.shape[1] // k.shape[1])
                places = sorted(seen[index][own])
                past_keys = [prompt.keys[index][i, own] for i in places]
                past_values = [prompt.values[index][i, own] for i in places]
                past_keys += [pair[0][own] for pair in tails[index]]
                past_values += [pair[1][own] for pair in tails[index]]
                shares = _shares(q[0, head], torch.stack(past_keys))
                mixed[0, head] = shares @ torch.stack(past_values)
            state = feed_forward(layer, state + linear(layer.self_attn.o_proj, mixed.flatten(1)))
        logits = head_logits(model, state[0])
    return logits


def h2o(prompt: Read, layer: int, head: int, span: tuple[int, int], kept: int) -> set[int]:
    """Half of the budget for the end of the prompt, the rest for what was looked at most."""
    audio = list(range(*span))
    budget = prompt.length - len(audio) + kept
    recent = [i for i in audio if i >= prompt.length - budget // 2]
    recent = recent[max(0, len(recent) - kept) :]
    rest = [i for i in audio if i not in recent]
    rest.sort(key=lambda i: -float(prompt.received[layer][head, i]))
    return {*recent, *rest[: kept - len(recent)]}


def streaming_llm(
    prompt: Read, layer: int, head: int, span: tuple[int, int], kept: int
) -> set[int]:
    """The first four tokens of the prompt, and its end."""
    audio = list(range(*span))
    sinks = [i for i in audio if i < 4][:kept]
    rest = [i for i in audio if i not in sinks]
    return {*sinks, *rest[len(rest) - (kept - len(sinks)) :]}


CHOICES: dict[str, Choice] = {"h2o": h2o, "streaming-llm": streaming_llm}


def _shares(query: Tensor, keys: Tensor) -> Tensor:
    scores = keys @ query / math.sqrt(len(query))
    shares = (scores - scores.max()).exp()
    return shares / shares.sum()
