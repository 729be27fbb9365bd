"""The slow, obvious re-computation that the fast engine is held against.

It knows the architecture (a Llama-like decoder: RMSNorm, biased projections, rotary positions,
grouped key heads, SwiGLU) and FastAdaSP's merging, and nothing of the engine: no cache object, no
hook, no padding, one prompt at a time. Weights come from the modules of a transformers model, the
arithmetic is done in `tests.reference_layers`, in float64.

In layer l, after attention and its residual and before the MLP: neighbouring audio tokens with the
most similar keys (after rotation, all key heads side by side) are merged, chains into one; the new
state is the mean of the old ones, weighted by the attention each token received from all queries
of the prompt over all heads. The layer's own keys and values are those from before the merge.
How many audio tokens each layer keeps is given by the caller, as `audio_kept`: entry l enters
layer l, and one last entry leaves the last layer. Other methods come as a `rule`; theirs may remove
tokens before the first layer too, by a first entry below the span's length.

Positions: `reindex` numbers the n_l tokens of every layer without gaps up to the prompt's last
position; `keep` leaves every token its place in the prompt, and a merged one that of its first
member. Either way the t-th generated token sits at prompt length + t in every layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tests.reference_layers import (
    Token,
    add,
    attend,
    choose_pairs,
    enter,
    feed_forward,
    head_logits,
    linear,
    merge,
    neighbour_cosines,
    project,
    sampled,
)
from tests.reference_methods import Rule, Seen, regroup

Positions = Literal["reindex", "keep"]


@dataclass(frozen=True)
class LayerTrace:
    """What one layer saw and decided; n tokens enter it, A of them audio."""

    sources: list[tuple[int, ...]]  # n: the prompt tokens behind each entering token
    positions: list[int]  # n: what the rotation used
    log_sizes: Tensor  # [n] what a size bias adds to the logits, zeros without one
    keys: Tensor  # [n, key heads, head size], rotated
    values: Tensor  # [n, key heads, head size]
    received: Tensor  # [n] attention received, summed over query heads and queries
    similarity: list[float]  # A - 1: each audio token's key against the next one's
    pairs: list[int]  # the left tokens of the merged pairs, counted from the span's start
    margin: float  # by how much the last chosen pair beats the best refused one


@dataclass(frozen=True)
class Prompt:
    """A prompt after prefill: all that the generated tokens need to know of it."""

    length: int
    layers: list[LayerTrace]
    final: list[Token]  # leaving the last layer, before the last norm
    logits: Tensor  # [vocabulary] at the last position


@dataclass(frozen=True)
class Hypothesis:
    """A beam: its generated ids and their summed log-probability."""

    ids: tuple[int, ...]
    log_prob: float


@torch.no_grad()
def prefill(
    model: Any,
    embeds: Tensor,
    span: tuple[int, int],
    audio_kept: Sequence[int],
    positions: Positions = "reindex",
    *,
    size_bias: bool = False,
    weighted: bool = True,
    rule: Rule | None = None,
) -> Prompt:
    """Run one unpadded prompt [n, d] whose audio is the half-open `span`.

    With a `rule`, that method decides in place of FastAdaSP.
    """
    decoder_layers = model.get_decoder().layers
    _check_counts(audio_kept, span, len(decoder_layers), rule is not None)
    length = len(embeds)
    tokens = [Token(state, (i,), i) for i, state in enumerate(enter(model, embeds))]
    if rule is not None and audio_kept[0] < span[1] - span[0]:
        states = _states(tokens[slice(*span)])
        nothing = [0.0] * len(states)
        clusters = rule(
            Seen(states, states, nothing, nothing, nothing, [1] * len(states)), audio_kept[0]
        )
        tokens[slice(*span)] = regroup(tokens[slice(*span)], clusters)
    traces = []
    for index, layer in enumerate(decoder_layers):
        if positions == "reindex":
            at = list(range(length - len(tokens), length))
        else:
            at = [token.position for token in tokens]
        sizes = [token.size if size_bias else 1 for token in tokens]
        log_sizes = torch.tensor(sizes, dtype=torch.float64).log()
        queries, keys, values = project(model, layer, _states(tokens), at)
        mixed, received = attend(queries, keys, values, log_sizes)
        after = add(layer, _states(tokens), linear(layer.self_attn.o_proj, mixed.flatten(1)))

        start, stop = span[0], span[0] + audio_kept[index]
        similarity = neighbour_cosines(keys[start:stop].flatten(1))
        pairs, margin = choose_pairs(similarity, audio_kept[index] - audio_kept[index + 1])
        sources = [token.sources for token in tokens]
        traces.append(
            LayerTrace(sources, at, log_sizes, keys, values, received, similarity, pairs, margin)
        )
        tokens = [Token(after[i], t.sources, t.position) for i, t in enumerate(tokens)]
        weights = received[start:stop].tolist() if weighted else [1.0] * (stop - start)
        if rule is None:
            tokens[start:stop] = merge(tokens[start:stop], weights, pairs)
        elif audio_kept[index + 1] < audio_kept[index]:
            _, last = attend(queries[-1:], keys, values, log_sizes)
            seen = Seen(
                keys[start:stop].flatten(1),
                after[start:stop],
                received[start:stop].tolist(),
                sampled(queries, keys, log_sizes)[start:stop].tolist(),
                last[start:stop].tolist(),
                [token.size for token in tokens[start:stop]],
            )
            clusters = rule(seen, audio_kept[index + 1])
            tokens[start:stop] = regroup(tokens[start:stop], clusters)
        states = feed_forward(layer, _states(tokens))
        tokens = [Token(states[i], t.sources, t.position) for i, t in enumerate(tokens)]
    return Prompt(length, traces, tokens, head_logits(model, tokens[-1].state))


def prefill_logits(
    model: Any,
    embeds: Tensor,
    span: tuple[int, int],
    audio_kept: Sequence[int],
    positions: Positions = "reindex",
    **rules: Any,
) -> tuple[Tensor, list[LayerTrace]]:
    """The last position's logits [vocabulary] of one prompt, and what each layer did."""
    prompt = prefill(model, embeds, span, audio_kept, positions, **rules)
    return prompt.logits, prompt.layers


@torch.no_grad()
def forced_logits(model: Any, prompt: Prompt, ids: Sequence[int]) -> Tensor:
    """Logits [len(ids) + 1, vocabulary] after the prompt and after each of the given ids.

    The ids run through all layers from scratch, on top of each layer's own prompt keys.
    """
    if not ids:
        return prompt.logits[None]
    at = list(range(prompt.length, prompt.length + len(ids)))
    states = enter(model, model.get_input_embeddings().weight[list(ids)])
    for layer, trace in zip(model.get_decoder().layers, prompt.layers, strict=True):
        queries, keys, values = project(model, layer, states, at)
        log_sizes = torch.cat([trace.log_sizes, torch.zeros(len(ids), dtype=torch.float64)])
        mixed, _ = attend(
            queries, torch.cat([trace.keys, keys]), torch.cat([trace.values, values]), log_sizes
        )
        mixed = linear(layer.self_attn.o_proj, mixed.flatten(1))
        states = feed_forward(layer, add(layer, states, mixed))
    return torch.cat([prompt.logits[None], head_logits(model, states)])


def greedy(
    model: Any,
    embeds: Tensor,
    span: tuple[int, int],
    audio_kept: Sequence[int],
    positions: Positions = "reindex",
    *,
    max_new_tokens: int,
    eos: int | Sequence[int] | None = None,
    **rules: Any,
) -> list[int]:
    """The best token again and again; an end token is the last id of the answer."""
    prompt = prefill(model, embeds, span, audio_kept, positions, **rules)
    ids: list[int] = []
    while len(ids) < max_new_tokens and (not ids or ids[-1] not in _end_tokens(eos)):
        ids.append(int(forced_logits(model, prompt, ids)[-1].argmax()))
    return ids


def beam_search(
    model: Any,
    embeds: Tensor,
    span: tuple[int, int],
    audio_kept: Sequence[int],
    positions: Positions = "reindex",
    *,
    num_beams: int,
    max_new_tokens: int,
    eos: int | Sequence[int] | None = None,
    length_penalty: float = 1.0,
    **rules: Any,
) -> tuple[list[int], float]:
    """The best hypothesis and its score, as `generate(num_beams=k, early_stopping=False)` has it.

    Score: summed log-probability over length ** length_penalty, where the length counts generated
    tokens and the end token with them.
    """
    prompt = prefill(model, embeds, span, audio_kept, positions, **rules)
    return search(
        lambda ids: forced_logits(model, prompt, ids)[-1],
        num_beams=num_beams,
        max_new_tokens=max_new_tokens,
        eos=eos,
        length_penalty=length_penalty,
    )


def search(
    logits_after: Callable[[Sequence[int]], Tensor],
    *,
    num_beams: int,
    max_new_tokens: int,
    eos: int | Sequence[int] | None = None,
    length_penalty: float = 1.0,
) -> tuple[list[int], float]:
    """`beam_search` over any model: `logits_after(ids)` are those of the token that follows."""
    ends = _end_tokens(eos)
    alive = [Hypothesis((), 0.0)]
    finished: list[tuple[float, tuple[int, ...]]] = []
    for length in range(1, max_new_tokens + 1):
        # one end token can take at most num_beams of these, so enough are left to go on
        room = max(2, 1 + len(ends)) * num_beams
        grown = [child for parent in alive for child in _children(logits_after, parent)]
        grown = sorted(grown, key=lambda h: -h.log_prob)[:room]
        alive = []
        for rank, hypothesis in enumerate(grown):
            over = hypothesis.ids[-1] in ends or length == max_new_tokens
            if not over:
                alive.append(hypothesis)
            elif rank < num_beams:
                finished.append((hypothesis.log_prob / length**length_penalty, hypothesis.ids))
        alive = alive[:num_beams]
        finished = sorted(finished, key=lambda f: -f[0])[:num_beams]
        # the library guesses that no living beam will score better than it would if it ended now
        full = len(finished) == num_beams
        if not alive or (full and alive[0].log_prob / length**length_penalty <= finished[-1][0]):
            break
    return list(finished[0][1]), finished[0][0]


def _children(
    logits_after: Callable[[Sequence[int]], Tensor], parent: Hypothesis
) -> list[Hypothesis]:
    log_probs = logits_after(parent.ids).double().log_softmax(-1).tolist()
    return [Hypothesis((*parent.ids, i), parent.log_prob + p) for i, p in enumerate(log_probs)]


def _states(tokens: list[Token]) -> Tensor:
    return torch.stack([token.state for token in tokens])


def _end_tokens(eos: int | Sequence[int] | None) -> set[int]:
    if eos is None:
        return set()
    return {eos} if isinstance(eos, int) else set(eos)


def _check_counts(
    audio_kept: Sequence[int], span: tuple[int, int], layers: int, at_input: bool
) -> None:
    assert len(audio_kept) == layers + 1, "one count for each layer's entry and one for the exit"
    whole = span[1] - span[0]
    assert audio_kept[0] == whole or (at_input and 1 <= audio_kept[0] < whole), "the whole span"
    for before, after in itertools.pairwise(audio_kept):
        assert before == after or 1 <= after < before, "counts never grow and never reach zero"
