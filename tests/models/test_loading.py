"""What loading a checkpoint of a family takes, and what it refuses in one line."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.errors import StartError
from core.models import load_model
from core.models.phi4_multimodal import Phi4Multimodal
from core.models.qwen2_audio import Qwen2Audio
from tests.folders import save_tiny
from tests.models.checkpoints import TEXT, draw_weights
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
    Phi4Multimodal.prepare(None, str(tmp_path))
    (tmp_path / "speech-lora").mkdir()
    with pytest.raises(StartError, match=r"hears through a LoRA; run pip install peft"):
        Phi4Multimodal.prepare(None, str(tmp_path))
