"""Reduced prefill and decode against the slow oracle, and the promise that nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from core.engine.beams import beam_search
from core.engine.generate import Decoder, Prefilled, prefill
from core.engine.greedy import greedy
from core.flops import PromptLengths
from core.methods import METHODS, get_method
from core.reduction import ReducedCache, Reduction, reducing
from core.scheduler import Schedule
from tests import reference
from tests.reference_methods import AT_INPUT, RULES, Rule
from tests.tiny import PromptBatch, prompt_batch

SCHEDULES = ("once", "constant", "decay")
POSITIONS = ("reindex", "keep")
LAYERS = 6


def decoder_of(model: Any, ends: tuple[int, ...] = ()) -> Decoder:
    return Decoder(model.get_decoder(), model.lm_head, model.get_input_embeddings(), ends)


def lengths_of(batch: PromptBatch) -> list[PromptLengths]:
    found = []
    for index in range(len(batch)):
        embeddings, (first, last) = batch.row(index)
        found.append(PromptLengths(first, last - first, len(embeddings) - last))
    return found


def counts(
    batch: PromptBatch, kind: str, start: int, ratios: list[float], most: float = 1.0
) -> list[tuple[int, ...]]:
    schedule = Schedule(kind, start, LAYERS, most)
    return [
        schedule.kept(row.audio, ratio)
        for row, ratio in zip(lengths_of(batch), ratios, strict=True)
    ]


def run_prefill(
    model: Any, batch: PromptBatch, kept: list[tuple[int, ...]], reduction: Reduction
) -> Prefilled:
    rows = [batch.row(index)[0] for index in range(len(batch))]
    return prefill(decoder_of(model), rows, lengths_of(batch), kept, reduction)


@pytest.fixture(scope="module")
def ragged(gqa_model: Any) -> PromptBatch:
    return prompt_batch(gqa_model, [23, 9, 41], [3, 5, 2], [4, 7, 4])


RATIOS = [0.35, 0.5, 0.2]


@pytest.mark.parametrize("size_bias", [False, True])
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", SCHEDULES)
@torch.no_grad()
def test_prefill_equals_the_oracle(
    tiny_model: Any, kind: str, positions: str, size_bias: bool
) -> None:
    batch = prompt_batch(tiny_model, [23, 9, 41], [3, 5, 2], [4, 7, 4])
    kept = counts(batch, kind, 1, RATIOS)
    reduction = Reduction(get_method("fastadasp"), positions, size_bias)
    with reducing(tiny_model.get_decoder()):
        together = run_prefill(tiny_model, batch, kept, reduction).logits
        alone = [
            run_prefill(tiny_model, batch.single(index), [kept[index]], reduction).logits[0]
            for index in range(len(batch))
        ]
    for index in range(len(batch)):
        embeddings, span = batch.row(index)
        expected, _ = reference.prefill_logits(
            tiny_model, embeddings, span, list(kept[index]), positions, size_bias=size_bias
        )
        torch.testing.assert_close(alone[index], expected.float(), atol=1e-4, rtol=0)
        torch.testing.assert_close(together[index], expected.float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size_bias", [False, True])
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", SCHEDULES)
@torch.no_grad()
def test_greedy_equals_the_oracle(
    gqa_model: Any, ragged: PromptBatch, kind: str, positions: str, size_bias: bool
) -> None:
    kept = counts(ragged, kind, 0, RATIOS)
    reduction = Reduction(get_method("fastadasp"), positions, size_bias)
    with reducing(gqa_model.get_decoder()):
        start = run_prefill(gqa_model, ragged, kept, reduction)
        answers = greedy(decoder_of(gqa_model), start, [12, 12, 7])
        single = run_prefill(gqa_model, ragged.single(0), kept[:1], reduction)
        assert greedy(decoder_of(gqa_model), single, [12]) == answers[:1]
    for index, cap in enumerate([12, 12, 7]):
        embeddings, span = ragged.row(index)
        expected = reference.greedy(
            gqa_model,
            embeddings,
            span,
            list(kept[index]),
            positions,
            size_bias=size_bias,
            max_new_tokens=cap,
        )
        assert list(answers[index].ids) == expected
        assert not answers[index].ended


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", SCHEDULES)
@torch.no_grad()
def test_four_beams_equal_the_oracle(
    gqa_model: Any, ragged: PromptBatch, kind: str, positions: str
) -> None:
    kept = counts(ragged, kind, 0, RATIOS)
    reduction = Reduction(get_method("fastadasp"), positions)
    # an end token that greedy decoding meets, so that hypotheses of several lengths compete
    with reducing(gqa_model.get_decoder()):
        free = greedy(
            decoder_of(gqa_model), run_prefill(gqa_model, ragged, kept, reduction), [4] * 3
        )
        end = free[0].ids[3]
        start = run_prefill(gqa_model, ragged, kept, reduction)
        answers = beam_search(decoder_of(gqa_model, (end,)), start, [8] * 3, 4)
        single = run_prefill(gqa_model, ragged.single(0), kept[:1], reduction)
        alone = beam_search(decoder_of(gqa_model, (end,)), single, [8], 4)[0]
    assert alone.ids == answers[0].ids
    assert alone.score == pytest.approx(answers[0].score, abs=1e-4)
    for index, answer in enumerate(answers):
        embeddings, span = ragged.row(index)
        expected, score = reference.beam_search(
            gqa_model,
            embeddings,
            span,
            list(kept[index]),
            positions,
            num_beams=4,
            max_new_tokens=8,
            eos=end,
        )
        assert list(answer.ids) + [end] * answer.ended == list(expected)
        assert answer.score == pytest.approx(score, abs=1e-4)


@torch.no_grad()
def test_without_reduction_logits_are_bit_equal(tiny_model: Any) -> None:
    batch = prompt_batch(tiny_model, [23, 9, 41])
    inputs = {"inputs_embeds": batch.inputs_embeds, "attention_mask": batch.attention_mask}
    plain = tiny_model(**inputs).logits
    rows = lengths_of(batch)
    kept = [(row.audio,) * (LAYERS + 1) for row in rows]
    with reducing(tiny_model.get_decoder()):
        cache = ReducedCache(rows, kept, Reduction(get_method("fastadasp")))
        inside = tiny_model(**inputs, past_key_values=cache, use_cache=True).logits
        without_cache = tiny_model(**inputs).logits
    real = batch.attention_mask.bool()
    assert torch.equal(inside[real], plain[real])
    assert torch.equal(without_cache[real], plain[real])


@torch.no_grad()
def test_without_reduction_output_equals_generate(gqa_model: Any, ragged: PromptBatch) -> None:
    rows = lengths_of(ragged)
    kept = [(row.audio,) * (LAYERS + 1) for row in rows]
    reduction = Reduction(get_method("fastadasp"))
    inputs = {"inputs_embeds": ragged.inputs_embeds, "attention_mask": ragged.attention_mask}
    for beams in (1, 4):
        expected = gqa_model.generate(
            **inputs, max_new_tokens=9, num_beams=beams, do_sample=False
        ).tolist()
        with reducing(gqa_model.get_decoder()):
            start = run_prefill(gqa_model, ragged, kept, reduction)
            decoder = decoder_of(gqa_model)
            if beams == 1:
                answers = greedy(decoder, start, [9] * 3)
            else:
                answers = beam_search(decoder, start, [9] * 3, beams)
        assert [list(answer.ids) for answer in answers] == expected


def test_the_model_is_left_as_it_was(gqa_model: Any, ragged: PromptBatch) -> None:
    stack = gqa_model.get_decoder()
    before = [(dict(layer.__dict__), layer.self_attn.config) for layer in stack.layers]
    kept = counts(ragged, "constant", 0, RATIOS)
    broken = Reduction(BrokenMethod())  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError), reducing(stack), torch.no_grad():
        run_prefill(gqa_model, ragged, kept, broken)
    with reducing(stack), torch.no_grad():
        run_prefill(gqa_model, ragged, kept, Reduction(get_method("fastadasp")))
    after = [(dict(layer.__dict__), layer.self_attn.config) for layer in stack.layers]
    for (was, config), (now, same) in zip(before, after, strict=True):
        assert was.keys() == now.keys()
        assert config is same
    assert all("forward" not in layer.__dict__ for layer in stack.layers)


class BrokenMethod:
    needs = frozenset[str]()

    def plan(self, view: object, kept: object) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize("kind", ["once", "constant"])
@pytest.mark.parametrize("name", RULES)
@torch.no_grad()
def test_every_method_equals_its_oracle(
    gqa_model: Any, ragged: PromptBatch, name: str, kind: str
) -> None:
    method = get_method(name)
    kept = counts(ragged, kind, 1, RATIOS, method.most)
    equals_the_oracle(gqa_model, ragged, kept, Reduction(method, "keep", True), RULES[name])


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("name", [name for name in RULES if METHODS[name].at_input])
@torch.no_grad()
def test_every_method_at_the_input_equals_its_oracle(
    gqa_model: Any, ragged: PromptBatch, name: str, positions: str
) -> None:
    method = get_method(name)
    kept = counts(ragged, "input", 0, RATIOS, method.most)
    assert kept[0][0] < lengths_of(ragged)[0].audio
    reduction = Reduction(method, positions, positions == "keep")
    rule = AT_INPUT.get(name, RULES[name])
    equals_the_oracle(gqa_model, ragged, kept, reduction, rule)
    # and once more inside, on top of what went at the input
    deeper = [(*row[:3], *[max(1, row[3] - 2)] * (LAYERS - 2)) for row in kept]
    if name not in AT_INPUT:
        equals_the_oracle(gqa_model, ragged, deeper, reduction, rule)


@torch.no_grad()
def test_decoding_after_a_cut_at_the_input(gqa_model: Any, ragged: PromptBatch) -> None:
    kept = counts(ragged, "input", 0, RATIOS)
    for positions, size_bias in (("reindex", False), ("keep", True)):
        reduction = Reduction(get_method("uniform"), positions, size_bias)
        with reducing(gqa_model.get_decoder()):
            start = run_prefill(gqa_model, ragged, kept, reduction)
            answers = greedy(decoder_of(gqa_model), start, [9] * 3)
            start = run_prefill(gqa_model, ragged, kept, reduction)
            beams = beam_search(decoder_of(gqa_model), start, [5] * 3, 3)
        for index in range(3):
            embeddings, span = ragged.row(index)
            rules: dict[str, Any] = {"size_bias": size_bias, "rule": RULES["uniform"]}
            asked = (gqa_model, embeddings, span, list(kept[index]), positions)
            expected = reference.greedy(*asked, max_new_tokens=9, **rules)
            assert list(answers[index].ids) == expected
            best, _ = reference.beam_search(*asked, num_beams=3, max_new_tokens=5, **rules)
            assert list(beams[index].ids) == list(best)


def equals_the_oracle(
    model: Any,
    batch: PromptBatch,
    kept: list[tuple[int, ...]],
    reduction: Reduction,
    rule: Rule,
) -> None:
    with reducing(model.get_decoder()):
        logits = run_prefill(model, batch, kept, reduction).logits
    for index in range(len(batch)):
        embeddings, span = batch.row(index)
        expected, _ = reference.prefill_logits(
            model,
            embeddings,
            span,
            list(kept[index]),
            reduction.positions,  # type: ignore[arg-type]
            size_bias=reduction.size_bias,
            rule=rule,
        )
        torch.testing.assert_close(logits[index], expected.float(), atol=1e-4, rtol=0)
