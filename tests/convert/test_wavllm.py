"""The published layout of WavLLM, converted and loaded: it computes what was published."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from core.convert.wavllm import convert
from core.errors import StartError
from core.models import load_model
from core.models.base import Request, SpeechLM
from tests.convert import published_wavllm as published


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return published.state()


@pytest.fixture(scope="module")
def lm(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> SpeechLM:
    source = published.save(tmp_path_factory.mktemp("published"), weights)
    target = tmp_path_factory.mktemp("converted")
    convert(source / "final.pt", target, lambda line: None)
    return load_model(str(target), device="cpu")


def refused(source: Path, target: Path) -> str:
    with pytest.raises(StartError) as caught:
        convert(source, target, lambda line: None)
    return str(caught.value)


@pytest.mark.parametrize("seconds", [1.0, 2.33])
def test_it_computes_what_was_published(
    lm: SpeechLM, weights: dict[str, Tensor], seconds: float
) -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, round(16_000 * seconds)).astype(np.float32)
    request = Request("asr")
    text = lm.prompt(request)
    given = lm.processor(text=[text], audio=[wave])
    with torch.inference_mode():
        gates = lm.model.gates(given.pop("instruction_ids"))
        ours = lm.model(**given, gates=gates).logits[0].double()
        heard = lm.encode([wave]).tokens[0]
    right = published.Published(weights)
    quoted = lm.processor.quoted(lm.words(request))
    parts = given["input_features"][0], given["input_values"][0]
    assert torch.allclose(heard.double(), right.audio(*parts), atol=1e-4)
    assert torch.allclose(gates[0].double(), right.gate(quoted), atol=1e-4)
    # neither shut nor wide open: otherwise it could be anything
    assert ((gates > 0.05) & (gates < 2.95)).sum() > 20
    theirs = right.logits(*parts, *lm.prompt_ids(request), quoted)
    assert ours.shape == theirs.shape
    assert torch.allclose(ours, theirs, atol=2e-3 * float(theirs.abs().max()))


def test_sizes_and_ends_are_those_of_the_tensors(lm: SpeechLM) -> None:
    config = lm.model.config
    assert config.text_config.rms_norm_eps == 1e-6
    assert config.text_config.max_position_embeddings == 2048
    assert (config.lora_rank, config.gate_size) == (published.RANK, published.GATE)
    assert config.wavlm_config.num_conv_pos_embedding_groups == 4
    assert lm.extractor.feature_size == 16
    assert lm.end_tokens == (lm.processor.tokenizer.eos_token_id,)


def test_what_is_missing_and_what_is_left_over_is_named(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    odd = ("weights_predictor.bias", "wavlm_encoder.weights_predictor.bias")
    changed = {**weights, **{name: torch.zeros(1) for name in odd}}
    del changed["gpt_model.model_llama.layers.0.attention.wv_lora_A"]
    source = published.save(tmp_path / "source", changed)
    line = refused(source, tmp_path)
    assert "lacks language_model.layers.0.self_attn.v_proj.lora_A" in line
    assert f"has no use for {odd[1]}, {odd[0]};" in line


def test_what_is_no_wavllm_is_refused(tmp_path: Path) -> None:
    source = published.save(tmp_path / "source", {"encoder.weight": torch.zeros(2, 2)})
    assert "the checkpoint lacks" in refused(source, tmp_path)


def test_a_pickle_that_would_run_something_is_refused(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    source = published.save(tmp_path / "source", weights, task_state=Unsafe(str(tmp_path / "ran")))
    assert "holds more than weights, and that is not run" in refused(source, tmp_path)
    assert not (tmp_path / "ran").exists()


class Unsafe:
    """Would write a file if it were unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.path),)


def test_other_files_are_refused(tmp_path: Path) -> None:
    assert "holds 0 files *.pt" in refused(tmp_path, tmp_path)
    (tmp_path / "final.pt").write_bytes(pickle.dumps({"model": {}})[:-4])
    line = refused(tmp_path, tmp_path)
    assert "final.pt" in line
    assert "\n" not in line


def test_a_folder_without_a_tokenizer_is_refused(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    source = published.save(tmp_path / "source", weights)
    for file in source.glob("*.json"):
        file.unlink()
    line = refused(source, tmp_path)
    assert "no tokenizer can be read" in line
    assert "tokenizer.json" in line
