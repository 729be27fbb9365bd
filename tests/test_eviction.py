"""Decoding with a part of the prompt's cache against the slow oracle, and what is really freed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from core.engine.beams import beam_search
from core.engine.generate import step
from core.engine.greedy import greedy
from core.errors import ReductionError
from core.flops import PromptLengths
from core.methods import CACHE_METHODS, get_cache_method
from core.reduction import EvictedCache, Eviction, reducing
from core.reduction.growing import SPARE
from core.scheduler import solve_cache
from tests import reference
from tests import reference_eviction as oracle
from tests.test_reduction import LAYERS, decoder_of, lengths_of, run_prefill
from tests.tiny import PromptBatch, prompt_batch

AUDIO, BEFORE, AFTER = [23, 9, 41], [3, 5, 1], [4, 7, 4]
TARGETS = [0.5, 0.2, 0.35]
each = pytest.mark.parametrize("name", CACHE_METHODS)


@pytest.fixture(scope="module")
def ragged(gqa_model: Any) -> PromptBatch:
    return prompt_batch(gqa_model, AUDIO, BEFORE, AFTER)


def held_by(batch: PromptBatch, targets: list[float] = TARGETS) -> list[tuple[int, ...]]:
    rows = zip(lengths_of(batch), targets, strict=False)
    return [solve_cache(LAYERS, row, target).held for row, target in rows]


def eviction(name: str) -> Eviction:
    return Eviction(get_cache_method(name))


def chosen(
    model: Any, batch: PromptBatch, index: int, held: tuple[int, ...], name: str
) -> tuple[oracle.Read, oracle.Visible]:
    embeddings, span = batch.row(index)
    prompt = oracle.read(model, embeddings)
    return prompt, oracle.visible(prompt, span, held, oracle.CHOICES[name])


@each
@torch.no_grad()
def test_every_step_equals_a_full_cache_with_keys_passed_over(tiny_model: Any, name: str) -> None:
    batch = prompt_batch(tiny_model, AUDIO, BEFORE, AFTER)
    held = held_by(batch)
    assert len({row[0] for row in held}) == 3
    with reducing(tiny_model.get_decoder()):
        start = run_prefill(tiny_model, batch, held, eviction(name))
        answers = greedy(
            decoder_of(tiny_model), run_prefill(tiny_model, batch, held, eviction(name)), [6] * 3
        )
        start.cache.begin(1, 5, torch.device("cpu"))
        logits, decoder = [start.logits], decoder_of(tiny_model)
        for number in range(5):
            tokens = torch.tensor([answer.ids[number] for answer in answers])
            position = torch.tensor(start.lengths) + number
            logits.append(step(decoder, start.cache, tokens, position))
    for index, answer in enumerate(answers):
        prompt, seen = chosen(tiny_model, batch, index, held[index], name)
        for number in range(6):
            expected = oracle.logits_after(tiny_model, prompt, seen, answer.ids[:number])
            torch.testing.assert_close(logits[number][index], expected.float(), atol=1e-4, rtol=0)
            assert answer.ids[number] == int(expected.argmax())


@each
@torch.no_grad()
def test_a_row_of_a_batch_decodes_as_it_does_alone(
    gqa_model: Any, ragged: PromptBatch, name: str
) -> None:
    held, decoder = held_by(ragged), decoder_of(gqa_model)
    with reducing(gqa_model.get_decoder()):
        start = run_prefill(gqa_model, ragged, held, eviction(name))
        together = greedy(decoder, start, [12, 12, 7])
        for index, cap in enumerate([12, 12, 7]):
            start = run_prefill(
                gqa_model, ragged.single(index), held[index : index + 1], eviction(name)
            )
            assert greedy(decoder, start, [cap]) == together[index : index + 1]


@each
@torch.no_grad()
def test_beams_equal_the_oracle(gqa_model: Any, ragged: PromptBatch, name: str) -> None:
    held = held_by(ragged)
    with reducing(gqa_model.get_decoder()):
        start = run_prefill(gqa_model, ragged, held, eviction(name))
        end = greedy(
            decoder_of(gqa_model), run_prefill(gqa_model, ragged, held, eviction(name)), [3] * 3
        )[0].ids[2]
        answers = beam_search(decoder_of(gqa_model, (end,)), start, [5] * 3, 3)
    for index, answer in enumerate(answers):
        prompt, seen = chosen(gqa_model, ragged, index, held[index], name)
        ids, score = reference.search(
            lambda ids, p=prompt, s=seen: oracle.logits_after(gqa_model, p, s, ids),
            num_beams=3,
            max_new_tokens=5,
            eos=end,
        )
        assert list(answer.ids) + [end] * answer.ended == ids
        assert answer.score == pytest.approx(score, abs=1e-4)


@each
@torch.no_grad()
def test_at_ratio_0_nothing_differs_from_the_full_model(tiny_model: Any, name: str) -> None:
    batch = prompt_batch(tiny_model, AUDIO)
    inputs = {"inputs_embeds": batch.inputs_embeds, "attention_mask": batch.attention_mask}
    plain = tiny_model(**inputs).logits
    held = held_by(batch, [0.0] * 3)
    with reducing(tiny_model.get_decoder()):
        cache = EvictedCache(lengths_of(batch), held, eviction(name))
        inside = tiny_model(**inputs, past_key_values=cache, use_cache=True).logits
        answers = greedy(
            decoder_of(tiny_model), run_prefill(tiny_model, batch, held, eviction(name)), [9] * 3
        )
    real = batch.attention_mask.bool()
    assert torch.equal(inside[real], plain[real])
    expected = tiny_model.generate(**inputs, max_new_tokens=9, do_sample=False).tolist()
    assert [list(answer.ids) for answer in answers] == expected


@each
@torch.no_grad()
def test_buffers_are_as_small_as_was_asked(tiny_model: Any, name: str) -> None:
    batch = prompt_batch(tiny_model, [230], 6, 4)
    slot = 2 * tiny_model.config.get_text_config().num_key_value_heads * 16 * 4
    decoder = decoder_of(tiny_model)
    for target in (0.3, 0.7):
        held = held_by(batch, [target])
        with reducing(tiny_model.get_decoder()):
            start = run_prefill(tiny_model, batch, held, eviction(name))
            layers = start.cache.layers
            stored = [_storage(layer) for layer in layers]
            assert stored == [(10 + kept + SPARE) * slot for kept in held[0]]
            assert [layer.length for layer in layers] == [10 + kept for kept in held[0]]
            cut = 1 - sum(stored) / (LAYERS * (240 + SPARE) * slot)
            assert cut == pytest.approx(target * 240 / (240 + SPARE), abs=0.01)
            greedy(decoder, start, [SPARE + 9])
        # what is generated comes on top, and nothing else
        assert [layer.length for layer in layers] == [10 + k + SPARE + 8 for k in held[0]]
        assert [_storage(x) for x in layers] == [(10 + k + SPARE + 8) * slot for k in held[0]]


def _storage(layer: Any) -> int:
    buffers = {x.untyped_storage().data_ptr(): x for x in (layer.keys, layer.values)}
    assert len(buffers) == 2
    return sum(x.untyped_storage().nbytes() for x in buffers.values())


@torch.no_grad()
def test_heads_choose_for_themselves_and_keys_keep_their_positions(gqa_model: Any) -> None:
    batch = prompt_batch(gqa_model, [40], 3, 4)
    row = lengths_of(batch)[0]
    with reducing(gqa_model.get_decoder()):
        full = run_prefill(gqa_model, batch, held_by(batch, [0.0]), eviction("h2o")).cache
        cut = run_prefill(gqa_model, batch, held_by(batch, [0.6]), eviction("h2o")).cache
    different = 0
    for whole, part in zip(full.layers, cut.layers, strict=True):
        found = []
        for head in range(2):
            apart = part.keys[0, head].unsqueeze(1) - whole.keys[0, head]
            near = apart.abs().amax(-1)
            assert near.amin(1).max() < 1e-4
            found.append(near.argmin(1).tolist())
            assert found[-1] == sorted(set(found[-1]))
            assert found[-1][:3] == [0, 1, 2]
            assert found[-1][-4:] == list(range(row.total - 4, row.total))
        different += found[0] != found[1]
    assert different > LAYERS // 2


@torch.no_grad()
def test_layers_that_hold_equally_many_share_a_mask(gqa_model: Any, ragged: PromptBatch) -> None:
    held = [(10, 10, 12, 12, 12, 23), (5, 5, 6, 6, 6, 9), (20, 20, 21, 21, 21, 41)]
    with reducing(gqa_model.get_decoder()):
        start = run_prefill(gqa_model, ragged, held, eviction("streaming-llm"))
    states = start.cache.prompts
    assert len({id(state) for state in states}) == 3
    assert states[5] is start.cache.state
    assert states[2].rows[1] == PromptLengths(5, 6, 7)


@torch.no_grad()
def test_a_method_that_keeps_another_number_is_found_out(
    gqa_model: Any, ragged: PromptBatch
) -> None:
    class Greedy(type(get_cache_method("h2o"))):  # type: ignore[misc]
        def plan(self, view: Any, kept: Any) -> Any:
            return super().plan(view, [count + 1 for count in kept])

    too_many = Eviction(Greedy())
    with reducing(gqa_model.get_decoder()), pytest.raises(ReductionError, match="the method kept"):
        run_prefill(gqa_model, ragged, held_by(ragged), too_many)
