"""Received attention as one Triton kernel. Importing this needs triton: `received` does so on CUDA.

A program owns a block of audio columns of one key head. It keeps their keys on the chip and streams
past them the queries that see them: no score is ever written, and as each column has one owner
nothing is added atomically, so results do not vary from run to run.

At 32 heads of 128 and n tokens the n^2/2 causal pairs take 2 * 128 * 32 FLOPs each; queries come
from memory or L2 once for each block of 128 columns, 128 FLOPs a byte in a 16-bit dtype, and the
output is n floats a key head. It is bound by arithmetic, not by memory.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .layout import AudioColumns

_LOG2E = tl.constexpr(math.log2(math.e))


def received_attention(  # noqa: PLR0913
    query: Tensor,
    key: Tensor,
    lse: Tensor,
    columns: AudioColumns,
    bias: Tensor | None,
    scale: float,
    every: int = 1,
    place: Tensor | None = None,
) -> Tensor:
    """`scores.received_attention` on a CUDA device.

    Tensors are read where they lie, whatever their strides; nothing waits for the device.
    """
    batch, heads, tokens, head_dim = query.shape
    if place is None:
        place = columns.places(range(columns.width), torch.device("cpu"))
        place = place.masked_fill(columns.padding(place.device), tokens)
    kv_heads, width = key.shape[1], place.shape[1]
    received = torch.empty(batch, kv_heads, width, dtype=torch.float32, device=query.device)
    options = launch_options(query.dtype.itemsize, head_dim)
    with torch.cuda.device_of(query):  # type: ignore[no-untyped-call]
        _received[(triton.cdiv(width, options["COLUMNS"]), kv_heads, batch)](
            query,
            key,
            lse,
            bias,
            # not waited for: the copy is staged before the call returns
            place.to(query.device, torch.int32, non_blocking=True).contiguous(),
            received,
            *query.stride(),
            *key.stride(),
            *lse.stride(),
            *((0, 0) if bias is None else bias.stride()),
            tokens,
            width,
            heads // kv_heads,
            every,
            scale * math.log2(math.e),
            **options,
        )
    return received


def launch_options(value_bytes: int, head_dim: int) -> dict[str, int]:
    """How the kernel is built for queries and keys of this many bytes a value."""
    sizes = {"HEAD_DIM": head_dim, "BLOCK_DIM": max(16, triton.next_power_of_2(head_dim))}
    if value_bytes <= 2:
        # few enough registers for two programs a multiprocessor: one's exp2 beside the other's dot
        warps = {"num_warps": 8, "num_stages": 3, "maxnreg": 128}
        return sizes | {"COLUMNS": 128, "QUERIES": 64} | warps
    # exact float32 has no matrix unit, and keys of twice the size
    return sizes | {"COLUMNS": 32, "QUERIES": 32, "num_warps": 4, "num_stages": 2}


# what changes from layer to layer must not make the compiler start anew
@triton.jit(
    do_not_specialize=(
        "lse_row",
        "lse_head",
        "bias_row",
        "tokens",
        "width",
        "groups",
        "every",
    )
)
def _received(  # noqa: PLR0913
    query: tl.tensor,
    key: tl.tensor,
    lse: tl.tensor,
    bias: tl.tensor,
    place: tl.tensor,
    received: tl.tensor,
    query_row: int,
    query_head: int,
    query_token: int,
    query_dim: int,
    key_row: int,
    key_head: int,
    key_token: int,
    key_dim: int,
    lse_row: int,
    lse_head: int,
    lse_token: int,
    bias_row: int,
    bias_token: int,
    tokens: int,
    width: int,
    groups: int,
    every: int,
    scale: float,
    HEAD_DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    COLUMNS: tl.constexpr,
    QUERIES: tl.constexpr,
) -> None:
    """One block of columns of one key head of one row; `scale` comes with log2(e) in it.

    `place` is (rows, width): the columns, ascending, `tokens` where a row has fewer.
    """
    index = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    kv_head, row = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    column = tl.load(place + row * width + index, mask=index < width, other=tokens)
    audio = column < tokens
    first, last = tl.min(column, 0), tl.max(tl.where(audio, column, 0), 0)
    dim = tl.arange(0, BLOCK_DIM)
    keys = tl.load(
        key
        + (row * key_row + kv_head * key_head)
        + column.to(tl.int64)[None, :] * key_token
        + dim[:, None] * key_dim,
        mask=audio[None, :] & (dim < HEAD_DIM)[:, None],
        other=0.0,
    )
    # queries among its columns see a part of them; those behind the last one all of them
    asked_behind = (tokens - 1 - last + every - 1) // every
    own = tl.zeros((COLUMNS,), tl.float32)
    others = tl.zeros((COLUMNS,), tl.float32)
    for group in range(tl.where(first < tokens, groups, 0)):
        head = kv_head * groups + group
        rows = query + row * query_row + head * query_head
        norms = lse + row * lse_row + head * lse_head
        summed = tl.zeros((QUERIES, COLUMNS), tl.float32)
        for begin in range(0, asked_behind, QUERIES):
            count = begin + tl.arange(0, QUERIES)
            share = _shares(
                rows, norms, keys, tokens - 1 - count * every, count < asked_behind, dim,
                query_token, query_dim, lse_token, scale, HEAD_DIM,
            )  # fmt: skip
            summed += share
        others += tl.sum(summed, 0)
        for begin in tl.range(first, last + 1, QUERIES, num_stages=1):
            token = begin + tl.arange(0, QUERIES)
            share = _shares(
                rows, norms, keys, token, token <= last, dim,
                query_token, query_dim, lse_token, scale, HEAD_DIM,
            )  # fmt: skip
            distance = token[:, None] - column[None, :]
            own += tl.sum(tl.where(distance == 0, share, 0.0), 0)
            asked = (tokens - 1 - token) % every == 0
            others += tl.sum(tl.where(asked[:, None] & (distance > 0), share, 0.0), 0)
    total = own + every * others
    if bias is not None:
        added = tl.load(bias + row * bias_row + column * bias_token, mask=audio, other=0.0)
        total *= tl.exp2(added.to(tl.float32) * _LOG2E)
    out = received + (row * tl.num_programs(1) + kv_head) * width + index
    tl.store(out, tl.where(audio, total, 0.0), mask=index < width)


@triton.jit
def _shares(  # noqa: PLR0913
    query: tl.tensor,
    lse: tl.tensor,
    keys: tl.tensor,
    token: tl.tensor,
    real: tl.tensor,
    dim: tl.tensor,
    query_token: int,
    query_dim: int,
    lse_token: int,
    scale: float,
    HEAD_DIM: tl.constexpr,
) -> tl.tensor:
    """exp(score - lse) in float32, (queries, columns); 0 for queries that are not `real`."""
    at = token.to(tl.int64)
    rows = tl.load(
        query + at[:, None] * query_token + dim[None, :] * query_dim,
        mask=real[:, None] & (dim < HEAD_DIM)[None, :],
        other=0.0,
    )
    norm = tl.load(lse + at * lse_token, mask=real, other=float("inf")).to(tl.float32)
    # float32 stays float32: TF32 would change weights that the plain code sums exactly
    score = tl.dot(rows, keys, input_precision="ieee") * scale
    return tl.exp2(score - norm[:, None] * _LOG2E)
