"""Fused attention that also gives the log-sum-exp of every query.

Knows tensors only. torch's public function keeps the log-sum-exp to itself, so its operators are
called by name. One is believed once it has agreed with plain code on the device; where none proves
right, the plain code goes by a few queries at a time. Memory grows with the sequence,
never with its square, but for a mask that has one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from ..flops import SCORE_CHUNK
from .proving import proven

aten = torch.ops.aten

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None, float], tuple[Tensor, Tensor]]

_ALIGNED = 16  # values from one row of a mask to the next: what operators on CUDA ask for
_HALF = (torch.float16, torch.bfloat16)
_WIDER = 16  # numbers of a head, of which two are needed: what matrix units like a multiple of
_TOLERANCE = 2e-2  # in 16 bits; float32 may be set to TF32
_TOKENS = 77  # fits no block


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention output and log-sum-exp of each query, by a fused kernel where there is one.

    Args:
        query: (batch, heads, queries, head_dim).
        key, value: (batch, kv_heads, keys, head_dim).
        mask: additive or boolean, broadcastable to (batch, 1, queries, keys); None is causal over
            a square.
        scale: factor on the scores.

    Returns:
        output (batch, heads, queries, head_dim) and log-sum-exp (batch, heads, queries), float32.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    chosen: Attend = _attend_in_chunks
    if query.device.type == "cpu":
        chosen = _fastest_on_cpu(query.dtype, query.shape[-1], mask is not None)
    elif query.device.type == "cuda":
        chosen = _fastest(query.device, query.dtype, query.shape[-1], mask is not None)
    return chosen(query, key, value, mask, scale)


def attend_plainly(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    """`attend` without the log-sum-exp: fused on every device, with a mask too."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale
    )


def biased(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values for which causal attention without a mask adds a bias to each key.

    A mask with the bias in it would be read over the whole square, the half included that no query
    sees. Instead every key has two numbers more, bias / scale and what is lost when that is
    rounded, and every query 1 in both places.

    Args:
        query, key, value: (batch, heads or kv_heads, tokens, head_dim).
        bias: (batch, tokens), float32.
        scale: factor on the scores.

    Returns:
        The same with `_WIDER` numbers more; those of the output mean nothing.
    """
    width = query.shape[-1]
    query, key, value = (pad(states, (0, _WIDER)) for states in (query, key, value))
    query[..., width : width + 2] = 1
    wanted = bias.unsqueeze(1) / scale
    key[..., width] = wanted
    key[..., width + 1] = wanted - key[..., width].float()
    return query, key, value


def _additive(mask: Tensor, dtype: torch.dtype, aligned: int = 1) -> Tensor:
    """A mask as what is added to the scores.

    Args:
        mask: (..., keys), boolean or additive.
        dtype: of the queries.
        aligned: its rows begin at multiples of so many values.
    """
    keys = mask.shape[-1]
    if mask.dtype == dtype and keys % aligned == 0:
        return mask
    added = mask.new_zeros((*mask.shape[:-1], -(-keys // aligned) * aligned), dtype=dtype)
    added = added[..., :keys]
    return added.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else added.copy_(mask)


def _attend_on_cpu(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """By the one fused operator that a CPU has."""
    if mask is not None:
        mask = _additive(mask, query.dtype)
    out, lse = aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, mask is None, attn_mask=mask, scale=scale
    )
    return out, lse


def _attend_by_flash(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """By the fastest operator on CUDA: 16 bits, no mask."""
    assert mask is None, "it takes none"
    out, lse = aten._scaled_dot_product_flash_attention(
        query, key, value, 0.0, True, False, scale=scale
    )[:2]
    return out, lse


def _attend_efficiently(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """By the operator on CUDA that takes a mask; its log-sum-exp is padded to 32 queries."""
    if mask is not None:
        added = _additive(mask, query.dtype, _ALIGNED)
        mask = added.expand(*query.shape[:3], key.shape[2])
    out, lse = aten._scaled_dot_product_efficient_attention(
        query, key, value, mask, True, 0.0, mask is None, scale=scale
    )[:2]
    return out, lse[..., : query.shape[2]]


@cache
def _fastest_on_cpu(dtype: torch.dtype, head_dim: int, masked: bool) -> Attend:
    """The fused operator of a CPU for such queries, or plain code if it does not agree with it."""
    return proven(
        lambda: _attend_on_cpu,
        lambda fused: _agrees(fused, torch.device("cpu"), dtype, head_dim, masked),
        _attend_in_chunks,
        f"no fused attention {'with a mask ' if masked else ''}on this CPU in"
        f" {str(dtype).removeprefix('torch.')}: {{reason}}; slower plain code takes its place",
    )


@cache
def _fastest(device: torch.device, dtype: torch.dtype, head_dim: int, masked: bool) -> Attend:
    """The fused operator for such queries on CUDA, or plain code if it does not agree with it."""
    flash = not masked and dtype in _HALF
    return proven(
        lambda: _attend_by_flash if flash else _attend_efficiently,
        lambda fused: _agrees(fused, device, dtype, head_dim, masked),
        _attend_in_chunks,
        f"no fused attention {'with a mask ' if masked else ''}on {device} in"
        f" {str(dtype).removeprefix('torch.')}: {{reason}}; slower plain code takes its place",
    )


def _agrees(
    fused: Attend, device: torch.device, dtype: torch.dtype, head_dim: int, masked: bool
) -> bool:
    """Whether it equals plain code on two rows, with a mask on a padded one and one with a bias."""
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(3, 2, 2, _TOKENS, head_dim, generator=draw).to(device, dtype)
    mask = None
    if masked:
        column = torch.arange(_TOKENS, device=device)
        first = torch.tensor([0, _TOKENS // 3], device=device).view(-1, 1, 1, 1)
        own = column == column[:, None]
        visible = ((column <= column[:, None]) & (column >= first)) | own
        bias = torch.rand(_TOKENS, generator=draw).to(device, dtype)
        mask = torch.where(visible, bias, -torch.inf)
    scale = head_dim**-0.5
    # plain code rounds its scores to 16 bits, which a fused operator does not
    query, key, value = states
    expected = _attend_in_chunks(query.float(), key.float(), value.float(), mask, scale)
    pairs = zip(fused(query, key, value, mask, scale), expected, strict=True)
    return all(
        torch.allclose(one.float(), other, atol=_TOLERANCE, rtol=_TOLERANCE) for one, other in pairs
    )


def _attend_in_chunks(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """What `attend` does where no fused kernel returns its log-sum-exp."""
    if mask is not None:
        mask = _additive(mask, query.dtype)
    outputs, norms = [], []
    keys = torch.arange(key.shape[2], device=key.device)
    for begin in range(0, query.shape[2], SCORE_CHUNK):
        rows = query[:, :, begin : begin + SCORE_CHUNK]
        scores = (rows @ key.transpose(-1, -2)).float() * scale
        if mask is None:
            queries = torch.arange(begin, begin + rows.shape[2], device=key.device)
            scores = scores.masked_fill(keys > queries.unsqueeze(1), -torch.inf)
        else:
            scores = scores + mask[..., begin : begin + SCORE_CHUNK, :]
        norm = scores.logsumexp(-1)
        outputs.append((scores - norm.unsqueeze(-1)).exp().to(value.dtype) @ value)
        norms.append(norm)
    return torch.cat(outputs, 2), torch.cat(norms, 2)
