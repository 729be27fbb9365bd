"""Caches that hold each prompt once: against caches in which every beam has its own copy."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.engine.beams import beam_search
from core.engine.greedy import greedy
from core.methods import get_method
from core.reduction import Reduction, masks, reducing
from core.reduction.decoding import attend_shared
from core.reduction.growing import SPARE, GrowingLayer
from core.reduction.masks import Tails
from tests import reference
from tests.test_reduction import LAYERS, counts, decoder_of, lengths_of, run_prefill
from tests.tiny import prompt_batch

ROWS, BEAMS, KV_HEADS, GROUPS, WIDTH, PROMPT = 2, 3, 2, 2, 8, 11


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_shared_attention_equals_a_copy_of_the_cache_for_each_beam() -> None:
    layer, tails = GrowingLayer(), Tails(ROWS, BEAMS, torch.device("cpu"))
    prompt = [drawn(ROWS, KV_HEADS, PROMPT, WIDTH, seed=seed) for seed in (0, 1)]
    copies = [states.repeat_interleave(BEAMS, 0) for states in prompt]
    layer.update(*prompt)
    steps = 2 * SPARE // BEAMS
    layer.share(BEAMS, steps)
    bias = drawn(ROWS, 1, 1, PROMPT, seed=2)
    for step in range(steps):
        draw = torch.Generator().manual_seed(step)
        parents = torch.randint(BEAMS, (ROWS, BEAMS), generator=draw)
        flat = (parents + BEAMS * torch.arange(ROWS).unsqueeze(1)).flatten()
        fresh = [drawn(ROWS * BEAMS, KV_HEADS, 1, WIDTH, seed=100 + 2 * step + k) for k in (0, 1)]
        copies = [
            torch.cat([old.index_select(0, flat), new], dim=2)
            for old, new in zip(copies, fresh, strict=True)
        ]
        tails.advance(parents)
        keys, values = layer.update(*fresh)
        query = 2 * drawn(ROWS * BEAMS, KV_HEADS * GROUPS, 1, WIDTH, seed=7 + step)
        hidden = torch.zeros(tails.seen.shape).masked_fill(~tails.seen, -torch.inf).unsqueeze(1)
        mask = torch.cat([bias.expand(-1, -1, BEAMS, -1), hidden], dim=-1)
        found = attend_shared(query, keys, values, mask)
        expected = torch.nn.functional.scaled_dot_product_attention(
            query,
            *[states.repeat_interleave(GROUPS, 1) for states in copies],
            attn_mask=nn.functional.pad(bias, (0, step + 1)).repeat_interleave(BEAMS, 0),
        )
        torch.testing.assert_close(found, expected.transpose(1, 2), atol=1e-6, rtol=1e-5)
    assert torch.equal(layer.keys[:, :, :PROMPT], prompt[0])
    assert torch.equal(layer.values[:, :, :PROMPT], prompt[1])


def test_a_layer_holds_the_prompt_once_and_grows_no_further_than_needed() -> None:
    layer = GrowingLayer()
    states = drawn(1, KV_HEADS, PROMPT, WIDTH, seed=0)
    layer.update(states, states)
    slot = 2 * KV_HEADS * WIDTH * states.itemsize
    assert layer.held_bytes == (PROMPT + SPARE) * slot
    layer.share(BEAMS, 50)
    places = []
    for step in range(50):
        fresh = drawn(BEAMS, KV_HEADS, 1, WIDTH, seed=step)
        keys, _ = layer.update(fresh, 2 * fresh)
        places.append(keys.data_ptr())
        assert keys.shape == (1, KV_HEADS, PROMPT + BEAMS * (step + 1), WIDTH)
        assert layer.tail == BEAMS * (step + 1)
        assert torch.equal(keys[0, :, -BEAMS:].transpose(0, 1), fresh.squeeze(2))
    assert torch.equal(
        layer.values[0, :, -2 * BEAMS : -BEAMS].transpose(0, 1),
        2 * drawn(BEAMS, KV_HEADS, 1, WIDTH, seed=48).squeeze(2),
    )
    # what is free may be used again, so only neighbours are compared
    assert sum(one != two for one, two in pairwise(places)) == 2
    assert layer.held_bytes == (PROMPT + BEAMS * 50) * slot


@torch.no_grad()
def test_long_answers_equal_generate(gqa_model: Any) -> None:
    batch = prompt_batch(gqa_model, [23, 9], [3, 5], [4, 7])
    kept = [(row.audio,) * (LAYERS + 1) for row in lengths_of(batch)]
    inputs = {"inputs_embeds": batch.inputs_embeds, "attention_mask": batch.attention_mask}
    reduction, tokens, decoder = Reduction(get_method("fastadasp")), 70, decoder_of(gqa_model)
    for beams in (1, 3):
        expected = gqa_model.generate(
            **inputs,
            max_new_tokens=tokens,
            num_beams=beams,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
        )
        with reducing(gqa_model.get_decoder()):
            start = run_prefill(gqa_model, batch, kept, reduction)
            caps = [tokens] * 2
            if beams == 1:
                answers = greedy(decoder, start, caps)
            else:
                answers = beam_search(decoder, start, caps, beams)
        assert [list(answer.ids) for answer in answers] == expected.sequences.tolist()
        if beams > 1:
            scores = [answer.score for answer in answers]
            assert scores == pytest.approx(expected.sequences_scores.tolist(), abs=1e-4)
        layers = start.cache.layers
        assert all(layer.keys.shape[0] == len(batch) for layer in layers)
        assert start.cache.tail == beams * (tokens - 1)
        # an answer of the full length leaves no room unused
        assert all(x.held_bytes == x.keys.nbytes + x.values.nbytes for x in layers)


@torch.no_grad()
def test_beams_with_a_size_bias_equal_the_oracle(gqa_model: Any) -> None:
    batch = prompt_batch(gqa_model, [23, 9], [3, 5], [4, 7])
    kept = counts(batch, "constant", 0, [0.35, 0.5])
    reduction = Reduction(get_method("fastadasp"), "keep", size_bias=True)
    with reducing(gqa_model.get_decoder()):
        start = run_prefill(gqa_model, batch, kept, reduction)
        answers = beam_search(decoder_of(gqa_model), start, [6] * 2, 3)
    for index, answer in enumerate(answers):
        embeddings, span = batch.row(index)
        expected, score = reference.beam_search(
            gqa_model,
            embeddings,
            span,
            list(kept[index]),
            "keep",
            size_bias=True,
            num_beams=3,
            max_new_tokens=6,
        )
        assert list(answer.ids) == list(expected)
        assert answer.score == pytest.approx(score, abs=1e-4)


@torch.no_grad()
def test_layers_that_see_the_same_batch_share_a_mask(
    gqa_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = prompt_batch(gqa_model, [23, 9], [3, 5], [4, 7])
    built, plain = [], masks.causal_mask

    def counted(state: Any, *args: Any) -> Any:
        built.append(state.width)
        return plain(state, *args)

    monkeypatch.setattr(masks, "causal_mask", counted)
    kept = counts(batch, "once", 1, [0.35, 0.5])
    with reducing(gqa_model.get_decoder()):
        start = run_prefill(gqa_model, batch, kept, Reduction(get_method("fastadasp")))
        assert built == [30, max(row[-1] + text for row, text in zip(kept, [7, 12], strict=True))]
        assert start.cache.masks._prefill is not None
        greedy(decoder_of(gqa_model), start, [2, 2])
    assert start.cache.masks._prefill is None
