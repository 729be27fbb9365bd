"""The Qwen2-Audio adapter on a tiny random model of the real classes, loaded from a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.errors import StartError, TranscriptionError, UsageError
from core.models import load_model
from core.models.base import Request, SpeechLM
from core.records import Waveform
from tests.folders import WINDOW_SECONDS, save_tiny

CARD = {
    "tasks": ["asr", "st"],
    "prompts": {"asr": "transcribe the speech", "st": "translate the speech into {target}"},
    "source_languages": ["en"],
    "target_languages": ["de"],
    "chunk_seconds": 1.5,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"), CARD)


@pytest.fixture(scope="module")
def lm(folder: Path) -> SpeechLM:
    return load_model(str(folder), device="cpu")


def waves(*seconds: float) -> list[Waveform]:
    draw = np.random.default_rng(0)
    return [draw.normal(0, 0.1, round(16_000 * s)).astype(np.float32) for s in seconds]


def published(lm: SpeechLM, audio: Sequence[Waveform]) -> Any:
    """Inputs made by the processor and hidden states of the untouched model."""
    inputs = lm.processor(
        text=["<|AUDIO|>"] * len(audio),
        audio=list(audio),
        sampling_rate=16_000,
        return_tensors="pt",
        padding=True,
    )
    seen = {}

    def catch(_: Any, __: Any, kwargs: dict[str, Any]) -> None:
        seen["embeds"] = kwargs["inputs_embeds"]

    hook = lm.decoder.register_forward_pre_hook(catch, with_kwargs=True)
    with torch.no_grad():
        lm.model(**inputs)
    hook.remove()
    return inputs, seen["embeds"]


@pytest.mark.parametrize("seconds", [(0.3, 1.1, 0.71), (0.4,), (0.42,), (WINDOW_SECONDS,)])
def test_audio_tokens_equal_those_of_the_untouched_model(
    lm: SpeechLM, seconds: tuple[float, ...]
) -> None:
    audio = waves(*seconds)
    inputs, embeds = published(lm, audio)
    with torch.no_grad():
        encoded = lm.encode(audio)
    for row, tokens in enumerate(encoded.tokens):
        expected = embeds[row][inputs["input_ids"][row] == lm.model.config.audio_token_id]
        torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)
    lengths = {0.3: 7, 0.4: 10, 0.42: 10, 0.71: 18, 1.1: 27, 2: 50}
    assert [len(tokens) for tokens in encoded.tokens] == [lengths[s] for s in seconds]


def test_encoder_works_on_the_longest_row_only(lm: SpeechLM) -> None:
    with torch.no_grad():
        short, whole = lm.encode(waves(0.3)).flops[0], lm.encode(waves(WINDOW_SECONDS)).flops[0]
    assert short < whole / 4


def test_longer_than_the_window_is_refused(lm: SpeechLM) -> None:
    with pytest.raises(TranscriptionError, match=r"longer than the 2 s window.*--chunk-length"):
        lm.encode(waves(WINDOW_SECONDS + 0.01))


def test_one_sample_still_has_audio_tokens(lm: SpeechLM) -> None:
    with torch.no_grad():
        assert len(lm.encode([np.zeros(1, np.float32)]).tokens[0]) >= 1


def test_prompt_is_the_chat_template_around_the_audio(lm: SpeechLM) -> None:
    before, after = lm.prompt_ids(Request("asr", "en"))
    text = lm.prompt(Request("asr", "en"))
    whole = lm.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    audio = lm.model.config.audio_token_id
    assert [*before, audio, *after] == whole
    assert "transcribe the speech" in lm.processor.tokenizer.decode(after)
    _, german = lm.prompt_ids(Request("st", target_language="de"))
    assert "into german" in lm.processor.tokenizer.decode(german)
    _, own = lm.prompt_ids(Request("asr", prompt="hello world"))
    assert "hello world" in lm.processor.tokenizer.decode(own)


def test_card_and_processor_make_the_facts(lm: SpeechLM) -> None:
    facts = lm.facts
    assert (facts.sample_rate, facts.max_seconds, facts.chunk_seconds) == (16_000, 2.0, 1.5)
    assert facts.tokens_per_second == 25
    assert facts.tasks == ("asr", "st")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("er"), "lacks the task 'er'; it has asr, st"),
        (Request("asr", "fr"), "lacks the spoken language 'fr'; it has en"),
        (Request("st", "en", "fr"), "lacks the target language 'fr'; it has de"),
    ],
)
def test_what_the_model_lacks_is_refused(lm: SpeechLM, request_: Request, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        lm.check(request_)


def test_without_a_card_the_published_prompts_are_used(tmp_path: Path) -> None:
    plain = load_model(str(save_tiny(tmp_path)), device="cpu")
    assert plain.instruction(Request("asr", "en")) == (
        "Detect the language and recognize the speech: <|en|>"
    )
    assert plain.instruction(Request("st", "en", "de")) == (
        "Detect the language and translate the speech into German: <|en|>"
    )
    assert "ac" in plain.facts.tasks


def test_what_cannot_be_loaded_says_why(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(StartError, match=r"holds no config.json"):
        load_model(str(tmp_path))
    with pytest.raises(StartError, match=r"cannot be loaded.*check the name"):
        load_model("nobody/nothing", offline=True)
    with pytest.raises(StartError, match=r"unknown dtype 'int3'"):
        load_model(str(folder), dtype="int3")
    with pytest.raises(StartError, match=r"device 'cuda:7' cannot be used.*--device cpu"):
        load_model(str(folder), device="cuda:7")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(StartError, match=r"'bert' is not supported; supported: .*qwen2_audio"):
        load_model(str(tmp_path))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    from safetensors.torch import load_file

    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(StartError, match="safetensors") as caught:
        load_model(str(tmp_path), device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("known", [True, False])
def test_a_checkpoints_own_code_is_never_run(tmp_path: Path, known: bool) -> None:
    folder, ran = save_tiny(tmp_path / "model"), tmp_path / "ran"
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoProcessor": "evil.Processor"}
    if not known:
        config["model_type"] = "evil"
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).exists():
            data = json.loads((folder / name).read_text())
            data["auto_map"] = {"AutoProcessor": "evil.Processor"}
            (folder / name).write_text(json.dumps(data))
    (folder / "evil.py").write_text(
        f"open({str(ran)!r}, 'w')\nfrom transformers import PretrainedConfig as Config\n"
        "from transformers import Qwen2AudioProcessor as Processor\n"
    )
    try:
        load_model(str(folder), device="cpu")
    except StartError as error:
        assert "\n" not in str(error)
    else:
        assert known
    assert not ran.exists()


def test_the_encoders_attention_is_that_of_its_last_layer(lm: SpeechLM) -> None:
    audio = waves(1.9, 0.7)
    plain, scored = lm.encode(audio), lm.encode(audio, scored=True)
    assert lm.scores_audio
    assert plain.received is None and plain.own is None
    assert scored.received is not None and scored.own is not None
    assert all(more > one for more, one in zip(scored.flops, plain.flops, strict=True))
    for row, wave in enumerate(audio):
        torch.testing.assert_close(scored.tokens[row], plain.tokens[row], rtol=0, atol=0)
        maps = last_map(lm, wave)
        tokens = len(plain.tokens[row])
        largest, mean = maps.amax(0), maps.mean(0)
        received = [
            sum(
                float(largest[2 * i + a, 2 * j + b]) / 2
                for i in range(tokens)
                for a in (0, 1)
                for b in (0, 1)
            )
            / tokens
            for j in range(tokens)
        ]
        own = [float(mean[2 * j : 2 * j + 2, 2 * j : 2 * j + 2].sum()) / 2 for j in range(tokens)]
        torch.testing.assert_close(scored.received[row], torch.tensor(received))
        torch.testing.assert_close(scored.own[row], torch.tensor(own))


def last_map(lm: SpeechLM, wave: Waveform) -> torch.Tensor:
    """Softmax of the encoder's last layer for one recording: (heads, frames, frames)."""
    layer = lm.model.model.audio_tower.layers[-1]
    seen: dict[str, Any] = {}
    hook = layer.register_forward_pre_hook(lambda _, args: seen.update(states=args[0]))
    with torch.no_grad():
        lm.encode([wave])
        hook.remove()
        frames = (-(-len(wave) // 160) - 1) // 2 + 1
        normed = layer.self_attn_layer_norm(seen["states"])[0, :frames]
        query, key = layer.self_attn.q_proj(normed), layer.self_attn.k_proj(normed)
    heads = layer.self_attn.num_heads
    size = query.shape[1] // heads
    maps = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        maps.append((query[:, part] @ key[:, part].T / size**0.5).softmax(-1))
    return torch.stack(maps)
