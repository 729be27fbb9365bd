"""Decode steps over memory that stays where it is, launched and played back, against those that
move it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from core.engine import recorder, steps
from core.engine.beams import beam_search
from core.engine.greedy import Pool, greedy
from core.methods import get_method
from core.reduction import Reduction, fixed, reducing, split
from core.reduction.fixed import Behind, FixedLayer, FixedTails
from core.reduction.growing import SPARE, GrowingLayer
from core.reduction.masks import Tails
from tests.tape import captured
from tests.test_eviction import AFTER, AUDIO, BEFORE, eviction, held_by
from tests.test_reduction import counts, decoder_of, run_prefill
from tests.tiny import prompt_batch

CPU = torch.device("cpu")
ROWS, BEAMS, KV_HEADS, WIDTH, PROMPT = 2, 3, 2, 8, 11
REDUCTION = Reduction(get_method("fastadasp"), "keep", size_bias=True)
RATIOS = [0.35, 0.5]

Kernel = Callable[..., Tensor]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("beams", [1, BEAMS])
def test_a_fixed_layer_holds_what_a_growing_one_holds(beams: int) -> None:
    prompt = drawn(ROWS, KV_HEADS, PROMPT, WIDTH, seed=0)
    growing, given = GrowingLayer(), GrowingLayer()
    for layer in (growing, given):
        layer.update(prompt, 2 * prompt)
        layer.share(beams, 2 * SPARE)
    tails, fixed_tails = Tails(ROWS, beams, CPU), FixedTails(ROWS, beams, CPU)
    still = FixedLayer(given, fixed_tails)
    moved = []
    for number in range(SPARE + 3):
        parents = torch.randint(beams, (ROWS, beams), generator=torch.manual_seed(number))
        fresh = drawn(ROWS * beams, KV_HEADS, 1, WIDTH, seed=number)
        tails.advance(parents)
        if fixed_tails.advance():
            moved.append(number)
            still.make_room()
        fixed_tails.follow(parents)
        held, _ = growing.update(fresh, 2 * fresh)
        keys, values = still.update(fresh, 2 * fresh)
        assert torch.equal(keys, prompt) and torch.equal(values, 2 * prompt)
    assert moved == [SPARE]
    assert still.length == growing.length and still.tail == growing.tail
    if beams > 1:
        assert torch.equal(fixed_tails.seen[..., : still.tail], tails.seen)
    assert fixed_tails.seen.sum() == ROWS * beams * (SPARE + 3)
    assert torch.equal(still.give(), held)
    assert torch.equal(still.give(), 2 * held)


def answers(model: Any, kind: str, beams: int, tokens: int) -> list[Any]:
    batch = prompt_batch(model, [23, 9], [3, 5], [4, 7])
    decoder = decoder_of(model)
    with reducing(model.get_decoder()), torch.inference_mode():
        start = run_prefill(model, batch, counts(batch, kind, 1, RATIOS), REDUCTION)
        if beams == 1:
            return greedy(decoder, start, [tokens] * 2)
        return beam_search(decoder, start, [tokens] * 2, beams)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", ["constant", "once"])
def test_played_back_or_not_the_answers_are_the_same(
    tiny_model: Any,
    kind: str,
    beams: int,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fixed, "SPARE", 8)
    tokens = 2 * 8 + 9
    expected = answers(tiny_model, kind, beams, tokens)
    plays = request.getfixturevalue("played")
    found = answers(tiny_model, kind, beams, tokens)
    assert [one.ids for one in found] == [one.ids for one in expected]
    if beams > 1:
        scores = [one.score for one in expected]
        assert [one.score for one in found] == pytest.approx(scores, abs=1e-4)
    # one recording for each size of the room, each tried twice before it counts
    assert len(set(map(id, plays))) == 3
    assert len(plays) == tokens - 1 - 3 * (steps.PLAIN_STEPS - 2)


def test_rows_join_and_leave(gqa_model: Any, request: pytest.FixtureRequest) -> None:
    def pooled() -> list[list[int]]:
        decoder = decoder_of(gqa_model)
        batches = [prompt_batch(gqa_model, [n, 9], [3, 5], [4, 7], seed=n) for n in (23, 12)]
        pool, rows = Pool(decoder), []
        with reducing(gqa_model.get_decoder()), torch.inference_mode():
            for batch, caps in zip(batches, ([40, 11], [9, 30]), strict=True):
                kept = counts(batch, "constant", 1, RATIOS)
                rows += pool.join([run_prefill(gqa_model, batch, kept, REDUCTION)], caps)
                for _ in range(8):
                    pool.step()
            while pool.open:
                pool.step()
        return [row.ids for row in rows]

    expected = pooled()
    plays = request.getfixturevalue("played")
    assert pooled() == expected
    assert len(set(map(id, plays))) > 2


@pytest.mark.parametrize("beams", [1, 3])
def test_what_cannot_be_recorded_is_launched(
    gqa_model: Any,
    beams: int,
    played: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = answers(gqa_model, "constant", beams, 20)
    assert played and not caplog.messages

    def refuse(work: recorder.Work) -> recorder.Work:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(recorder, "_captured", refuse)
    assert answers(gqa_model, "constant", beams, 20) == expected
    (said,) = caplog.messages
    assert said.endswith("operation not permitted when stream is capturing")

    def misplay(work: recorder.Work) -> recorder.Work:
        play = captured(work)
        return lambda: 1.1 * play()

    caplog.clear()
    monkeypatch.setattr(recorder, "_captured", misplay)
    assert answers(gqa_model, "constant", beams, 20) == expected
    (said,) = caplog.messages
    assert "other logits" in said


def test_no_memory_for_a_recording_is_no_reason_to_give_up_recording(
    gqa_model: Any, played: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust(work: recorder.Work) -> recorder.Work:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(recorder, "_captured", exhaust)
    with pytest.raises(torch.OutOfMemoryError):
        answers(gqa_model, "constant", 1, 20)


def test_a_batch_that_gains_nobody_goes_on(gqa_model: Any, request: pytest.FixtureRequest) -> None:
    batch = prompt_batch(gqa_model, [23, 9], [3, 5], [4, 7])
    kept = counts(batch, "constant", 1, RATIOS)

    def pooled() -> list[int]:
        pool = Pool(decoder_of(gqa_model))
        with reducing(gqa_model.get_decoder()), torch.inference_mode():
            row, _ = pool.join([run_prefill(gqa_model, batch, kept, REDUCTION)], [9, 9])
            pool.join([run_prefill(gqa_model, batch, kept, REDUCTION)], [1, 1])
            while pool.open:
                pool.step()
        return row.ids

    expected = pooled()
    request.getfixturevalue("played")
    assert pooled() == expected


def test_a_cut_cache_is_played_back_too(gqa_model: Any, request: pytest.FixtureRequest) -> None:
    batch = prompt_batch(gqa_model, AUDIO, BEFORE, AFTER)

    def found() -> list[Any]:
        with reducing(gqa_model.get_decoder()), torch.inference_mode():
            start = run_prefill(gqa_model, batch, held_by(batch), eviction("h2o"))
            return greedy(decoder_of(gqa_model), start, [12] * 3)

    expected = found()
    plays = request.getfixturevalue("played")
    assert found() == expected
    assert plays


def wrong(*seen: Any) -> Tensor:
    """Leaves the last generated token out."""
    behind: Behind = seen[4]
    hidden = behind.tails.saved()
    behind.tails.seen[..., -1 + behind.tails.length] = False
    try:
        return split.attend_split(*seen)
    finally:
        behind.tails.restore(hidden)


def test_a_kernel_that_is_wrong_is_not_used(
    gqa_model: Any, split_by: Callable[[Kernel], None], caplog: pytest.LogCaptureFixture
) -> None:
    expected = answers(gqa_model, "constant", 3, 20)
    split_by(wrong)
    assert answers(gqa_model, "constant", 3, 20) == expected
    (said,) = caplog.messages
    assert "no Triton kernel on cpu in float32" in said and "wrong" in said


def test_layers_on_two_devices_are_not_split(split_by: Callable[[Kernel], None]) -> None:
    split_by(lambda *seen: split.attend_split(*seen))
    layers = [GrowingLayer(), GrowingLayer()]
    for layer in layers:
        layer.update(*[torch.zeros(1, 2, 3, 8)] * 2)
    assert split.splits(layers)
    layers[1].device = torch.device("meta")
    assert not split.splits(layers)
