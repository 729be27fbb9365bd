"""Methods that cut the KV cache, from the settings of a run to the numbers of its record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.config import ReductionConfig, RunConfig
from core.engine import Engine
from core.engine.generate import prefill
from core.errors import UsageError
from core.flops import PromptLengths, prefill_flops
from core.methods import CACHE_METHODS, get_cache_method
from core.models import load_model
from core.models.base import SpeechLM
from core.records import Recording, Source
from core.results.assemble import Heard, assemble
from core.template import template_of
from tests.engine.made import CARD, segments
from tests.folders import save_tiny

each = pytest.mark.parametrize("name", CACHE_METHODS)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpeechLM]:
    yield load_model(str(save_tiny(tmp_path_factory.mktemp("tiny"), CARD)), device="cpu")


def config(name: str, reduce: float, **changes: Any) -> RunConfig:
    reduction = ReductionConfig(name, None, reduce, None, 0.0)
    return replace(RunConfig("asr", reduction, max_new_tokens=3), **changes)


@each
@pytest.mark.parametrize("beams", [1, 3])
def test_the_record_says_what_was_cut_and_what_was_not(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch, name: str, beams: int
) -> None:
    caches = []

    def kept(*args: Any, **kwargs: Any) -> Any:
        start = prefill(*args, **kwargs)
        caches.append(start.cache)
        return start

    monkeypatch.setattr("core.engine.runner.prefill", kept)
    run = config(name, 0.3, num_beams=beams)
    with Engine(lm, run) as engine:
        found = [engine.run([piece])[0] for piece in segments(1.9, 1.2)]
    for answer, cache in zip(found, caches, strict=True):
        cost = answer.cost
        held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
        assert cost.kv_bytes == held
        tail = cost.kv_bytes - cost.prompt_kv_bytes
        assert tail == cost.kv_bytes_full - cost.prompt_kv_bytes_full > 0
        assert 1 - cost.prompt_kv_bytes / cost.prompt_kv_bytes_full == pytest.approx(0.3, abs=0.01)
        assert cost.decode_flops < cost.decode_full_flops
        # every token runs through every layer; only the choice of what stays is paid for
        assert cost.audio_kept == cost.audio_in
        text = cost.prompt_tokens - cost.audio_in
        prompt = PromptLengths(
            len(engine.runner.prompt(None)[0]),
            cost.audio_in,
            text - len(engine.runner.prompt(None)[0]),
        )
        paid = get_cache_method(name).scoring.flops(lm.decoder_shape, prompt.audio, 0, prompt.after)
        assert cost.prefill_full_flops == prefill_flops(lm.decoder_shape, prompt)
        assert cost.prefill_flops - cost.prefill_full_flops == paid * lm.decoder_shape.layers
    heard = Heard(Recording("a", Path("a")), Source(), 3.1, 3.1)
    record = assemble(template_of(run, lm), heard, found)
    assert (record.method, record.schedule, record.positions) == (name, None, None)
    assert record.start_layer is None
    assert (record.flops.reduction_target, record.memory.reduction_target) == (0.0, 0.3)
    assert record.memory.reduction == pytest.approx(0.3, abs=0.01)
    assert record.flops.reduction is not None
    if name == "streaming-llm":
        assert record.flops.reduction == 0
    else:
        assert -0.1 < record.flops.reduction < 0
    assert record.memory.kv_bytes < record.memory.kv_bytes_full


@each
def test_a_batch_gives_what_single_segments_give(lm: SpeechLM, name: str) -> None:
    pieces = segments(1.9, 0.6, 1.2)
    for beams in (1, 3):
        with Engine(lm, config(name, 0.4, num_beams=beams)) as engine:
            together = engine.run(pieces)
            alone = [engine.run([piece])[0] for piece in pieces]
        assert [found.text for found in together] == [found.text for found in alone]
        assert all(found.text and not found.error for found in together)


@each
def test_at_level_0_the_text_and_the_cost_are_those_of_the_full_model(
    lm: SpeechLM, name: str
) -> None:
    found = []
    for method in (name, "none"):
        reduction = ReductionConfig(method, "once", 0.0, "keep", 0.0)
        with Engine(lm, config(name, 0.0, reduction=reduction)) as engine:
            found += engine.run(segments(1.9))
    cut, full = found
    assert cut.text == full.text
    for field in ("prefill_flops", "decode_flops", "kv_bytes", "audio_kept"):
        assert getattr(cut.cost, field) == getattr(full.cost, field)


@each
def test_a_short_prompt_is_cut_as_far_as_it_goes(lm: SpeechLM, name: str) -> None:
    with Engine(lm, config(name, 0.6)) as engine:
        long, short = engine.run(segments(1.9, 0.1))
    assert not any(name.startswith("reduction_capped") for name in long.warnings)
    [capped] = [name for name in short.warnings if name.startswith("reduction_capped")]
    reached = 1 - short.cost.prompt_kv_bytes / short.cost.prompt_kv_bytes_full
    assert float(capped.partition(":")[2]) == pytest.approx(reached, abs=0.001)


def test_a_cut_that_no_prompt_of_this_model_can_give_is_refused(lm: SpeechLM) -> None:
    long = replace(config("h2o", 0.9), prompt="transcribe the speech " * 20)
    with pytest.raises(UsageError, match=r"out of reach: 0\.\d\d of the KV cache .*--reduce$"):
        Engine(lm, long)
