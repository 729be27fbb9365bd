"""The cost model against FLOPs counted while the code runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from core.engine.generate import Decoder, Prefilled, prefill
from core.engine.greedy import greedy
from core.flops import (
    DecoderShape,
    EncoderShape,
    PromptLengths,
    Scoring,
    decode_flops,
    kv_bytes,
    last_layer_saving,
    prefill_flops,
    scored_pairs,
)
from core.methods import CACHE_METHODS, METHODS, get_cache_method, get_method
from core.reduction import Eviction, Reduction, reducing
from core.scheduler import Schedule, solve
from tests.counted import counted_prefill_flops
from tests.tiny import prompt_batch

LAYERS = 6
# some versions of transformers make rotary angles by a matrix product, which is counted
ROTARY = 1e-4
# the cost model counts weights as if chance chose the joins
BY_CHANCE = 2e-3


def shape_of(model: Any) -> DecoderShape:
    config = model.config.get_text_config()
    return DecoderShape(64, LAYERS, 4, config.num_key_value_heads, 16, 96, config.vocab_size)


def run(
    model: Any, prompt: PromptLengths, kept: tuple[int, ...], name: str = "fastadasp"
) -> Prefilled:
    batch = prompt_batch(model, [prompt.audio], prompt.before, prompt.after)
    decoder = Decoder(model.get_decoder(), model.lm_head, model.get_input_embeddings(), ())
    reduction = Reduction(get_method(name))
    with reducing(decoder.stack), torch.no_grad():
        return prefill(decoder, [batch.row(0)[0]], [prompt], [kept], reduction)


@pytest.mark.parametrize("kind", ["once", "constant", "decay"])
def test_asked_analytic_and_counted_agree(tiny_model: Any, kind: str) -> None:
    shape, schedule = shape_of(tiny_model), Schedule(kind, 0, LAYERS)
    for audio in (50, 173, 400):
        prompt = PromptLengths(17, audio, 14)
        counted_full = counted_prefill_flops(lambda p=prompt: run(tiny_model, p, full_counts(p)))
        assert counted_full == pytest.approx(prefill_flops(shape, prompt), rel=ROTARY)
        for target in (0.1, 0.2, 0.3, 0.4, 0.5):
            found = solve(shape, schedule, prompt, target)
            counted = counted_prefill_flops(lambda p=prompt, k=found.kept: run(tiny_model, p, k))
            assert counted == pytest.approx(
                prefill_flops(shape, prompt, found.kept)
                - last_layer_saving(shape, prompt, found.kept),
                abs=BY_CHANCE * counted_full,
            )
            # counted whole on both sides: the untouched model has no such shortcut
            counted += last_layer_saving(shape, prompt, found.kept)
            assert 1 - counted / counted_full == pytest.approx(found.reduction, abs=0.002)
            assert 1 - counted / counted_full == pytest.approx(target, abs=0.01)


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].in_layer])
def test_what_a_method_spends_is_counted(tiny_model: Any, name: str) -> None:
    shape, prompt = shape_of(tiny_model), PromptLengths(17, 173, 14)
    kept = (173, 100, 100, 70, 70, 70, 60)
    if METHODS[name].at_input:
        kept = (150, *kept[1:])
    # what is no matrix product (neighbours' dot products) the counter does not see
    scoring = replace(METHODS[name].scoring, dots=0)
    counted = counted_prefill_flops(lambda: run(tiny_model, prompt, kept, name))
    expected = prefill_flops(shape, prompt, kept, scoring)
    expected -= last_layer_saving(shape, prompt, kept, scoring)
    # how many tokens are in a merge, and where, is up to the audio
    free = replace(scoring, received=False)
    passes = expected - prefill_flops(shape, prompt, kept, free)
    passes += last_layer_saving(shape, prompt, kept, free)
    allowed = 0.1 * passes if scoring.members else 0
    assert counted == pytest.approx(expected, rel=ROTARY, abs=allowed)


@pytest.mark.parametrize("name", CACHE_METHODS)
def test_choosing_what_a_cache_keeps_is_counted(tiny_model: Any, name: str) -> None:
    shape, prompt = shape_of(tiny_model), PromptLengths(17, 173, 14)
    held = (173, 100, 100, 99, 99, 99)
    batch, method = prompt_batch(tiny_model, [173], 17, 14), get_cache_method(name)
    decoder = Decoder(
        tiny_model.get_decoder(), tiny_model.lm_head, tiny_model.get_input_embeddings(), ()
    )

    def read() -> Prefilled:
        with reducing(decoder.stack), torch.no_grad():
            return prefill(decoder, [batch.row(0)[0]], [prompt], [held], Eviction(method))

    def decode() -> None:
        with reducing(decoder.stack), torch.no_grad():
            greedy(decoder, start, [8])

    full = prefill_flops(shape, prompt)
    expected = prefill_flops(shape, prompt, None, method.scoring, held)
    assert counted_prefill_flops(read) == pytest.approx(expected, rel=ROTARY)
    # five of six layers are scored, or none
    scoring = 5 * scored_pairs(173, 14) * shape.pair // 2
    assert expected - full == {"h2o": scoring, "streaming-llm": 0}[name]
    start = read()
    expected = decode_flops(shape, prompt, 7, held)
    assert counted_prefill_flops(decode) == pytest.approx(expected, rel=ROTARY)


def test_scoring_by_hand() -> None:
    shape = DecoderShape(10, 2, 3, 1, 4, 20, 50)
    prompt = PromptLengths(2, 7, 1)
    assert Scoring(dots=2).flops(shape, 7, 5, 1) == 2 * 7 * 2 * 10
    assert Scoring(gram=2).flops(shape, 7, 5, None) == 2 * 2 * 7 * 7 * 10
    assert Scoring(last_query=True).flops(shape, 7, 5, 1) == 7 * 2 * 3 * 4
    assert Scoring(received=True).flops(shape, 7, 5, 1) == scored_pairs(7, 1) * 2 * 3 * 4
    assert Scoring(received=True, last_query=True).flops(shape, 7, 5, None) == 0
    # of 6 tokens 3 go: one in four has neither neighbour with it
    pairs = scored_pairs(6, 1) * 3 // 4
    assert Scoring(received=True, members=True).flops(shape, 6, 3, 1) == pairs * 2 * 3 * 4
    assert Scoring(received=True, members=True).flops(shape, 6, 6, 1) == 0
    # paid at the input and in the layer that removes, not in the other
    free, dear = (prefill_flops(shape, prompt, (5, 5, 4), Scoring(dots=n)) for n in (0, 1))
    assert dear - free == 2 * 10 * (7 + 5)


def full_counts(prompt: PromptLengths) -> tuple[int, ...]:
    return (prompt.audio,) * (LAYERS + 1)


def test_decode_is_counted_with_each_layers_own_cache(tiny_model: Any) -> None:
    shape, prompt = shape_of(tiny_model), PromptLengths(17, 120, 14)
    kept = Schedule("constant", 0, LAYERS).kept(120, 0.2)
    decoder = Decoder(
        tiny_model.get_decoder(), tiny_model.lm_head, tiny_model.get_input_embeddings(), ()
    )
    start = run(tiny_model, prompt, kept)

    def decode() -> None:
        with reducing(decoder.stack), torch.no_grad():
            greedy(decoder, start, [8])

    expected = decode_flops(shape, prompt, 7, kept[:-1])
    assert counted_prefill_flops(decode) == pytest.approx(expected, rel=ROTARY)


def test_kv_bytes_are_those_of_the_cache(tiny_model: Any) -> None:
    shape, prompt = shape_of(tiny_model), PromptLengths(17, 120, 14)
    for kept in (full_counts(prompt), Schedule("decay", 1, LAYERS).kept(120, 0.4)):
        cache = run(tiny_model, prompt, kept).cache
        held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
        assert held == kv_bytes(shape, prompt, 4, kept[:-1])


def test_encoder_flops_are_those_counted(tiny_model: Any) -> None:
    audio = tiny_model.config.audio_config
    window = audio.max_source_positions
    shape = EncoderShape(audio.num_mel_bins, audio.d_model, audio.encoder_layers, 64, 64)

    def encode() -> None:
        with torch.no_grad():
            out = tiny_model.model.audio_tower(torch.randn(1, audio.num_mel_bins, 2 * window))
            tiny_model.model.multi_modal_projector(out.last_hidden_state)

    assert counted_prefill_flops(encode) == shape.flops(window)


def test_scored_pairs_by_hand() -> None:
    # 5 audio + 2 text queries in steps of 3: rows 0-2 see 3 columns, 3-5 see 5, row 6 sees 5
    assert scored_pairs(5, 2, chunk=3) == 3 * 3 + 3 * 5 + 1 * 5
    # queries 0, 3, 6, 9 of 10 in steps of 2: rows 0 and 3 see 4 columns, 6 and 9 all 8; and 8 own
    assert scored_pairs(8, 2, every=3, chunk=2) == 2 * 4 + 2 * 8 + 8
    # queries 1, 4, 7, 10 of 11: rows 1 and 4 see 5 columns
    assert scored_pairs(8, 3, every=3, chunk=2) == 2 * 5 + 2 * 8 + 8
