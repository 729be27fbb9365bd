"""Fused attention with its log-sum-exp, and the attention that audio tokens receive."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from core.flops import PromptLengths
from core.methods import Signal
from core.reduction import attention, scores
from core.reduction.attention import attend
from core.reduction.collecting import Collected, collecting_attention
from core.reduction.decoding import Taken
from core.reduction.layout import AudioColumns, PromptState
from core.reduction.masks import causal_mask
from core.reduction.scores import last_query_attention, received_attention

HEADS, KV_HEADS, WIDTH, TOKENS = 4, 2, 8, 300
SCALE = WIDTH**-0.5


def states(batch: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    query = 2 * torch.randn(batch, HEADS, TOKENS, WIDTH, generator=draw)
    key, value = (torch.randn(batch, KV_HEADS, TOKENS, WIDTH, generator=draw) for _ in range(2))
    return query, key, value


def softmax_maps(query: Tensor, key: Tensor, allowed: Tensor, bias: Tensor | None) -> Tensor:
    """Full attention maps, (batch, heads, tokens, tokens): what the fast path never builds."""
    scores = query @ key.repeat_interleave(2, 1).transpose(-1, -2) * SCALE
    if bias is not None:
        scores = scores + bias[:, None, None, :]
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1)


def causal(pad: tuple[int, ...]) -> Tensor:
    column = torch.arange(TOKENS)
    first = torch.tensor(pad).view(-1, 1, 1)
    seen = (column <= column[:, None]) & ((column >= first) | (column == column[:, None]))
    return seen.unsqueeze(1)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
def test_received_attention_is_the_column_sum_of_the_maps(ragged: bool, biased: bool) -> None:
    pad, start, length = ((0, 40), (17, 51), (230, 90)) if ragged else ((0,), (17,), (230,))
    query, key, value = states(len(pad))
    bias = torch.rand(len(pad), TOKENS) if biased else None
    allowed = causal(pad)
    maps = softmax_maps(query, key, allowed, bias)
    mask = None if not ragged and not biased else allowed
    if bias is not None:
        mask = torch.where(allowed, bias[:, None, None, :], -torch.inf)
    output, lse = attend(query, key, value, mask, SCALE)
    torch.testing.assert_close(output, maps @ value.repeat_interleave(2, 1), atol=1e-5, rtol=1e-4)
    where = AudioColumns(start, length, pad)
    received = received_attention(query, key, lse, where, bias, SCALE)
    last = last_query_attention(query, key, lse, where, bias, SCALE)
    for row in range(len(pad)):
        audio = slice(start[row], start[row] + length[row])
        by_head = maps[row, :, pad[row] :, audio].sum(1)
        expected = by_head.unflatten(0, (KV_HEADS, HEADS // KV_HEADS)).sum(1)
        torch.testing.assert_close(received[row, :, : length[row]], expected, atol=1e-4, rtol=1e-4)
        assert not received[row, :, length[row] :].any()
        expected = maps[row, :, -1, audio].sum(0)
        torch.testing.assert_close(last[row, : length[row]], expected, atol=1e-5, rtol=1e-4)
        assert not last[row, length[row] :].any()


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
def test_a_sample_of_queries_stands_for_all(ragged: bool, biased: bool) -> None:
    pad, start, length = ((0, 40), (17, 51), (230, 90)) if ragged else ((0,), (17,), (230,))
    query, key, value = states(len(pad))
    bias = torch.rand(len(pad), TOKENS) if biased else None
    allowed = causal(pad)
    mask = allowed if bias is None else torch.where(allowed, bias[:, None, None, :], -torch.inf)
    _, lse = attend(query, key, value, mask, SCALE)
    where = AudioColumns(start, length, pad)
    found = received_attention(query, key, lse, where, bias, SCALE, every=4)
    maps = softmax_maps(query, key, allowed, bias)
    for row in range(len(pad)):
        assert not found[row, :, length[row] :].any()
        for column in range(0, length[row], 7):
            at = start[row] + column
            asked = [q for q in range(TOKENS - 1, at, -4) if q != at]
            heads = maps[row, :, at, at] + 4 * maps[row, :, asked, at].sum(-1)
            expected = heads.unflatten(0, (KV_HEADS, -1)).sum(1)
            torch.testing.assert_close(found[row, :, column], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("ragged", [False, True])
def test_some_columns_are_those_of_all(
    monkeypatch: pytest.MonkeyPatch, ragged: bool, every: int
) -> None:
    monkeypatch.setattr(scores, "_TILE", 0)
    monkeypatch.setattr(scores, "_NARROWEST", 50)  # several tiles, the last one narrower
    pad, start, length = ((0, 40), (17, 51), (230, 90)) if ragged else ((0,), (17,), (230,))
    query, key, value = states(len(pad))
    bias = torch.rand(len(pad), TOKENS)
    mask = torch.where(causal(pad), bias[:, None, None, :], -torch.inf)
    _, lse = attend(query, key, value, mask, SCALE)
    seen = (query, key, lse, AudioColumns(start, length, pad), bias, SCALE, every)
    whole = received_attention(*seen)
    draw = torch.Generator().manual_seed(1)
    rows = [torch.rand(count, generator=draw).argsort()[: count // 2].sort()[0] for count in length]
    width = max(map(len, rows)) + 3
    place = torch.full((len(rows), width), TOKENS)
    for row, chosen in enumerate(rows):
        place[row, : len(chosen)] = start[row] + chosen
    found = received_attention(*seen, place)
    for row, chosen in enumerate(rows):
        expected = whole[row, :, chosen]
        torch.testing.assert_close(found[row, :, : len(chosen)], expected, atol=1e-5, rtol=1e-5)
        assert not found[row, :, len(chosen) :].any()
    # a device that is not asked where they are
    monkeypatch.setattr(scores, "_bounds", lambda steps, at: [(0, at.shape[1])] * len(steps))
    torch.testing.assert_close(received_attention(*seen, place), found, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["received", "sampled"])
def test_a_layer_tells_what_merging_tokens_received(name: str) -> None:
    query, key, value = states(2)
    where = AudioColumns((17, 51), (230, 90), (0, 40), (((100, 7),), ()))
    collected = Collected(where, None, frozenset({Signal(name)}))
    mask = causal((0, 40))
    given = query, key, value, mask
    collecting_attention(torch.nn.Identity(), *given, collected=collected, taken=Taken())
    whole = collected.received()
    members = torch.rand(2, 230, generator=torch.Generator().manual_seed(1)) < 0.2
    members[1, 90:] = False
    most = [int(count) for count in members.sum(1) + 1]
    found = collected.received(members, most)
    torch.testing.assert_close(found, whole * members, atol=1e-5, rtol=1e-5)
    assert members[1].any() and whole[members].min() > 0


def test_the_plain_fallback_equals_the_fused_kernel() -> None:
    query, key, value = states(2)
    allowed = torch.zeros(2, 1, TOKENS, TOKENS).masked_fill(~causal((0, 40)), -torch.inf)
    for mask in (None, allowed):
        fused, norm = attend(query, key, value, mask, SCALE)
        keys, values = key.repeat_interleave(2, 1), value.repeat_interleave(2, 1)
        plain, same = attention._attend_in_chunks(query, keys, values, mask, SCALE)
        torch.testing.assert_close(plain, fused, atol=1e-5, rtol=1e-4)
        alone = attention.attend_plainly(query, key, value, mask, SCALE)
        torch.testing.assert_close(alone, fused, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(same, norm, atol=1e-5, rtol=1e-4)


def test_audio_columns_of_ragged_rows() -> None:
    columns = AudioColumns(start=(3, 1), length=(2, 4), pad=(2, 0))
    values = torch.arange(12).view(2, 6)
    gathered = columns.gather(values, 1)
    assert gathered[0, :2].tolist() == [3, 4]
    assert gathered[1].tolist() == [7, 8, 9, 10]


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-3)])
def test_a_bias_on_the_keys_needs_no_mask(dtype: torch.dtype, within: float, groups: int) -> None:
    draw = torch.Generator().manual_seed(0)
    batch, kv_heads, tokens, width = 2, 2, 70, 24
    query = torch.randn(batch, kv_heads * groups, tokens, width, generator=draw).to(dtype)
    key, value = (
        torch.randn(batch, kv_heads, tokens, width, generator=draw).to(dtype) for _ in range(2)
    )
    bias = torch.randint(1, 60, (batch, tokens), generator=draw).float().log()
    scale = width**-0.5
    output, lse = attention.attend(*attention.biased(query, key, value, bias, scale), None, scale)
    scores = query.double() @ key.double().repeat_interleave(groups, 1).transpose(-1, -2) * scale
    scores = scores + bias.double()[:, None, None]
    scores = scores.masked_fill(~torch.ones(tokens, tokens).tril().bool(), -torch.inf)
    expected = scores.softmax(-1) @ value.double().repeat_interleave(groups, 1)
    torch.testing.assert_close(lse.double(), scores.logsumexp(-1), atol=within, rtol=0)
    rough = 0.03 if dtype == torch.bfloat16 else within
    torch.testing.assert_close(output[..., :width].double(), expected, atol=rough, rtol=0)


def test_one_prompt_needs_no_square_mask_for_its_sizes() -> None:
    like = torch.zeros(1)
    sizes = torch.tensor([[1.0, 3.0, 1.0, 1.0, 1.0]])
    alone = PromptState((PromptLengths(1, 3, 1),), sizes=sizes)
    assert causal_mask(alone, True, like) is None
    rows = PromptLengths(1, 3, 1), PromptLengths(1, 2, 1)
    padded = PromptState(rows, sizes=sizes.repeat(2, 1))
    mask = causal_mask(padded, True, like)
    assert mask is not None and mask[0, 0, 4, 1] == pytest.approx(math.log(3.0))
