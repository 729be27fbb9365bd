"""Fused attention that also tells how much attention each audio token received.

Knows tensors only. The fused kernel gives the output and the log-sum-exp of every query; a second
pass over the audio columns alone turns these into column sums of the softmax, in steps of a few
queries. Memory grows with the sequence, never with its square.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ..flops import SCORE_CHUNK

aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class AudioColumns:
    """Where the audio of each row stands among the keys of a right-aligned batch.

    Attributes:
        start: first audio column of each row.
        length: audio tokens of each row.
        pad: left-padding columns of each row.
        gaps: text inside the audio of each row, see `PromptLengths.gaps`; empty where no row has
            any.
    """

    start: tuple[int, ...]
    length: tuple[int, ...]
    pad: tuple[int, ...]
    gaps: tuple[tuple[tuple[int, int], ...], ...] = ()

    @property
    def width(self) -> int:
        """Audio tokens of the row that has most."""
        return max(self.length)

    @property
    def ragged(self) -> bool:
        """Whether the rows differ."""
        alike = len(set(zip(self.start, self.length, self.pad, strict=True))) == 1
        return not alike or len(set(self.gaps)) > 1

    def ahead(self, column: int) -> list[int]:
        """Audio tokens of each row in front of a column: below 0 where the audio is yet to come,
        counted on behind its end."""
        found = [column - start for start in self.start]
        for row, gaps in enumerate(self.gaps):
            for first, text in gaps:
                found[row] -= min(max(found[row] - first, 0), text)
        return found

    def each_gap(self, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """First, second, ... gap of all rows: audio tokens in front and text, (batch, 1) each.

        A row that has no such gap has an empty one behind its audio.
        """
        for number in range(max(map(len, self.gaps), default=0)):
            rows = zip(self.gaps, self.length, strict=True)
            found = [gaps[number] if number < len(gaps) else (end, 0) for gaps, end in rows]
            first, text = torch.tensor(found, device=device).unsqueeze(-1).unbind(1)
            yield first, text

    def places(self, audio: range, device: torch.device) -> Tensor:
        """Column of each of these audio tokens, (batch, len(audio)), counted on behind its end."""
        number = torch.arange(audio.start, audio.stop, device=device)
        found = torch.tensor(self.start, device=device).unsqueeze(1) + number
        for first, text in self.each_gap(device):
            found = found + (number >= first) * text
        return found

    def padding(self, device: torch.device) -> Tensor:
        """True behind the audio of a row that has less than another, (batch, width)."""
        length = torch.tensor(self.length, device=device).unsqueeze(1)
        return torch.arange(self.width, device=device) >= length

    def gather(self, values: Tensor, dim: int) -> Tensor:
        """The audio columns of `values` along `dim`, (batch, ...), rows padded on the right.

        What stands in the padding is unspecified.
        """
        if len(set(self.start)) == 1 and not self.gaps:
            first = self.start[0]
            size = min(self.width, values.shape[dim] - first)
            if size == self.width:
                return values.narrow(dim, first, self.width)
        shape = [len(self.start)] + [1] * (values.ndim - 1)
        shape[dim] = self.width
        index = self.places(range(self.width), values.device)
        index = index.clamp_max(values.shape[dim] - 1).view(shape)
        expanded = list(values.shape)
        expanded[dim] = self.width
        return values.gather(dim, index.expand(expanded))


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


def received_attention(  # noqa: PLR0913
    query: Tensor,
    key: Tensor,
    lse: Tensor,
    columns: AudioColumns,
    bias: Tensor | None,
    scale: float,
    every: int = 1,
) -> Tensor:
    """Attention that each audio token received: softmax summed over heads and real queries.

    The column sum of the causal attention matrix, not divided by the number of queries that can see
    the column. Summed over the key heads too, it is FastAdaSP's merge weight (arXiv 2410.03007);
    apart for each key head it is H2O's score (arXiv 2306.14048).

    Args:
        query: (batch, heads, tokens, head_dim), after rotary embedding.
        key: (batch, kv_heads, tokens, head_dim), likewise.
        lse: log-sum-exp of each query's scores over all keys, (batch, heads, tokens).
        columns: where the audio stands.
        bias: what was added to the scores of each key, (batch, tokens), or None.
        scale: factor on the scores.
        every: ask one query in so many, counted from the last one, and let it stand for all of
            them; what a token gives itself is always exact, for it is large and no other's.

    Returns:
        (batch, kv_heads, audio), float32; a row's padding holds 0.
    """
    batch, heads, tokens, head_dim = query.shape
    kv_heads = key.shape[1]
    keys = columns.gather(key, 2).transpose(-1, -2).float()
    extra = None if bias is None else columns.gather(bias, 1)[:, None, None, :].float()
    total = torch.zeros(batch, kv_heads, columns.width, device=query.device)
    first = min(columns.start)
    first += (tokens - 1 - first) % every
    for begin in range(first, tokens, SCORE_CHUNK * every):
        asked = range(begin, min(tokens, begin + SCORE_CHUNK * every), every)
        seen = min(columns.width, max(columns.ahead(asked[-1] + 1)))
        rows = query[:, :, begin : asked.stop : every]
        norm = lse[:, :, begin : asked.stop : every]
        share = torch.baddbmm(
            norm.reshape(batch * kv_heads, -1, 1).float(),
            rows.reshape(batch * kv_heads, -1, head_dim).float(),
            keys[..., :seen].reshape(batch * kv_heads, head_dim, seen),
            beta=-1,
            alpha=scale,
        ).view(batch, heads, len(asked), seen)
        if extra is not None:
            share += extra[..., :seen]
        settled = 0 if columns.ragged else max(0, columns.ahead(begin)[0])
        if settled < seen:
            unseen = _unseen(columns, asked, range(settled, seen), query.device)
            share[..., settled:].masked_fill_(unseen, -torch.inf)
        total[..., :seen] += share.exp_().view(batch, kv_heads, -1, seen).sum(2)
    if every == 1:
        return total
    own = _own_attention(query, keys, lse, columns, extra, scale)
    asked_too = _distance(columns, tokens, query.device) % every == 0
    return total * every + own * (1 - every * asked_too.unsqueeze(1).float())


def _own_attention(
    query: Tensor,
    keys: Tensor,
    lse: Tensor,
    columns: AudioColumns,
    extra: Tensor | None,
    scale: float,
) -> Tensor:
    """What each audio token gave itself, (batch, kv_heads, audio); a row's padding holds 0.

    `keys` are the audio's, (batch, kv_heads, head_dim, audio), `extra` their bias,
    (batch, 1, 1, audio); the others as in `received_attention`.
    """
    batch = len(query)
    rows = columns.gather(query, 2).view(batch, keys.shape[1], -1, columns.width, keys.shape[2])
    norm = columns.gather(lse, 2).view(rows.shape[:-1])
    score = torch.einsum("bkgad,bkda->bkga", rows.float(), keys) * scale - norm
    if extra is not None:
        score = score + extra
    return score.exp().sum(2).masked_fill(columns.padding(query.device).unsqueeze(1), 0)


def _distance(columns: AudioColumns, tokens: int, device: torch.device) -> Tensor:
    """Tokens between each audio token and the end of its row, (batch, audio)."""
    return tokens - 1 - columns.places(range(columns.width), device)


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


def _unseen(columns: AudioColumns, queries: range, audio: range, device: torch.device) -> Tensor:
    """True where an audio column is padding or in the query's future.

    A query that is padding sees none: all of its row's audio lies after it.
    """
    query = torch.arange(queries.start, queries.stop, queries.step, device=device)[None, :, None]
    number = torch.arange(audio.start, audio.stop, device=device)
    length = torch.tensor(columns.length, device=device)[:, None, None]
    unseen = (columns.places(audio, device).unsqueeze(1) > query) | (number >= length)
    return unseen.unsqueeze(1)


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
