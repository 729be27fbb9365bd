"""WavLLM, part by part, against plain computations; what its prompts say; gates among rows."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from core.config import ReductionConfig, RunConfig
from core.engine import Engine
from core.engine.generate import prefill
from core.errors import TranscriptionError, UsageError
from core.models import load_model
from core.models.base import Request, SpeechLM
from core.models.wavllm.decoder import GatedLinear, Gates
from core.records import Segment
from core.reduction.regroup import regroup
from fastadasp_cli.main import app
from tests import reference
from tests.counted import counted_prefill_flops
from tests.models.checkpoints import save
from tests.models.folding import folded, published
from tests.models.zoo import FAMILIES
from tests.reference_layers import attend, feed_forward, linear, project

TINY = next(tiny for tiny in FAMILIES if tiny.name == "wavllm")
EXAMPLES = Path(__file__).parents[3] / "shared" / "data"
QUESTIONS = ("Who speaks?", "How many dogs bark in this room, and is it raining outside?")
SYSTEM = (
    "[INST]<<SYS>>\nAs a helpful language and speech assistant, you are able to understand the "
    "speech content provided by the user, and assist the user with a variety of tasks using "
    "natural language.\n<</SYS>>\n\n<SPEECH>"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(TINY, tmp_path_factory.mktemp("wavllm"))


@pytest.fixture(scope="module")
def lm(folder: Path) -> SpeechLM:
    return load_model(str(folder), device="cpu")


def noise(samples: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def close(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and torch.allclose(ours.double(), theirs.double(), atol=1e-4)


def affine(module: Any, states: Tensor) -> Tensor:
    return states.double() @ module.weight.double().T + module.bias.double()


def erf_gelu(states: Tensor) -> Tensor:
    return states * (1 + torch.erf(states / math.sqrt(2))) / 2


def halved(conv: Any, states: Tensor) -> Tensor:
    """(frames, channels): each second frame with its neighbours, then half gates half."""
    frames = {at: row.double() for at, row in enumerate(states)}
    silence = torch.zeros(states.shape[1], dtype=torch.float64)
    rows = []
    for at in range(0, len(states), 2):
        both = conv.bias.double().clone()
        for k in range(3):
            both += conv.weight[:, :, k].double() @ frames.get(at + k - 1, silence)
        value, gate = both.chunk(2)
        rows.append(value * torch.sigmoid(gate))
    return torch.stack(rows)


def bridged(path: Any, states: Tensor) -> Tensor:
    """Subsampler, adapter and projector of one encoder."""
    for conv in path.subsample.conv_layers:
        states = halved(conv, states)
    return affine(path.projector, adapted(path.adapter, states))


def adapted(adapter: Any, states: Tensor) -> Tensor:
    update = affine(adapter.up_layer, erf_gelu(affine(adapter.down_layer, states)))
    centred = update - update.mean(-1, keepdim=True)
    normed = centred / (update.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    norm = adapter.layer_norm
    return states.double() + normed * norm.weight.double() + norm.bias.double()


@pytest.mark.parametrize("frames", [1, 2, 9, 12])
def test_subsampler(lm: SpeechLM, frames: int) -> None:
    states = torch.randn(frames, 32)
    subsample = lm.model.audio_encoder.subsample
    right = halved(subsample.conv_layers[1], halved(subsample.conv_layers[0], states))
    assert len(right) == math.ceil(frames / 4)
    assert close(subsample(states[None])[0], right)


def test_adapter(lm: SpeechLM) -> None:
    adapter, states = lm.model.wavlm_encoder.adapter, torch.randn(5, 24)
    assert close(adapter(states), adapted(adapter, states))


def wavlm_layers(model: Any, wave: Tensor) -> list[Tensor]:
    """What enters WavLM's first layer, and what leaves each one, (frames, hidden)."""
    states, _ = model.feature_projection(model.feature_extractor(wave[None]).transpose(1, 2))
    states = model.encoder.layer_norm(states + model.encoder.pos_conv_embed(states))
    found, bias = [states[0]], None
    for layer in model.encoder.layers:
        states, bias = layer(states, None, bias)
        found.append(states[0])
    return found


def test_the_two_encoders_are_fused(lm: SpeechLM) -> None:
    model = lm.model
    lengths = 16_000 * 2, 9_000
    waves = [torch.from_numpy(noise(length, length)) for length in lengths]
    mels = torch.stack([lm.processor.hear(wave.numpy()).mels for wave in waves])
    # what stands behind the end of the shorter one is not heard
    padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True, padding_value=0.7)
    with torch.inference_mode():
        ours = model.get_audio_features(mels, padded, torch.tensor(lengths))
        shares = model.wavlm_encoder.output_weights.double().exp()
        shares /= shares.sum()
        for tokens, mel, wave in zip(ours, mels, waves, strict=True):
            frames = math.ceil(len(wave) / 160)
            states = model.audio_encoder.model(mel[None]).last_hidden_state[0]
            words = bridged(model.audio_encoder, states[: math.ceil(frames / 2)])
            layers = wavlm_layers(model.wavlm_encoder.model, wave)
            mixed = sum(share * layer for share, layer in zip(shares, layers, strict=True))
            voice = bridged(model.wavlm_encoder, mixed)
            both = min(len(words), len(voice))
            right = affine(model.wavlm_audio_proj, torch.cat([words[:both], voice[:both]], 1))
            assert close(tokens, right)
            assert lm.audio_tokens(len(wave) / 16_000) == len(tokens)


def test_gated_linear() -> None:
    gates, size = Gates(head_size=4), 8
    gate = torch.rand(2, size) * 3
    states = torch.randn(2, 3, 6)
    for turns in (False, True):
        module = GatedLinear(6, size, 2, gates, turns)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter)
        plain = torch.einsum("btc,oc->bto", states, module.weight)
        assert torch.allclose(module(states), plain, atol=1e-5)
        gates.set(gate)
        for row in range(2):
            for channel in range(size):
                scale = gate[row, published(channel, 4) if turns else channel]
                update = states[row] @ module.lora_A @ module.lora_B[:, channel]
                right = plain[row, :, channel] + update * scale
                assert torch.allclose(module(states)[row, :, channel], right, atol=1e-5)
        gates.set(None)


def gate_by_hand(lm: SpeechLM, instruction: str) -> Tensor:
    """The decoder without LoRA (the reference knows none) and without its last norm, then S."""
    model = lm.model
    ids = lm.processor.tokenizer(f'"{instruction}"', add_special_tokens=False)["input_ids"]
    states = model.get_input_embeddings().weight[ids].double()
    for layer in model.get_decoder().layers:
        parts = project(model, layer, states, list(range(len(ids))))
        mixed, _ = attend(*parts, torch.zeros(len(ids), dtype=torch.float64))
        states = states + linear(layer.self_attn.o_proj, mixed.flatten(1))
        states = feed_forward(layer, states)
    net = model.prompt_gate
    said = affine(net.up, erf_gelu(affine(net.down, states)))
    shares = affine(net.score, said)[:, 0].exp()
    mean = sum(share * row for share, row in zip(shares / shares.sum(), said, strict=True))
    return torch.tensor([min(max(float(one), 0.0), 3.0) for one in mean])


def test_the_gate_is_what_the_instruction_says(lm: SpeechLM) -> None:
    made = []
    for question in QUESTIONS:
        with torch.inference_mode():
            gate = lm.gate(Request("sqa", question=question))
        assert gate is not None
        assert close(gate, gate_by_hand(lm, question))
        made.append(gate)
    assert not torch.allclose(*made, atol=0.1)
    assert all(((gate > 0.1) & (gate < 2.9)).any() for gate in made)


def test_gates_of_instructions_of_different_length(lm: SpeechLM) -> None:
    rows = [torch.tensor(lm.processor.quoted(question)) for question in QUESTIONS]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=7)
    mask = torch.arange(padded.shape[1]) < torch.tensor([[len(row)] for row in rows])
    with torch.inference_mode():
        together = lm.model.gates(padded, mask.long())
        for gate, row in zip(together, rows, strict=True):
            assert close(gate, lm.model.gates(row[None])[0])


def test_the_whole_is_a_plain_llama_with_folded_matrices(lm: SpeechLM) -> None:
    wave = noise(30_000)
    given = lm.processor(text=[lm.prompt(Request("er"))], audio=[wave])
    with torch.inference_mode():
        gates = lm.model.gates(given.pop("instruction_ids"))
        ours = lm.model(**given, gates=gates).logits[0, -1]
        plain = lm.model(**given).logits[0, -1]
        audio = lm.encode([wave]).tokens[0]
    before, after = lm.prompt_ids(Request("er"))
    embedded = torch.cat([lm.embed(before), audio, lm.embed(after)])
    span = len(before), len(before) + len(audio)
    kept = [len(audio)] * (len(lm.decoder.layers) + 1)
    right, _ = reference.prefill_logits(folded(lm.model, gates[0]), embedded, span, kept)
    assert torch.allclose(ours.double(), right, atol=1e-3)
    assert not torch.allclose(plain.double(), right, atol=0.1)


def test_what_is_asked(lm: SpeechLM) -> None:
    words = "Is there only one speaker in the audio clip?"
    prompt = lm.prompt(Request("sv"))
    assert prompt == f"{SYSTEM}{lm.processor.audio_token} </SPEECH> {words} [/INST]"
    before, after = lm.prompt_ids(Request("sv"))
    start, spell = lm.processor.tokenizer.bos_token_id, lm.processor.tokenizer.decode
    assert before[0] == after[0] == start
    assert spell(before[1:]) == SYSTEM
    assert spell(after[1:]) == f"</SPEECH> {words} [/INST]"
    assert spell(lm.processor.quoted(words)) == f'"{words}"'
    spoken = lm.prompt(Request("sqa"))
    assert spoken.endswith(" </SPEECH>  [/INST]")
    assert lm.instruction(Request("er", prompt="Say it.")) == "Say it."


def test_what_it_cannot_do_is_refused(lm: SpeechLM) -> None:
    with pytest.raises(UsageError, match="lacks the task 'ac'"):
        lm.check(Request("ac"))
    with pytest.raises(UsageError, match="lacks the target language 'fr'; it has de"):
        lm.check(Request("st", target_language="fr"))
    with pytest.raises(UsageError, match="lacks the spoken language 'zh'; it has en"):
        lm.check(Request("asr", "zh"))
    with pytest.raises(TranscriptionError, match=r"31\.0 s is longer than the 30 s window"):
        lm.features(noise(31 * 16_000))
    assert len(lm.encode([noise(40)]).tokens[0]) == 1


def asked(*questions: str) -> list[Segment]:
    return [
        Segment("a", n, 10.0 * n, noise(20_000 + 5_000 * n, n), 16_000, question=question)
        for n, question in enumerate(questions)
    ]


def settings(reduce: float, beams: int) -> RunConfig:
    reduction = ReductionConfig("fastadasp", "constant", reduce, "reindex", 0.0)
    return replace(RunConfig("sqa", reduction, max_new_tokens=3), num_beams=beams)


@pytest.mark.parametrize(("reduce", "beams"), [(0.0, 1), (0.05, 1), (0.05, 2)])
def test_rows_with_other_instructions_keep_their_own_gates(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch, reduce: float, beams: int
) -> None:
    monkeypatch.setattr(
        type(lm), "text", staticmethod(lambda ids: " ".join(map(str, ids))), raising=True
    )
    pieces = asked(*QUESTIONS, QUESTIONS[0])
    with Engine(lm, settings(reduce, beams)) as engine:
        together = engine.run(pieces)
        alone = [engine.run([piece])[0] for piece in pieces]
    assert [found.error for found in together] == [None] * 3
    assert [found.text for found in together] == [found.text for found in alone]
    if not reduce:
        assert [found.text for found in together] == [generated(lm, piece) for piece in pieces]


def generated(lm: SpeechLM, piece: Segment) -> str:
    """What `generate` answers, whose gates come with the call and not with a cache."""
    text = lm.prompt(Request("sqa", question=piece.question))
    with torch.inference_mode():
        given = lm.processor(text=[text], audio=[piece.samples])
        made = lm.model.generate(**given, max_new_tokens=3, do_sample=False)
    return lm.text(made[0, -3:].tolist())


def test_the_budget_holds_with_a_lora_that_the_cost_model_leaves_out(lm: SpeechLM) -> None:
    with Engine(lm, settings(0.1, 1)) as engine:
        with torch.inference_mode():
            ready = engine.runner.prepare([Segment("a", 0, 0.0, noise(80_000), 16_000)])

        def spent(reducer: Any) -> int:
            kept = [reducer.counts(reducer.solve(row, reducer.target)) for row in ready.lengths]
            # what the last layer saves beside the reduction is no part of the promise
            how = replace(reducer.how, shortcut=False)
            parts = engine.runner.decoder, ready.embedded, ready.lengths, kept, how
            with torch.inference_mode():
                return counted_prefill_flops(
                    lambda: prefill(*parts, ready.scores, gates=ready.gates)
                )

        left = spent(engine.reducer) / spent(engine.reducer.idle)
    assert 1 - left == pytest.approx(0.1, abs=0.01)


def test_gates_move_with_their_rows(lm: SpeechLM) -> None:
    pieces = asked(*QUESTIONS, "Why?")
    with Engine(lm, settings(0.05, 1)) as engine:
        starts = [
            engine.runner.start([engine.runner.job(piece) for piece in group])
            for group in (pieces[:2], pieces[2:])
        ]
        with torch.inference_mode():
            expected = [
                lm.gate(Request("sqa", question=question)) for question in (QUESTIONS[1], "Why?")
            ]
        for start in starts:
            start.cache.begin(1, 3, torch.device("cpu"))
        joined = regroup([(starts[0].cache, [1]), (starts[1].cache, [0])])
    assert joined.gates is not None
    assert torch.equal(joined.gates, torch.stack([gate for gate in expected if gate is not None]))


def test_nothing_of_a_gate_stays_in_the_model(lm: SpeechLM) -> None:
    with Engine(lm, settings(0.05, 1)) as engine:
        engine.run(asked(*QUESTIONS))
    # a gate is made by the decoder without any LoRA
    with torch.inference_mode():
        again = lm.gate(Request("sqa", question=QUESTIONS[0]))
    assert again is not None
    assert close(again, gate_by_hand(lm, QUESTIONS[0]))


@pytest.mark.skipif(not (EXAMPLES / "wavllm_tasks").is_dir(), reason="the examples are not here")
def test_the_published_examples(folder: Path, lm: SpeechLM) -> None:
    rows = [json.loads(line) for line in (EXAMPLES / "manifest.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["path"].startswith("wavllm_tasks/")]
    assert sorted(row["task"] for row in rows) == ["asr", "er", "sqa", "st", "sv"]
    for row in rows:
        request = Request(row["task"], question=row["prompt"])
        assert lm.instruction(request) == row["prompt"]
        words = ["run", EXAMPLES / row["path"], "--model", folder, "--task", row["task"]]
        words += ["--lang", "de"] if row["task"] == "st" else []
        words += ["--question", row["prompt"]] if row["task"] == "sqa" else []
        words += ["--reduce", 0.1, "--device", "cpu", "--max-new-tokens", 3, "--quiet"]
        result = CliRunner().invoke(app, list(map(str, words)))
        record = json.loads(result.stdout.splitlines()[-1])
        assert record["status"] == "ok" or "ended by itself" in record["error"]["message"], record
        assert record["pred_text"]
        assert record["flops"]["reduction"] == pytest.approx(0.1, abs=0.01)
        assert record["tokens"]["audio_in"] <= math.ceil(row["duration"] * 12.5) + 2
        assert record["tokens"]["audio_kept"] < record["tokens"]["audio_in"]
