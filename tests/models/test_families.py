"""Every family, on a tiny random checkpoint of its real classes, through the whole pipeline."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from core.config import ReductionConfig, RunConfig
from core.engine import Engine, steps
from core.engine.job import asked
from core.flops import PromptLengths, prefill_flops
from core.models import load_model
from core.models.base import Request, SpeechLM
from core.models.shape import check_weights
from core.records import Segment, Waveform
from core.template import template_of
from fastadasp_cli.main import app
from tests import reference
from tests.counted import counted_prefill_flops
from tests.models.checkpoints import Tiny, save
from tests.models.folding import folded
from tests.models.zoo import FAMILIES

SPEECH = Path(__file__).parents[2] / "examples" / "audio" / "office.wav"
NEW_TOKENS = 3  # too few to run in a loop, which would be answered twice
SECONDS = (5.7, 4.3, 7.1)
# of processors that need no telling
UNKNOWN_OPTIONS = {"granite_speech": ["sampling_rate"], "wavllm": ["return_tensors"]}


@dataclass(frozen=True)
class Loaded:
    """A tiny checkpoint on disk and in memory."""

    tiny: Tiny
    folder: Path
    lm: SpeechLM


@pytest.fixture
def ids(monkeypatch: pytest.MonkeyPatch, loaded: Loaded) -> None:
    """Texts that are the ids: what a tokenizer made here writes for random ones hides some."""
    spelt = staticmethod(lambda ids: " ".join(map(str, ids)))
    monkeypatch.setattr(type(loaded.lm), "text", spelt)


def target(lm: SpeechLM, pieces: list[Segment]) -> float:
    """Half of what the prompt with the fewest audio tokens can lose: these prompts are long."""
    with Engine(lm, config(0.0)) as engine:
        lengths = engine.runner.job(min(pieces, key=lambda piece: piece.duration)).prompt
        return round(engine.reducer.solve(lengths, 1.0).reduction / 2, 2)


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda tiny: tiny.name)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    tiny: Tiny = request.param
    if tiny.needs and importlib.util.find_spec(tiny.needs) is None:
        pytest.skip(f"{tiny.needs} is not installed")
    folder = save(tiny, tmp_path_factory.mktemp(tiny.name))
    return Loaded(tiny, folder, load_model(str(folder), device="cpu"))


def config(reduce: float, **changes: Any) -> RunConfig:
    reduction = ReductionConfig("fastadasp", "constant", reduce, "reindex", 0.0)
    return replace(RunConfig("asr", reduction, max_new_tokens=NEW_TOKENS), **changes)


def segments(lm: SpeechLM, *seconds: float) -> list[Segment]:
    """Noise whose loudness and colour change, like speech: no two stretches are alike."""
    rate = lm.facts.sample_rate
    return [
        Segment("a", index, 40.0 * index, sound(rate, length, index), rate)
        for index, length in enumerate(seconds)
    ]


def sound(rate: int, seconds: float, seed: int) -> Waveform:
    draw = np.random.default_rng(seed)
    time = np.arange(round(rate * seconds)) / rate
    pitch = 150 * 2 ** np.cumsum(draw.normal(0, 0.02, len(time) // 200 + 1)).repeat(200)
    tone = np.sin(2 * np.pi * np.cumsum(pitch[: len(time)]) / rate)
    loud = 0.3 * np.abs(np.sin(2 * np.pi * 1.7 * time + seed))
    wave = loud * tone + draw.normal(0, 0.02, len(time))
    # on the grid of 16 bits: some processors pass audio through a wav file
    return (np.round(wave * 2**15) / 2**15).astype(np.float32)


def official(loaded: Loaded, segment: Segment) -> Any:
    """What the processor makes of text and audio in one call: nothing is taken apart."""
    lm, rate = loaded.lm, segment.sample_rate
    if loaded.tiny.request is not None:
        return lm.processor.apply_transcription_request(
            audio=segment.samples, **loaded.tiny.request
        )
    text = lm.prompt(Request("asr", "en"))
    options = {"sampling_rate": rate, "return_tensors": "pt"}
    for unknown in UNKNOWN_OPTIONS.get(loaded.tiny.name, ()):
        del options[unknown]
    made = lm.processor(text=[text], audio=[segment.samples], **options)
    return loaded.tiny.official(made) if loaded.tiny.official else made


@pytest.mark.usefixtures("ids")
def test_ratio_0_is_generate(loaded: Loaded) -> None:
    lm = loaded.lm
    segment = segments(lm, SECONDS[0])[0]
    states = []
    hook = lm.decoder.register_forward_hook(lambda *seen: states.append(seen[2].last_hidden_state))
    with torch.inference_mode():
        theirs = lm.model.generate(
            **official(loaded, segment),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
        )
        # of the last position alone: some families compute the others' logits beside it
        logits = lm.head(states[0][:, -1]).float()
    hook.remove()
    with Engine(lm, config(0.0, language="en")) as engine:
        start = engine.runner.start([engine.runner.job(segment)])
        ours = engine.run([segment])[0]
    torch.testing.assert_close(start.logits, logits, rtol=0, atol=loaded.tiny.within)
    new = theirs[0, -NEW_TOKENS:].tolist()
    assert ours.cost.generated == NEW_TOKENS
    assert ours.text == lm.text(new)


@pytest.mark.usefixtures("ids")
def test_reduced_is_the_oracle(loaded: Loaded) -> None:
    lm = loaded.lm
    segment = segments(lm, SECONDS[2])[0]
    cut = target(lm, [segment])
    with Engine(lm, config(cut, language="en")) as engine:
        ours = engine.run([segment])[0]
        with torch.inference_mode():
            prompts = engine.runner.prepare([segment])
        kept = engine.reducer.budgets(prompts.lengths, cut)[0].kept
        start = engine.runner.start([engine.runner.job(segment)])
    row = prompts.lengths[0]
    span = row.before, row.before + row.audio
    model = lm.model if prompts.gates is None else folded(lm.model, prompts.gates[0])
    # few tokens of random weights can be those of the full model: their scores are not
    expected, full = (
        reference.prefill_logits(model, prompts.embedded[0], span, counts)[0].float()
        for counts in (kept, [row.audio] * len(kept))
    )
    torch.testing.assert_close(start.logits[0], expected, rtol=0, atol=1e-4)
    assert (expected - full).abs().max() > 1e-2
    ids = reference.greedy(model, prompts.embedded[0], span, kept, max_new_tokens=NEW_TOKENS)
    assert ours.text == lm.text(ids)
    held = [layer.keys.shape[2] - row.text for layer in start.cache.layers]
    assert held == list(kept[:-1]) and held[-1] < row.audio
    assert ours.cost.audio_kept == held[-1]


@pytest.mark.usefixtures("ids")
@pytest.mark.parametrize("beams", [1, 2])
def test_three_together_are_three_alone(loaded: Loaded, beams: int) -> None:
    lm = loaded.lm
    pieces = segments(lm, *SECONDS)
    cut = target(lm, pieces)
    assert cut > 0.03
    with Engine(lm, config(cut, num_beams=beams)) as engine:
        together = engine.run(pieces)
        alone = [engine.run([piece])[0] for piece in pieces]
    assert [found.text for found in together] == [found.text for found in alone]
    for found in together:
        assert found.error is None
        left = found.cost.prefill_flops / found.cost.prefill_full_flops
        assert left == pytest.approx(1 - cut, abs=0.01)


@pytest.mark.usefixtures("ids")
@pytest.mark.parametrize("beams", [1, 2])
def test_steps_can_be_played_back(
    loaded: Loaded, beams: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = loaded.lm
    pieces = segments(lm, *SECONDS)
    with Engine(lm, config(target(lm, pieces), num_beams=beams)) as engine:
        plain = engine.run(pieces)
        plays = request.getfixturevalue("played")
        monkeypatch.setattr(steps, "PLAIN_STEPS", 1)
        found = engine.run(pieces)
    assert [one.text for one in found] == [one.text for one in plain]
    assert len(plays) == NEW_TOKENS  # the first step is tried twice


@pytest.mark.parametrize("way", ["none", "ward"])
def test_a_prefill_that_tasks_share_gives_what_they_give_apart(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    lm = loaded.lm
    other = next((task for task in ("er", "st", "sqa") if task in lm.facts.tasks), None)
    if other is None:
        pytest.skip("it has one task")
    how = ReductionConfig(way, "input", 0.0 if way == "none" else 0.15, "keep", 0.0)
    first = config(0.0, reduction=how, language="en", question="why?")
    target = "de" if other == "st" else None
    wanted = replace(first, also=(replace(first, task=other, target_language=target),))
    pieces = [replace(one, tasks=("asr", other)) for one in segments(lm, *SECONDS[:2])]
    with Engine(lm, wanted) as engine:
        own = engine.runner
        jobs = [own.job(one) for piece in pieces for one in asked(piece)]
        together, sharing = own.start(jobs), [job.sharing for job in jobs]
        ready = own.prepare([job.segment for job in jobs[:2]])
        monkeypatch.setattr("core.engine.runner.stems", lambda jobs: [])
        apart = own.start(jobs)
    torch.testing.assert_close(together.logits, apart.logits, rtol=0, atol=1e-4)
    heads = {tuple(own.of(job.segment)._text(job.segment)[0]) for job in jobs}
    alike = len(heads) == 1 and ready.gates is None and all(job.words for job in jobs)
    for job in jobs:
        kept = job.observed.kept if job.observed else ()
        assert (kept[-1] < job.prompt.audio) == (way == "ward")
    # long prompts that differ much in words keep less or more of the audio
    begun = [(job.segment.index, job.observed.kept) for job in jobs if job.observed]
    assert sharing == [begun.count(one) if alike else 1 for one in begun]


def test_decoder_flops_are_those_that_run(
    loaded: Loaded, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, tokens = loaded.lm, 40
    shape = lm.decoder_shape
    if shape.experts:  # the operator for all of them at once has no count
        monkeypatch.setattr(lm.decoder.config, "_experts_implementation", "eager")
    embedded = torch.randn(1, tokens, shape.hidden)
    with torch.inference_mode():
        counted = counted_prefill_flops(
            lambda: lm.head(lm.decoder(inputs_embeds=embedded).last_hidden_state[:, -1:])
        )
    assert prefill_flops(shape, PromptLengths(tokens, 0, 0)) == pytest.approx(counted, rel=5e-4)
    check_weights("tiny", shape, lm.decoder.layers)
    assert not caplog.records
    check_weights("tiny", replace(shape, head_dim=8, experts=0), lm.decoder.layers)
    assert "FLOPs in records are not its own" in caplog.text


def test_encoder_flops_are_those_that_run(loaded: Loaded) -> None:
    lm = loaded.lm
    waves = [lm.features(segment.samples) for segment in segments(lm, *SECONDS[:2])]
    with torch.inference_mode():
        claimed = sum(lm.encode(waves).flops)
        counted = counted_prefill_flops(lambda: lm.encode(waves))
    assert claimed == pytest.approx(counted, rel=0.01)


def test_a_record_says_when_the_language_reaches_no_token(loaded: Loaded) -> None:
    deaf = {"glmasr", "vibevoice_asr", "audioflamingo3", "granite_speech", "qwen_audio"}
    deaf.add("fun_asr_nano")  # by the template made here
    said = template_of(config(0.0, language="en"), loaded.lm).warnings
    assert said == (("language_ignored",) if loaded.tiny.name in deaf else ())
    assert template_of(config(0.0), loaded.lm).warnings == ()


def test_what_is_heard_twice_is_the_same(loaded: Loaded) -> None:
    wave = loaded.lm.features(segments(loaded.lm, 1.0)[0].samples)
    with torch.inference_mode():
        (once,), (again,) = loaded.lm.encode([wave]).tokens, loaded.lm.encode([wave]).tokens
    assert torch.equal(once, again)


def test_a_short_piece_does_not_pay_for_a_long_one(loaded: Loaded) -> None:
    lm = loaded.lm
    short, long = (lm.features(segment.samples) for segment in segments(lm, 1.0, 7.0))
    with torch.inference_mode():
        both = lm.encode([short, long]).flops
        alone = lm.encode([short]).flops + lm.encode([long]).flops
    if loaded.tiny.name in ("wavllm", "voxtral", "qwen_audio"):  # each has a window, all alike
        assert both[0] == both[1]
    elif type(lm).together:  # type: ignore[attr-defined]
        assert both[0] < both[1] / 2
    else:
        assert both == alone


@pytest.mark.parametrize("beams", [1, 2])
def test_the_whole_run(loaded: Loaded, beams: int) -> None:
    words = ["run", SPEECH, "--model", loaded.folder, "--reduce", 0.1, "--num-beams", beams]
    words += ["--device", "cpu", "--max-new-tokens", NEW_TOKENS, "--quiet"]
    result = CliRunner().invoke(app, list(map(str, words)))
    record = json.loads(result.stdout.splitlines()[-1])
    # random weights seldom end an answer, and what is cut off does not count as covered
    assert record["status"] == "ok" or "ended by itself" in record["error"]["message"], record
    assert result.exit_code == (record["status"] != "ok")
    assert record["pred_text"]
    assert record["num_beams"] == beams
    assert record["flops"]["reduction"] == pytest.approx(0.1, abs=0.01)
    assert not any("capped" in warning for warning in record["warnings"])
    assert record["flops"]["encoder"] > 0


@pytest.mark.timeout(600)
@pytest.mark.skipif("FASTADASP_STANDINS" in os.environ, reason="this is the run that it starts")
def test_families_that_need_torchaudio() -> None:
    """In a process of their own, where something stands in for what cannot be had everywhere."""
    if importlib.util.find_spec("torchaudio") is not None:
        pytest.skip("torchaudio is installed: they ran above")
    root = Path(__file__).parents[2]
    paths = [str(root / "tests" / "standins"), *filter(None, [os.environ.get("PYTHONPATH")])]
    changes = {"PYTHONPATH": os.pathsep.join(paths), "FASTADASP_STANDINS": "1"}
    words = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider"]
    found = subprocess.run(
        [*words, __file__, "-k", "granite_speech or fun_asr_nano"],
        cwd=root,
        env=os.environ | changes,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-3000:]
    assert "28 passed" in found.stdout
