"""Fused attention that also tells how much attention each audio token received.

Knows tensors only. The fused kernel gives the output and the log-sum-exp of every query; a second
pass over the audio columns alone turns these into column sums of the softmax, in steps of a few
queries. Memory grows with the sequence, never with its square.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ..flops import SCORE_CHUNK

aten = torch.ops.aten


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
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
    causal = mask is None
    if query.device.type == "cpu":
        out, lse = aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, attn_mask=mask, scale=scale
        )
        return out, lse
    if query.device.type == "cuda" and causal and query.dtype in (torch.float16, torch.bfloat16):
        out, lse = aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, True, False, scale=scale
        )[:2]
        return out, lse
    return _attend_in_chunks(query, key, value, mask, scale)


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


def _attend_in_chunks(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """What `attend` does where no fused kernel returns its log-sum-exp."""
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
