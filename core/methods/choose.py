"""What several methods choose by: likeness of neighbours, the best of a row, seeded chance."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from .base import Received

_BLOCK = 2**18


def removed(lengths: Sequence[int], kept: Sequence[int]) -> list[int]:
    """Tokens that go, of each row."""
    return [length - left for length, left in zip(lengths, kept, strict=True)]


def pairs(lengths: Sequence[int]) -> list[int]:
    """Pairs of neighbours, of each row."""
    return [max(length - 1, 0) for length in lengths]


def column(counts: Sequence[int], like: Tensor) -> Tensor:
    """Counts of each row as a column, (batch, 1), on the device of `like`."""
    return torch.tensor(counts, device=like.device).unsqueeze(1)


def adjacent_cosine(keys: Tensor) -> Tensor:
    """Cosine similarity of neighbouring keys with all heads concatenated, in float32.

    bfloat16 would tie massively: its three digits cannot rank neighbours that are .99 alike.

    Args:
        keys: (batch, kv_heads, tokens, head_dim).

    Returns:
        (batch, tokens - 1).
    """
    batch, heads, tokens, head_dim = keys.shape
    step = tokens
    if keys.device.type == "cpu":  # products that stay in its cache
        step = max(1, _BLOCK // (batch * heads * head_dim))
    squares, products = [], []
    for begin in range(0, tokens, step):
        part = keys[:, :, begin : begin + step + 1].float()
        squares.append(part[:, :, :step].square().sum(dim=(1, 3)))
        products.append((part[:, :, :-1] * part[:, :, 1:]).sum(dim=(1, 3)))
    square, product = torch.cat(squares, 1), torch.cat(products, 1)
    return product * (square[:, :-1] * square[:, 1:]).clamp_min(1e-30).rsqrt()


def order(scores: Tensor, valid: Sequence[int]) -> Tensor:
    """Columns of each row from the largest score to the smallest, padding last.

    Of equal scores the earlier column comes first, whatever the device and the padding.

    Args:
        scores: (batch, columns).
        valid: columns of each row that are no padding.
    """
    if min(valid) < scores.shape[1]:
        columns = torch.arange(scores.shape[1], device=scores.device)
        scores = scores.masked_fill(columns >= column(valid, scores), -torch.inf)
    return scores.argsort(dim=1, descending=True, stable=True)


def largest(scores: Tensor, valid: Sequence[int], wanted: Sequence[int]) -> Tensor:
    """The `wanted` largest scores of each row, (batch, columns), bool.

    The counts are known on the host, so nothing waits for the device.
    """
    places = torch.arange(scores.shape[1], device=scores.device)
    best = (places < column(wanted, scores)).expand_as(scores)
    return torch.zeros_like(best).scatter(1, order(scores, valid), best)


def received_by_members(received: Received, joined: Tensor, gone: Sequence[int]) -> Tensor:
    """Attention received by the tokens that merge; all others are 0, for they share with nobody.

    Args:
        received: see `Received`.
        joined: see `Plan.from_joins`.
        gone: joins of each row; no more than twice as many tokens are in one.

    Returns:
        (batch, audio), float32.
    """
    members = pad(joined, (1, 0)) | pad(joined, (0, 1))
    return received(members, [2 * joins for joins in gone])


def chance(counts: Sequence[int], kept: Sequence[int], seed: int, like: Tensor) -> Tensor:
    """Random scores of each row, (batch, largest count), on the device of `like`.

    They depend on the row's own counts alone: not on its neighbours in the batch, not on the
    device, and they are the same every time.
    """
    rows = [_draw(count, left, seed) for count, left in zip(counts, kept, strict=True)]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(like.device)


@lru_cache(maxsize=1024)
def _draw(count: int, left: int, seed: int) -> Tensor:
    mixed = (seed * 1_000_003 + count) * 1_000_003 + left
    return torch.rand(count, generator=torch.Generator().manual_seed(mixed % 2**63))
