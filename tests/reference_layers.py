"""The arithmetic of one decoder layer, spelled out: the lower half of `tests.reference`.

Everything is float64, one sequence, one query of one head at a time. Of transformers' modules only
the weights and the sizes are read; nothing here calls a module.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Token:
    """One token on its way through the layers; a merged one stands for several prompt tokens."""

    state: Tensor  # [d]
    sources: tuple[int, ...]  # indices into the prompt
    position: int  # of the first member, in the prompt

    @property
    def size(self) -> int:
        """How many prompt tokens it stands for."""
        return len(self.sources)


def neighbour_cosines(keys: Tensor) -> list[float]:
    """Cosine of each key with the next one: [A, width] -> A - 1 numbers."""
    cosines = []
    for i in range(len(keys) - 1):
        left, right = keys[i], keys[i + 1]
        cosines.append(float(left @ right / (left.norm() * right.norm())))
    return cosines


def choose_pairs(similarity: list[float], removed: int) -> tuple[list[int], float]:
    """The `removed` most similar pairs in order, and the gap to the best pair left out."""
    if removed == 0:
        return [], math.inf
    ranked = sorted(range(len(similarity)), key=lambda i: -similarity[i])
    chosen, refused = ranked[:removed], ranked[removed:]
    gap = similarity[chosen[-1]] - similarity[refused[0]] if refused else math.inf
    return sorted(chosen), gap


def merge(tokens: list[Token], weights: list[float], pairs: Collection[int]) -> list[Token]:
    """Merge each chain of chosen pairs into the weighted mean of its members."""
    clusters: list[list[int]] = []
    for i in range(len(tokens)):
        if i > 0 and i - 1 in pairs:
            clusters[-1].append(i)
        else:
            clusters.append([i])
    merged = []
    for members in clusters:
        total = sum(weights[j] for j in members)
        state = torch.zeros_like(tokens[members[0]].state)
        for j in members:
            state = state + tokens[j].state * (weights[j] / total)
        sources = tuple(source for j in members for source in tokens[j].sources)
        merged.append(Token(state, sources, tokens[members[0]].position))
    return merged


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, log_sizes: Tensor
) -> tuple[Tensor, Tensor]:
    """Causal attention of the last tokens on all of them, one query of one head at a time.

    queries [q, H, h], keys and values [k, Hkv, h] with k >= q, log_sizes [k] ->
    mixed values [q, H, h] and the attention each key received [k].
    """
    heads, head_size = queries.shape[1:]
    group = heads // keys.shape[1]
    mixed = torch.zeros_like(queries)
    received = torch.zeros(len(keys), dtype=queries.dtype)
    for i in range(len(queries)):
        visible = len(keys) - len(queries) + i + 1
        for head in range(heads):
            scores = keys[:visible, head // group] @ queries[i, head] / math.sqrt(head_size)
            scores = scores + log_sizes[:visible]
            shares = (scores - scores.max()).exp()
            shares = shares / shares.sum()
            mixed[i, head] = shares @ values[:visible, head // group]
            received[:visible] += shares
    return mixed, received


def project(model: Any, layer: Any, states: Tensor, at: list[int]) -> tuple[Tensor, ...]:
    """Queries [n, H, h], keys and values [n, Hkv, h]; queries and keys are rotated."""
    attention, head_size = layer.self_attn, layer.self_attn.head_dim
    rope = model.get_decoder().config.rope_parameters
    assert rope["rope_type"] == "default", "the oracle knows the plain rotation only"
    normed = norm(layer.input_layernorm, states)
    parts = [part.unflatten(1, (-1, head_size)) for part in _side_by_side(attention, normed)]
    queries, keys, values = parts
    if hasattr(attention, "q_norm"):
        queries, keys = norm(attention.q_norm, queries), norm(attention.k_norm, keys)
    # `attend` divides by the root of the head size, as most families do
    queries = queries * (attention.scaling * math.sqrt(head_size))
    for i, position in enumerate(at):
        queries[i] = rotate(queries[i], position, rope["rope_theta"])
        keys[i] = rotate(keys[i], position, rope["rope_theta"])
    return queries, keys, values


def _side_by_side(attention: Any, states: Tensor) -> list[Tensor]:
    """Queries, keys and values, heads side by side, from three matrices or from one."""
    if hasattr(attention, "q_proj"):
        return [linear(m, states) for m in (attention.q_proj, attention.k_proj, attention.v_proj)]
    shared = attention.num_key_value_heads * attention.head_dim
    joined = linear(attention.qkv_proj, states)
    return list(joined.split([joined.shape[1] - 2 * shared, shared, shared], dim=1))


def rotate(vectors: Tensor, position: int, theta: float) -> Tensor:
    """Turn channel i together with channel i + half by an angle that falls with i."""
    half = vectors.shape[-1] // 2
    angles = torch.tensor(
        [position * theta ** (-i / half) for i in range(half)], dtype=vectors.dtype
    )
    left, right = vectors[..., :half], vectors[..., half:]
    turned = left * angles.cos() - right * angles.sin(), right * angles.cos() + left * angles.sin()
    return torch.cat(turned, dim=-1)


def linear(module: Any, states: Tensor) -> Tensor:
    """The module's matrix times each state, plus its bias if it has one."""
    out = states @ module.weight.double().T
    return out if module.bias is None else out + module.bias.double()


def norm(module: Any, states: Tensor) -> Tensor:
    """Each state over its root mean square, scaled channel by channel."""
    mean_square = (states * states).mean(-1, keepdim=True)
    return module.weight.double() * states / (mean_square + module.variance_epsilon).sqrt()


def add(layer: Any, states: Tensor, update: Tensor) -> Tensor:
    """The residual connection; Granite scales what it adds."""
    return states + update * getattr(layer, "residual_multiplier", 1.0)


def enter(model: Any, embeds: Tensor) -> Tensor:
    """What the first layer gets of embeddings; Granite scales them."""
    return embeds.double() * getattr(model.get_decoder(), "embedding_multiplier", 1.0)


def feed_forward(layer: Any, states: Tensor) -> Tensor:
    """SwiGLU with its norm and its residual; a mixture mixes the best experts of each token."""
    normed = norm(layer.post_attention_layernorm, states)
    if hasattr(layer.mlp, "experts"):
        return add(layer, states, torch.stack([_mixture(layer.mlp, token) for token in normed]))
    if hasattr(layer.mlp, "gate_up_proj"):
        gate, up = linear(layer.mlp.gate_up_proj, normed).chunk(2, dim=-1)
    else:
        gate, up = linear(layer.mlp.gate_proj, normed), linear(layer.mlp.up_proj, normed)
    return add(layer, states, linear(layer.mlp.down_proj, _gated(gate, up)))


def _gated(gate: Tensor, up: Tensor) -> Tensor:
    return gate / (1 + (-gate).exp()) * up


def _mixture(mlp: Any, token: Tensor) -> Tensor:
    """The experts that the router likes best, weighted by their shares among themselves."""
    router, experts = mlp.gate, mlp.experts
    scores = (router.weight.double() @ token).softmax(0)
    best = sorted(range(len(scores)), key=lambda i: -scores[i])[: router.top_k]
    whole = sum(scores[i] for i in best)
    mixed = torch.zeros_like(token)
    for i in best:
        gate, up = (experts.gate_up_proj[i].double() @ token).chunk(2)
        mixed += scores[i] / whole * (experts.down_proj[i].double() @ _gated(gate, up))
    return mixed


def head_logits(model: Any, states: Tensor) -> Tensor:
    """Last norm and output matrix."""
    return linear(model.get_output_embeddings(), norm(model.get_decoder().norm, states))


def sampled(queries: Tensor, keys: Tensor, log_sizes: Tensor, every: int = 4) -> Tensor:
    """Attention each key [k] received, from one query in `every` for all but its own.

    queries [k, H, h], keys [k, Hkv, h], log_sizes [k]; the last query is one of the sample.
    """
    received = torch.zeros(len(keys), dtype=queries.dtype)
    for i in range(len(queries)):
        seen = slice(0, i + 1)
        _, shares = attend(queries[i : i + 1], keys[seen], keys[seen], log_sizes[seen])
        received[i] += shares[i]
        if (len(queries) - 1 - i) % every == 0:
            received[:i] += every * shares[:i]
    return received
