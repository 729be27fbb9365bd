"""What loading a checkpoint of a family takes, and what it refuses in one line."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.errors import StartError
from core.models import load_model, weights
from core.models.phi4_multimodal import Phi4Multimodal
from core.models.qwen2_audio import Qwen2Audio
from core.models.vibevoice_asr import VibeVoiceAsr
from tests.folders import save_tiny
from tests.models.checkpoints import TEXT, Tiny, draw_weights, save
from tests.models.zoo import FAMILIES

OMNI = next(tiny for tiny in FAMILIES if tiny.name == "qwen2_5_omni")


def test_a_full_omni_checkpoint_gives_its_thinker(tmp_path: Path) -> None:
    from transformers import Qwen2_5OmniConfig, Qwen2_5OmniForConditionalGeneration

    made = OMNI.processor(tmp_path)
    text = TEXT | {"vocab_size": len(made)} | OMNI.text
    voice = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "embedding_size": 64,
        "vocab_size": 64,
    }
    config = Qwen2_5OmniConfig(
        thinker_config=OMNI.sizes | {"text_config": text},
        talker_config=voice,
        enable_audio_output=False,
    )
    whole = Qwen2_5OmniForConditionalGeneration(config)
    draw_weights(whole.thinker, [0])
    whole.save_pretrained(tmp_path)
    lm = load_model(str(tmp_path), device="cpu")
    theirs, ours = whole.thinker.state_dict(), lm.model.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_a_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny(tmp_path)
    monkeypatch.setattr(Qwen2Audio, "about", replace(Qwen2Audio.about, needs="no-such-thing"))
    with pytest.raises(StartError, match=r"need no-such-thing: pip install no-such-thing$"):
        load_model(str(folder), device="cpu")


def test_weights_other_than_safetensors_are_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(StartError, match=r"cannot be loaded: .*safetensors"):
        load_model(str(folder), device="cpu")


@pytest.mark.skipif(importlib.util.find_spec("peft") is not None, reason="peft is installed")
def test_a_lora_without_peft_is_refused(tmp_path: Path) -> None:
    Phi4Multimodal.prepare(None, str(tmp_path), {})
    (tmp_path / "speech-lora").mkdir()
    with pytest.raises(StartError, match=r"hears through a LoRA; run pip install peft"):
        Phi4Multimodal.prepare(None, str(tmp_path), {})


@pytest.mark.parametrize("tiny", FAMILIES, ids=lambda tiny: tiny.name)
@pytest.mark.parametrize("which", [0, -1], ids=["first", "last"])
def test_weights_that_are_missing_are_not_drawn_at_random(
    tmp_path: Path, tiny: Tiny, which: int
) -> None:
    if tiny.needs and importlib.util.find_spec(tiny.needs) is None:
        pytest.skip(f"needs {tiny.needs}")
    file = save(tiny, tmp_path) / "model.safetensors"
    load_model(str(tmp_path), device="cpu")
    parts = load_file(file)
    del parts[sorted(parts)[which]]
    save_file(parts, file, {"format": "pt"})
    with pytest.raises(
        StartError, match=r"lacks weights of \w+: \d+ \(.*download it again"
    ) as told:
        load_model(str(tmp_path), device="cpu")
    assert len(str(told.value).splitlines()) == 1


def test_noise_by_another_name_is_refused() -> None:
    config = SimpleNamespace(acoustic_tokenizer_encoder_config=SimpleNamespace(noise_std=0.5))
    with pytest.raises(StartError, match="names the noise that some/model adds in another way"):
        VibeVoiceAsr.prepare(SimpleNamespace(config=config), "some/model", {})


class Adapted:
    """A model that takes adapters, and lacks what it is told to."""

    def __init__(self, missing: set[str]) -> None:
        self.missing = missing
        self.asked: list[str] = []

    def load_adapter(self, place: str, adapter_name: str) -> SimpleNamespace:
        self.asked.append(place)
        return SimpleNamespace(missing_keys=self.missing, mismatched_keys=set())

    def set_adapter(self, name: str) -> None:
        self.asked.append("on")


@pytest.fixture
def lora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint with the LoRA of Phi-4 in it; peft is said to be there."""
    monkeypatch.setattr(weights, "find_spec", lambda name: True)
    folder = tmp_path / "speech-lora"
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).touch()
    return folder


def test_a_lora_is_loaded_and_on(lora: Path) -> None:
    model = Adapted(set())
    Phi4Multimodal.prepare(model, str(lora.parent), {})
    assert model.asked == [str(lora), "on"]


def test_a_lora_with_a_hole_is_refused(lora: Path) -> None:
    with pytest.raises(StartError, match=r"lacks weights of its LoRA: 1 \(q\.lora_A\); download"):
        Phi4Multimodal.prepare(Adapted({"q.lora_A"}), str(lora.parent), {})


def test_a_pickled_lora_is_refused(lora: Path) -> None:
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    model = Adapted(set())
    with pytest.raises(StartError, match=r"lacks .*adapter_model\.safetensors: download it again"):
        Phi4Multimodal.prepare(model, str(lora.parent), {})
    assert not model.asked


def test_a_lora_is_of_the_models_own_commit(lora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def cached(place: str, name: str, **how: Any) -> str:
        asked.append(how)
        return str(lora / name)

    monkeypatch.setattr("transformers.utils.cached_file", cached)
    how = {"revision": "c" * 40, "local_files_only": True}
    Phi4Multimodal.prepare(Adapted(set()), "some/model", how | {"trust_remote_code": False})
    assert asked == [how | {"subfolder": "speech-lora"}] * 2


def test_an_adapter_beside_the_weights_is_not_taken_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With peft here transformers would load it, and tell of its weights alone."""
    folder = save_tiny(tmp_path)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "other/weights"}')
    monkeypatch.setattr("transformers.integrations.peft.is_peft_available", lambda: True)
    load_model(str(folder), device="cpu")


def test_all_of_a_hub_model_is_of_the_commit_that_it_is_known_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two commits in the cache, and a branch that has gone on meanwhile."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--some--model"
    for commit, bias in ("a" * 40, 1.0), ("b" * 40, 2.0):
        folder = save_tiny(place / "snapshots" / commit)
        parts = load_file(folder / "model.safetensors")
        head = next(name for name in parts if "lm_head" in name)
        parts[head][:] = bias
        save_file(parts, folder / "model.safetensors", {"format": "pt"})
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("b" * 40)
    for asked, commit, bias in (None, "b" * 40, 2.0), ("a" * 40, "a" * 40, 1.0):
        lm = load_model("some/model", device="cpu", offline=True, revision=asked)
        assert lm.revision == commit
        assert lm.head.weight.unique().tolist() == [bias]
