"""Fewer bits for the decoder's layers, and models that are spread over devices."""

from __future__ import annotations

from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from core.engine.generate import Prefilled
from core.engine.greedy import greedy
from core.errors import StartError
from core.methods import get_method
from core.models import load_model, quantized
from core.models.qwen2_audio import Qwen2Audio
from core.placing import home
from core.reduction import Reduction, reducing, why_not
from tests.folders import save_tiny, tiny_processor
from tests.test_reduction import RATIOS, counts, decoder_of, run_prefill
from tests.tiny import PromptBatch, _draw_weights, prompt_batch, tiny_qwen2_audio

with_bitsandbytes = pytest.mark.skipif(
    find_spec("bitsandbytes") is None or find_spec("accelerate") is None,
    reason="needs bitsandbytes and accelerate",
)
with_accelerate = pytest.mark.skipif(find_spec("accelerate") is None, reason="needs accelerate")


@pytest.mark.parametrize(
    ("wanted", "flag"),
    [({"quantize": "8bit"}, "--quantize 8bit"), ({"device": "split"}, "--device split")],
)
def test_a_missing_package_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, str], flag: str
) -> None:
    folder = save_tiny(tmp_path)
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    with pytest.raises(StartError, match=rf"^{flag} needs .*accelerate: pip install 'fastadasp\[q"):
        load_model(str(folder), **{"device": "cpu"} | wanted)  # type: ignore[arg-type]


def test_an_unknown_number_of_bits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="unknown quantization '2bit'; choose one of 8bit, 4bit"):
        load_model(str(save_tiny(tmp_path)), device="cpu", quantize="2bit")


def test_only_the_decoders_layers_have_fewer_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.quantizers.quantizers_utils import should_convert_module

    monkeypatch.setattr(quantized, "check_packages", lambda *_: None)
    model = tiny_qwen2_audio(kv_heads=2)
    found = quantized.quantization("8bit", Qwen2Audio, model, torch.float32)
    linear = [name for name, one in model.named_modules() if isinstance(one, torch.nn.Linear)]
    converted = {
        name for name in linear if should_convert_module(name, found.llm_int8_skip_modules)
    }
    layers = {name for name in linear if ".language_model.layers." in name}
    assert converted == layers
    assert len(layers) == 6 * 7
    assert len(linear) > len(layers) + 10


def test_what_hears_may_lie_inside_the_decoder() -> None:
    layers = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    inside = torch.nn.ModuleDict({"ears": torch.nn.Linear(2, 2), "layers": layers})
    model = torch.nn.ModuleDict({"model": inside, "lm_head": torch.nn.Linear(2, 2)})
    assert list(quantized.beside(model, layers)) == ["model.ears", "lm_head"]


def test_weights_that_kept_their_bits_are_not_called_quantized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where transformers takes the settings and does nothing about them."""
    monkeypatch.setattr("core.models.load.quantization", lambda *_: None)
    whole = load_model(str(save_tiny(tmp_path)), device="cpu").model
    monkeypatch.setattr("core.models.load.load_weights", lambda *_, **__: whole)
    with pytest.raises(StartError, match=r"--quantize 8bit: Qwen2Audio.* weights as they are"):
        load_model(str(tmp_path), device="cpu", quantize="8bit")


def save_even(folder: Path) -> str:
    """A tiny model whose widths are all multiples of 64, the block of NF4."""
    config = deepcopy(tiny_qwen2_audio(kv_heads=2).config)
    config.text_config.intermediate_size = 128
    model = type(tiny_qwen2_audio(kv_heads=2))(config).float()
    _draw_weights(model, 0)
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


@with_bitsandbytes
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
@torch.no_grad()
def test_a_quantized_model_is_reduced(tmp_path: Path, bits: str) -> None:
    folder = save_even(tmp_path)
    whole = load_model(folder, device="cpu", dtype="float32")
    small = load_model(folder, device="cpu", dtype="float32", quantize=bits)
    weights = {name: one.dtype for name, one in small.model.named_parameters()}
    changed = {name for name, dtype in weights.items() if not dtype.is_floating_point}
    assert len(changed) == 6 * 7
    assert all(".language_model.layers." in name for name in changed)
    assert (small.dtype, small.device) == (torch.float32, torch.device("cpu"))
    assert why_not(small.decoder, small.model.get_input_embeddings()) is None
    batch = prompt_batch(small.model, [23, 9, 41], [3, 5, 2], [4, 7, 4])
    kept = counts(batch, "constant", 1, RATIOS)
    logits = []
    for model in (whole.model, small.model):
        with reducing(model.get_decoder()):
            start = run_prefill(model, batch, kept, Reduction(get_method("uniform")))
            logits.append(start.logits)
            assert greedy(decoder_of(model), start, [4] * 3)[2].ids
    alike = torch.nn.functional.cosine_similarity(*logits)
    assert alike.min() > (0.98 if bits == "8bit" else 0.8)
    assert alike.max() < 0.99999


def answers(model: Any, batch: PromptBatch) -> tuple[Prefilled, Any]:
    kept = counts(batch, "constant", 1, RATIOS)
    how = Reduction(get_method("fastadasp"), "keep", True)
    with reducing(model.get_decoder()):
        start = run_prefill(model, batch, kept, how)
        return start, greedy(decoder_of(model), start, [6] * 3)


@with_accelerate
@torch.no_grad()
def test_layers_that_lie_on_the_disk_are_reduced_as_well(tmp_path: Path) -> None:
    from accelerate import dispatch_model

    folder = save_tiny(tmp_path / "model")
    whole = load_model(str(folder), device="cpu", dtype="float32")
    batch = prompt_batch(whole.model, [23, 9, 41], [3, 5, 2], [4, 7, 4])
    start, expected = answers(whole.model, batch)
    spread = load_model(str(folder), device="split", dtype="float32")
    places = {
        "model.audio_tower": "cpu",
        "model.multi_modal_projector": "cpu",
        "model.language_model.embed_tokens": "cpu",
        "model.language_model.norm": "cpu",
        "model.language_model.rotary_emb": "cpu",
        "lm_head": "cpu",
    }
    places |= {f"model.language_model.layers.{n}": "disk" if n > 2 else "cpu" for n in range(6)}
    dispatch_model(
        spread.model, places, main_device="cpu", offload_dir=tmp_path / "disk", force_hooks=True
    )
    last = spread.decoder.layers[5]
    assert last.self_attn.q_proj.weight.device.type == "meta"
    assert home(last.self_attn.q_proj) == torch.device("cpu")
    forwards = [layer.forward for layer in spread.decoder.layers]
    assert why_not(spread.decoder, spread.model.get_input_embeddings()) is None
    found, texts = answers(spread.model, batch)
    assert torch.equal(found.logits, start.logits)
    assert texts == expected
    assert forwards == [layer.forward for layer in spread.decoder.layers]


@torch.no_grad()
def test_what_enters_a_layer_goes_to_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is but one device here: what is asked for is noted, and nothing else may change."""
    model = tiny_qwen2_audio(kv_heads=2)
    batch = prompt_batch(model, [23, 9, 41], [3, 5, 2], [4, 7, 4])
    _, expected = answers(model, batch)
    asked = []
    for number, layer in enumerate(model.get_decoder().layers):
        hook = SimpleNamespace(execution_device=f"cpu:{number}")
        monkeypatch.setattr(layer, "_hf_hook", hook, raising=False)

    def noted(layer: Any) -> torch.device:
        asked.append(home(layer).index)
        return torch.device("cpu")

    monkeypatch.setattr("core.reduction.layers.home", noted)
    _, texts = answers(model, batch)
    assert texts == expected
    assert asked[:12] == [0, 1, 2, 3, 4, 5] * 2
