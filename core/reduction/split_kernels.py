"""Attention of a decode step as two Triton kernels. Importing this needs triton: `split` does so.

A step reads every key and value once and computes next to nothing with them, so it is bound by
memory, and one row has too few heads to fill a GPU. So programs share out the keys too (Flash-
Decoding, Dao et al. 2023): each reads one part of the prompt, or of what stands behind it, for all
beams and all heads of a key head, and leaves their mean under its own softmax and the log-sum-exp;
a second kernel joins the parts.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .fixed import Behind

_LOG2E = tl.constexpr(math.log2(math.e))
_KEYS = 64
_PROGRAMS = 2  # for each multiprocessor, so that one loads while the other computes
_JOINED = 16


def attend_split(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, behind: Behind, scale: float
) -> Tensor:
    """`split.attend_split` on a CUDA device; nothing waits for it.

    Nothing depends on how much of the room behind the prompt is in use but what is read.
    """
    rows, kv_heads, width, head_dim = key.shape
    tails, heads = behind.tails, query.shape[1]
    groups, room = heads // kv_heads, behind.keys.shape[2]
    queries = tails.beams * groups
    part = part_of(width, rows * kv_heads, query.device)
    before = triton.cdiv(width, part)
    parts = before + triton.cdiv(room, part)
    mixed = query.new_empty(rows, kv_heads, queries, parts, head_dim, dtype=torch.float32)
    norms = query.new_empty(rows, kv_heads, queries, parts, dtype=torch.float32)
    out = query.new_empty(len(query), 1, heads, head_dim)
    options = launch_options(query.dtype.itemsize, queries, head_dim)
    with torch.cuda.device_of(query):  # type: ignore[no-untyped-call]
        _read[(parts, kv_heads, rows)](
            query,
            key,
            value,
            bias,
            behind.keys,
            behind.values,
            tails.seen.view(torch.uint8),
            tails.filled,
            mixed,
            norms,
            *query.stride()[:2],
            *key.stride()[:3],
            *value.stride()[:3],
            *((0, 0) if bias is None else (bias.stride(0), bias.stride(3))),
            *behind.keys.stride()[:3],
            width,
            room,
            part,
            before,
            groups,
            tails.beams,
            queries,
            scale * math.log2(math.e),
            **options,
        )
        _join[(queries, kv_heads, rows)](
            mixed,
            norms,
            out,
            parts,
            groups,
            tails.beams,
            heads,
            HEAD_DIM=head_dim,
            BLOCK_DIM=options["BLOCK_DIM"],
            PARTS=_JOINED,
            num_warps=4,
        )
    return out


def part_of(width: int, readers: int, device: torch.device) -> int:
    """Keys that one program reads: so many that all of them together fill the GPU."""
    processors = 8
    if device.type == "cuda":
        processors = torch.cuda.get_device_properties(device).multi_processor_count
    wanted = max(1, _PROGRAMS * processors // readers)
    return max(2 * _KEYS, math.ceil(width / wanted / _KEYS) * _KEYS)


def launch_options(value_bytes: int, queries: int, head_dim: int) -> dict[str, int]:
    """How the first kernel is built for so many queries of a key head."""
    small = value_bytes <= 2
    return {
        "HEAD_DIM": head_dim,
        "BLOCK_DIM": max(16, triton.next_power_of_2(head_dim)),
        # the least that a matrix unit takes
        "QUERIES": max(16, triton.next_power_of_2(queries)),
        "KEYS": _KEYS if small else _KEYS // 2,
        "num_warps": 4,
        "num_stages": 3 if small else 2,
    }


# what changes from layer to layer must not make the compiler start anew
@triton.jit(
    do_not_specialize=(
        "bias_row",
        "width",
        "room",
        "part",
        "before",
        "groups",
        "beams",
        "queries",
    )
)
def _read(  # noqa: PLR0913
    query: tl.tensor,
    key: tl.tensor,
    value: tl.tensor,
    bias: tl.tensor,
    key_behind: tl.tensor,
    value_behind: tl.tensor,
    seen: tl.tensor,
    filled: tl.tensor,
    mixed: tl.tensor,
    norms: tl.tensor,
    query_row: int,
    query_head: int,
    key_row: int,
    key_head: int,
    key_token: int,
    value_row: int,
    value_head: int,
    value_token: int,
    bias_row: int,
    bias_token: int,
    behind_row: int,
    behind_head: int,
    behind_token: int,
    width: int,
    room: int,
    part: int,
    before: int,
    groups: int,
    beams: int,
    queries: int,
    scale: float,
    HEAD_DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
) -> None:
    """One part of the keys of one key head of one row; `scale` comes with log2(e) in it."""
    number = tl.program_id(0)
    kv_head, row = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    index, dim = tl.arange(0, QUERIES), tl.arange(0, BLOCK_DIM)
    beam, real = index // groups, index < queries
    head = kv_head * groups + index % groups
    asked = tl.load(
        query + ((row * beams + beam) * query_row + head * query_head)[:, None] + dim[None, :],
        mask=real[:, None] & (dim < HEAD_DIM)[None, :],
        other=0.0,
    )
    if number < before:
        begin = number * part
        total, most, share = _over(
            asked,
            key + row * key_row + kv_head * key_head,
            value + row * value_row + kv_head * value_head,
            key_token, value_token, bias, row * bias_row, bias_token, None, beam, real, room,
            begin, tl.minimum(begin + part, width), scale, HEAD_DIM, BLOCK_DIM, QUERIES, KEYS,
        )  # fmt: skip
    else:
        begin = (number - before) * part
        at = row * behind_row + kv_head * behind_head
        total, most, share = _over(
            asked,
            key_behind + at,
            value_behind + at,
            behind_token, behind_token, None, 0, 0, seen + row * beams * room, beam, real, room,
            begin, tl.minimum(begin + part, tl.load(filled)), scale, HEAD_DIM, BLOCK_DIM, QUERIES,
            KEYS,
        )  # fmt: skip
    parts = tl.num_programs(0)
    place = ((row * tl.num_programs(1) + kv_head) * queries + index) * parts + number
    tl.store(
        mixed + place[:, None] * HEAD_DIM + dim[None, :],
        total / tl.where(share > 0, share, 1.0)[:, None],
        mask=real[:, None] & (dim < HEAD_DIM)[None, :],
    )
    norm = tl.where(share > 0, most + tl.log2(tl.where(share > 0, share, 1.0)), float("-inf"))
    tl.store(norms + place, norm, mask=real)


@triton.jit
def _over(  # noqa: PLR0913
    asked: tl.tensor,
    key: tl.tensor,
    value: tl.tensor,
    key_token: int,
    value_token: int,
    bias: tl.tensor,
    bias_row: int,
    bias_token: int,
    seen: tl.tensor,
    beam: tl.tensor,
    real: tl.tensor,
    room: int,
    begin: int,
    end: int,
    scale: float,
    HEAD_DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Values of some keys summed by exp2(score - largest), the largest, and the sum of shares."""
    dim = tl.arange(0, BLOCK_DIM)
    inside = (dim < HEAD_DIM)[None, :]
    total = tl.zeros((QUERIES, BLOCK_DIM), tl.float32)
    most = tl.full((QUERIES,), float("-inf"), tl.float32)
    share = tl.zeros((QUERIES,), tl.float32)
    for first in range(begin, end, KEYS):
        token = first + tl.arange(0, KEYS)
        there, at = token < end, token.to(tl.int64)[:, None]
        keys = tl.load(key + at * key_token + dim[None, :], mask=there[:, None] & inside, other=0.0)
        # float32 stays float32: TF32 would not be what the plain code computes
        score = tl.dot(asked, tl.trans(keys), input_precision="ieee") * scale
        if bias is not None:
            added = tl.load(bias + bias_row + token * bias_token, mask=there, other=0.0)
            score += added.to(tl.float32)[None, :] * _LOG2E
        shown = there[None, :] & real[:, None]
        if seen is not None:
            mine = seen + beam[:, None] * room + token[None, :]
            shown &= tl.load(mine, mask=shown, other=0) != 0
        score = tl.where(shown, score, float("-inf"))
        larger = tl.maximum(most, tl.max(score, 1))
        safe = tl.where(larger == float("-inf"), 0.0, larger)
        weight = tl.exp2(score - safe[:, None])
        fade = tl.exp2(most - safe)
        values = tl.load(
            value + at * value_token + dim[None, :], mask=there[:, None] & inside, other=0.0
        )
        total = total * fade[:, None] + tl.dot(
            weight.to(values.dtype), values, input_precision="ieee"
        )
        share, most = share * fade + tl.sum(weight, 1), larger
    return total, most, share


@triton.jit(do_not_specialize=("parts", "groups", "beams", "heads"))
def _join(  # noqa: PLR0913
    mixed: tl.tensor,
    norms: tl.tensor,
    out: tl.tensor,
    parts: int,
    groups: int,
    beams: int,
    heads: int,
    HEAD_DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    PARTS: tl.constexpr,
) -> None:
    """What the parts found for one query of one key head of one row."""
    index = tl.program_id(0)
    kv_head, row = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    dim, step = tl.arange(0, BLOCK_DIM), tl.arange(0, PARTS)
    inside = dim < HEAD_DIM
    place = ((row * tl.num_programs(1) + kv_head) * tl.num_programs(0) + index) * parts
    most = tl.full((PARTS,), float("-inf"), tl.float32)
    for first in range(0, parts, PARTS):
        there = first + step < parts
        norm = tl.load(norms + place + first + step, mask=there, other=float("-inf"))
        most = tl.maximum(most, norm)
    largest = tl.max(most, 0)
    total = tl.zeros((BLOCK_DIM,), tl.float32)
    share = tl.zeros((PARTS,), tl.float32)
    for first in range(0, parts, PARTS):
        there = first + step < parts
        norm = tl.load(norms + place + first + step, mask=there, other=float("-inf"))
        weight = tl.exp2(norm - largest)
        values = tl.load(
            mixed + (place + first + step)[:, None] * HEAD_DIM + dim[None, :],
            mask=there[:, None] & inside[None, :],
            other=0.0,
        )
        total += tl.sum(weight[:, None] * values, 0)
        share += weight
    head = kv_head * groups + index % groups
    where = ((row * beams + index // groups) * heads + head) * HEAD_DIM + dim
    tl.store(out + where, (total / tl.sum(share, 0)).to(out.dtype.element_ty), mask=inside)
