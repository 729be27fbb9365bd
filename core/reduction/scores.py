"""What audio tokens are scored by: the attention that they received in a layer.

Knows tensors only. Attention gave the log-sum-exp of every query; a second pass over audio columns
alone turns these into column sums of the softmax. It goes by tiles that stay in the processor's
cache: memory grows with the sequence, never with its square.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..flops import SCORE_CHUNK
from .layout import AudioColumns

_TILE = 2**19  # scores, 2 MiB: what the caches of two cores hold
_NARROWEST = 128  # columns: below, a step does too little


@torch.no_grad()
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
    """Attention that audio tokens received: softmax summed over heads and real queries.

    The column sum of the causal attention matrix, not divided by the number of queries that can see
    the column. Summed over the key heads too, it is FastAdaSP's merge weight (arXiv 2410.03007);
    apart for each key head it is H2O's score (arXiv 2306.14048).

    Args:
        query: (batch, heads, tokens, head_dim), after rotary embedding.
        key: (batch, kv_heads, tokens, head_dim), likewise.
        lse: log-sum-exp of each query's scores over all keys, (batch, heads, tokens).
        columns: where the audio stands.
        bias: what was added to the scores of each key, (batch, tokens), not below 0; or None.
        scale: factor on the scores.
        every: ask one query in so many, counted from the last one, and let it stand for all of
            them; what a token gives itself is always exact, for it is large and no other's.
        place: the columns to sum, (batch, n), int64, ascending in each row; `tokens` where a row
            has fewer than n. None: those of all audio.

    Returns:
        (batch, kv_heads, n), float32, n = audio where no place is given; 0 where a row has fewer.
    """
    tokens, head_dim = query.shape[2:]
    batch, kv_heads = key.shape[:2]
    if place is None:
        known = columns.places(range(columns.width), torch.device("cpu"))
        known = known.masked_fill(columns.padding(known.device), tokens)
        place, keys = known.to(query.device), columns.gather(key, 2)
    else:
        known, keys = place, _at(key, place)
    keys = (keys.float() * scale).flatten(0, 1).transpose(1, 2)
    first = min(columns.start)
    first += (tokens - 1 - first) % every
    steps = [
        range(begin, min(tokens, begin + SCORE_CHUNK * every), every)
        for begin in range(first, tokens, SCORE_CHUNK * every)
    ]
    width, size = place.shape[1], batch * query.shape[1] * SCORE_CHUNK
    if query.device.type == "cpu":
        width = min(width, max(_NARROWEST, _TILE // size))
    tile = torch.empty(size * max(width, 1), device=query.device)
    total = torch.zeros(batch * kv_heads, place.shape[1], device=query.device)
    for asked, (settled, seen) in zip(steps, _bounds(steps, known), strict=True):
        part = slice(asked.start, asked.stop, every)
        rows = query[:, :, part].reshape(batch * kv_heads, -1, head_dim).float()
        norm = lse[:, :, part].reshape(batch * kv_heads, -1, 1).float()
        unseen = place[:, None, settled:seen] > _range(asked, query.device).unsqueeze(1)
        total[:, :seen] += _sums(rows, norm, keys[..., :seen], unseen, tile)
    total = total.view(batch, kv_heads, -1)
    if every > 1:
        own = _own_attention(query, keys, lse, place)
        asked_too = (tokens - 1 - place) % every == 0
        total = total * every + own * (1 - every * asked_too.unsqueeze(1).float())
    if bias is not None:
        total *= bias.gather(1, place.clamp_max(tokens - 1)).unsqueeze(1).float().exp()
    return total


def _at(states: Tensor, place: Tensor) -> Tensor:
    """Some columns of (batch, heads, tokens, ...), of each row its own; whatever behind the last.

    A gather would look every number up by itself.
    """
    index = place.clamp_max(states.shape[2] - 1)
    return torch.stack([row.index_select(1, own) for row, own in zip(states, index, strict=True)])


def _range(numbers: range, device: torch.device) -> Tensor:
    return torch.arange(numbers.start, numbers.stop, numbers.step, device=device)


def _bounds(steps: list[range], place: Tensor) -> list[tuple[int, int]]:
    """Columns that all queries of each step see in every row, and those that any sees in any row.

    Args:
        steps: the queries of each.
        place: (batch, n), ascending.
    """
    if place.device.type != "cpu":  # to ask another device is to wait for it
        return [(0, place.shape[1])] * len(steps)
    ends = torch.tensor([end for asked in steps for end in (asked[0], asked[-1])])
    found = torch.searchsorted(place.contiguous(), ends.repeat(len(place), 1), right=True)
    settled, seen = found[:, ::2].amin(0).tolist(), found[:, 1::2].amax(0).tolist()
    return list(zip(settled, seen, strict=True))


def _sums(rows: Tensor, norm: Tensor, keys: Tensor, unseen: Tensor, tile: Tensor) -> Tensor:
    """Sum of exp(score - norm) over some queries, (batch * kv_heads, columns).

    Args:
        rows: (batch * kv_heads, groups * queries, head_dim), float32.
        norm: (batch * kv_heads, groups * queries, 1), float32.
        keys: (batch * kv_heads, head_dim, columns), float32, scaled.
        unseen: True where one of the last columns is in a query's future, (batch, queries, last).
        tile: room for the scores of so many columns at a time, float32.
    """
    width = keys.shape[2]
    step = tile.numel() // norm.numel()
    batch, queries, last = unseen.shape
    out = rows.new_empty(len(rows), width)
    for begin in range(0, width, step):
        end = min(begin + step, width)
        share = tile[: norm.numel() * (end - begin)].view(*rows.shape[:2], -1)
        torch.bmm(rows, keys[..., begin:end], out=share).sub_(norm)
        late = max(begin, width - last)
        if late < end:
            masked = share[..., late - begin :].view(batch, -1, queries, end - late)
            away = unseen[..., late - width + last : end - width + last]
            masked.masked_fill_(away.unsqueeze(1), -torch.inf)
        torch.sum(share.exp_(), 1, out=out[:, begin:end])
    return out


def _own_attention(query: Tensor, keys: Tensor, lse: Tensor, place: Tensor) -> Tensor:
    """What the tokens of some columns gave themselves, (batch, kv_heads, n); 0 behind the last.

    `keys` are theirs, (batch * kv_heads, head_dim, n), scaled; the others as in
    `received_attention`, without the bias.
    """
    batch, _, tokens, head_dim = query.shape
    norm = _at(lse, place).view(len(keys), -1, place.shape[1])
    rows = _at(query, place).view(*norm.shape, head_dim)
    share = (torch.einsum("kgad,kda->kga", rows.float(), keys) - norm).exp().sum(1)
    return share.view(batch, -1, place.shape[1]).masked_fill((place >= tokens).unsqueeze(1), 0)


def last_query_attention(
    query: Tensor,
    key: Tensor,
    lse: Tensor,
    columns: AudioColumns,
    bias: Tensor | None,
    scale: float,
) -> Tensor:
    """Attention that each audio token received from the last prompt token, summed over all heads.

    FastV's score (Chen et al., ECCV 2024, section 4). Arguments as in `received_attention`.

    Returns:
        (batch, audio), float32; a row's padding holds 0.
    """
    batch, heads, _, head_dim = query.shape
    kv_heads = key.shape[1]
    keys = columns.gather(key, 2).transpose(-1, -2).float()
    rows = query[:, :, -1].reshape(batch, kv_heads, heads // kv_heads, head_dim).float()
    score = (rows @ keys).view(batch, heads, columns.width) * scale
    if bias is not None:
        score = score + columns.gather(bias, 1).unsqueeze(1).float()
    share = (score - lse[:, :, -1:].float()).exp().sum(1)
    return share.masked_fill(columns.padding(query.device), 0)
