"""Final states of the audio tokens: those of the plain model, and those that a reduction leaves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.config import ReductionConfig, RunConfig
from core.engine import Engine
from core.engine.features import audio_features
from core.flops import prefill_flops
from core.models import load_model
from core.models.base import SpeechLM
from core.records import Segment
from tests.folders import save_tiny

CARD = {"tasks": ["asr"], "prompts": {"asr": "transcribe the speech"}}


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> SpeechLM:
    return load_model(str(save_tiny(tmp_path_factory.mktemp("tiny"), CARD)), device="cpu")


def engine_of(lm: SpeechLM, layer: int) -> Engine:
    reduction = ReductionConfig("fastadasp", "once", 0.0, "keep", 0.0, layer)
    return Engine(lm, RunConfig("asr", reduction))


def segments() -> list[Segment]:
    draw = np.random.default_rng(3)
    waves = (draw.normal(0, 0.1, round(16_000 * s)).astype(np.float32) for s in (1.9, 0.6, 1.2))
    return [Segment("a", index, 0.0, wave) for index, wave in enumerate(waves)]


@torch.inference_mode()
def test_nothing_reduced_gives_the_plain_models_audio_states(lm: SpeechLM) -> None:
    engine = engine_of(lm, 1)
    ready = engine.runner.prepare(segments())
    with engine:
        found = audio_features(engine, ready, 0.0)
    expected = [
        lm.decoder(inputs_embeds=prompt[None]).last_hidden_state[0, row.before : -row.after]
        for prompt, row in zip(ready.embedded, ready.lengths, strict=True)
    ]
    torch.testing.assert_close(found.states, torch.cat(expected), atol=1e-4, rtol=1e-4)
    assert len(found.states) == sum(row.audio for row in ready.lengths)
    assert found.flops == found.full_flops > 0


@pytest.mark.parametrize("layer", [0, 2, 5])
@torch.inference_mode()
def test_a_batch_gives_what_single_segments_give(lm: SpeechLM, layer: int) -> None:
    engine = engine_of(lm, layer)
    target = engine.reach * 0.5
    ready = engine.runner.prepare(segments())
    with engine:
        together = audio_features(engine, ready, target)
        alone = [audio_features(engine, engine.runner.prepare([one]), target) for one in segments()]
    states = torch.cat([one.states for one in alone])
    budgets = engine.reducer.budgets(ready.lengths, target)
    torch.testing.assert_close(together.states, states, atol=1e-4, rtol=1e-4)
    assert together.flops == sum(one.flops for one in alone)
    cut = 1 - together.flops / together.full_flops
    assert cut == pytest.approx(sum(budget.reduction for budget in budgets) / 3, abs=0.02)
    assert len(together.states) == sum(budget.kept[-1] for budget in budgets)
    assert len(together.states) < sum(row.audio for row in ready.lengths)
    assert together.full_flops == sum(
        prefill_flops(engine.lm.decoder_shape, row) for row in ready.lengths
    )


@torch.inference_mode()
def test_all_engines_of_a_model_work_inside_one(lm: SpeechLM) -> None:
    first, other = engine_of(lm, 0), engine_of(lm, 3)
    ready = first.runner.prepare(segments())
    with other:
        expected = audio_features(other, ready, 0.2).states
    with first:
        assert torch.equal(audio_features(other, ready, 0.2).states, expected)
        assert not torch.equal(audio_features(first, ready, 0.2).states, expected)
