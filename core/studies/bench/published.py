"""FastAdaSP the way it was published, as a side to measure against: eager maps and token loops.

Whole attention maps are made in every layer, their column sums are the weights, and tokens are
merged one after another in Python. Every beam has a copy of the prompt from the prefill on. Written
from the paper (arXiv 2410.03007, section 3); positions close up, as in its code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ...engine.cost import Clock
from .sides import Run, Work

Cache = list[tuple[Tensor, Tensor]]


def published(work: Work, kept: tuple[int, ...]) -> Run:
    """Prefill and decode as the authors' code does, with `kept` audio tokens in each layer."""
    clock = Clock(work.device)
    cache: Cache = []
    scores = prefill(work, kept, cache)
    before, prompt = clock.lap(), _bytes(cache)
    ids = _search(work, cache, scores)
    decode = clock.lap()
    return Run(before, decode, _bytes(cache), ids, prompt)


def _bytes(cache: Cache) -> int:
    return sum(keys.nbytes + values.nbytes for keys, values in cache)


def prefill(work: Work, kept: tuple[int, ...], cache: Cache) -> Tensor:
    """Log-probabilities of the first token of every beam, (rows, vocab); fills the cache."""
    stack = work.model.model
    hidden = work.embedded.repeat_interleave(work.beams, 0)
    audio = slice(work.prompt.before, work.prompt.before + work.prompt.audio)
    for index, layer in enumerate(stack.layers):
        # gap-free and right-aligned, so that decoding goes on behind the whole prompt
        first = work.prompt.total - hidden.shape[1]
        hidden, keys, weights = _attend(stack, layer, hidden, first, cache)
        if kept[index + 1] < kept[index]:
            hidden = _merge(hidden, keys, weights, audio, kept[index + 1])
            audio = slice(audio.start, audio.start + kept[index + 1])
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return _scores(work.model, hidden)


def _attend(
    stack: Any, layer: Any, hidden: Tensor, first: int, cache: Cache
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention by an explicit map: states, keys (rows, heads, tokens, width), column sums."""
    query, key, value = _project(stack, layer, hidden, first)
    cache.append((key, value))
    tokens = hidden.shape[1]
    future = torch.ones(tokens, tokens, dtype=torch.bool, device=hidden.device).triu(1)
    maps = _maps(layer.self_attn, query, key, future)
    return hidden + _mix(layer.self_attn, maps, value), key, maps.sum((1, 2))


def _project(stack: Any, layer: Any, hidden: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of tokens from position `first` on, rotated."""
    from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

    attention = layer.self_attn
    rows, tokens, _ = hidden.shape
    normed = layer.input_layernorm(hidden)
    query, key, value = (
        project(normed).view(rows, tokens, -1, attention.head_dim).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    positions = torch.arange(first, first + tokens, device=hidden.device)[None]
    query, key = apply_rotary_pos_emb(query, key, *stack.rotary_emb(hidden, positions))
    return query, key, value


def _maps(attention: Any, query: Tensor, key: Tensor, hidden_keys: Tensor | None = None) -> Tensor:
    scores = query @ _for_all(attention, key).transpose(2, 3) * attention.scaling
    if hidden_keys is not None:
        scores = scores.masked_fill(hidden_keys, -torch.inf)
    maps: Tensor = scores.softmax(-1, dtype=torch.float32)
    return maps


def _mix(attention: Any, maps: Tensor, value: Tensor) -> Tensor:
    mixed = maps.to(value.dtype) @ _for_all(attention, value)
    projected: Tensor = attention.o_proj(mixed.transpose(1, 2).flatten(2))
    return projected


def _for_all(attention: Any, shared: Tensor) -> Tensor:
    """A copy of the key or value heads for each query head."""
    return shared.repeat_interleave(attention.num_key_value_groups, 1)


def _merge(hidden: Tensor, keys: Tensor, weights: Tensor, audio: slice, left: int) -> Tensor:
    """Merge the most similar neighbours of each row, chains into one, token by token."""
    merged = []
    for row, key, weight in zip(hidden, keys, weights, strict=True):
        flat = key.transpose(0, 1).flatten(1)[audio].float()
        alike = cosine_similarity(flat[:-1], flat[1:], dim=-1)
        joined = set(alike.topk(len(flat) - left).indices.tolist())
        states, shares = row[audio], weight[audio].to(row.dtype)
        groups: list[list[Tensor]] = []
        for index, (state, share) in enumerate(zip(states, shares, strict=True)):
            if index - 1 in joined:
                groups[-1][0] = groups[-1][0] + share * state
                groups[-1][1] = groups[-1][1] + share
            else:
                groups.append([share * state, share])
        tokens = torch.stack([total / share for total, share in groups])
        merged.append(torch.cat([row[: audio.start], tokens, row[audio.stop :]]))
    return torch.stack(merged)


def _scores(model: Any, hidden: Tensor) -> Tensor:
    """Log-probabilities after the last token, (rows, vocab), float32."""
    last = model.model.norm(hidden[:, -1:])
    scores: Tensor = model.lm_head(last)[:, 0].float().log_softmax(-1)
    return scores


def _search(work: Work, cache: Cache, scores: Tensor) -> tuple[int, ...]:
    """The likeliest beam of the first prompt after `tokens` tokens; no answer ends before."""
    batch, beams = len(work.embedded), work.beams
    vocab = scores.shape[-1]
    totals = torch.full((batch, beams), -1.0e9, device=scores.device)
    totals[:, 0] = 0.0  # all beams are the same at first
    answers = torch.empty(batch * beams, 0, dtype=torch.long, device=scores.device)
    first = torch.arange(batch, device=scores.device).unsqueeze(1) * beams
    position = work.prompt.total
    for step in range(work.tokens):
        sums = totals.unsqueeze(-1) + scores.view(batch, beams, vocab)
        totals, best = sums.flatten(1).topk(beams, dim=1)
        parents = (first + best // vocab).flatten()
        token = (best % vocab).flatten()
        answers = torch.cat([answers[parents], token.unsqueeze(1)], dim=1)
        if step == work.tokens - 1:
            break
        if beams > 1:
            cache[:] = [(key[parents], value[parents]) for key, value in cache]
        scores = _step(work.model, token, position + step, cache)
    return tuple(answers[0].tolist())


def _step(model: Any, token: Tensor, position: int, cache: Cache) -> Tensor:
    """Scores after one more token in each row; the cache grows by it."""
    stack = model.model
    hidden = stack.embed_tokens(token).unsqueeze(1)
    for index, layer in enumerate(stack.layers):
        query, *new = _project(stack, layer, hidden, position)
        keys, values = (torch.cat(pair, 2) for pair in zip(cache[index], new, strict=True))
        cache[index] = (keys, values)
        maps = _maps(layer.self_attn, query, keys)
        hidden = hidden + _mix(layer.self_attn, maps, values)
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return _scores(model, hidden)
