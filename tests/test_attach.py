"""A decoder whose layers are of another form is refused, and still runs in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core.engine import Engine
from core.errors import UsageError
from core.models import load_model
from core.models.base import Request, SpeechLM
from core.reduction import attach, why_not
from tests.engine.made import CARD, config, segments
from tests.folders import save_tiny

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
}


@pytest.fixture
def lm(tmp_path: Path) -> SpeechLM:
    """A model of its own: these tests change it."""
    return load_model(str(save_tiny(tmp_path, CARD)), device="cpu")


def asked(lm: SpeechLM) -> str | None:
    return why_not(lm.decoder, lm.model.get_input_embeddings())


def loud(decoder: Any) -> None:
    """Weights that let every part of a layer count."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draw))


def test_a_decoder_of_the_form_is_taken(lm: SpeechLM) -> None:
    forwards = [layer.__dict__.get("forward") for layer in lm.decoder.layers]
    assert asked(lm) is None
    assert [layer.__dict__.get("forward") for layer in lm.decoder.layers] == forwards


def test_granites_scaled_residuals_are_of_the_form() -> None:
    from transformers import GraniteConfig, GraniteModel

    scales = {"residual_multiplier": 0.3, "embedding_multiplier": 5.0}
    decoder = GraniteModel(GraniteConfig(**SIZES, **scales, attention_multiplier=0.2)).eval()
    loud(decoder)
    assert why_not(decoder, decoder.get_input_embeddings()) is None


def test_gemmas_extra_norms_are_not() -> None:
    from transformers import Gemma2Config, Gemma2Model

    decoder = Gemma2Model(Gemma2Config(**SIZES, layer_types=["full_attention"] * 2)).eval()
    loud(decoder)
    reason = why_not(decoder, decoder.get_input_embeddings())
    assert reason is not None
    assert "taken apart, differ from their own forward by" in reason


def test_a_sliding_window_is_not() -> None:
    from transformers import Gemma2Config, Gemma2Model

    decoder = Gemma2Model(Gemma2Config(**SIZES)).eval()
    assert why_not(decoder, decoder.get_input_embeddings()) == "its layers use sliding attention"


def test_layers_of_other_parts_are_not() -> None:
    class Odd(nn.Module):
        layers = (nn.Linear(2, 2),)

    assert why_not(Odd(), nn.Embedding(4, 2)) == "its layers have no input_layernorm"


def test_what_is_refused_runs_in_full(lm: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = lm.decoder.layers[1]
    plain = layer.forward
    # something behind the MLP, as in Gemma's layers
    monkeypatch.setattr(layer, "forward", lambda *args, **more: -0.5 * plain(*args, **more))
    with pytest.raises(
        UsageError, match=r"cannot be reduced: its layers, .* by .*; use --reduce 0"
    ):
        Engine(lm, config(0.3))
    piece = segments(1.2)[0]
    with Engine(lm, config(0.0)) as engine:
        found = engine.run([piece])[0]
    inputs = lm.processor(
        text=[lm.prompt(Request("asr"))],
        audio=[piece.samples],
        sampling_rate=piece.sample_rate,
        return_tensors="pt",
    )
    own = lm.model.generate(**inputs, max_new_tokens=found.cost.generated, do_sample=False)
    assert found.error is None
    assert found.text == lm.text(own[0, inputs["input_ids"].shape[1] :].tolist())


def test_a_decoder_is_asked_once(lm: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(lm) is None
    monkeypatch.setattr(attach, "_try", lambda *_: pytest.fail("tried again"))
    assert asked(lm) is None


def test_keywords_may_be_copied_on_their_way_to_a_layer(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = []

    def moving(plain: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            # as accelerate does where layers lie on several devices
            fresh = {
                name: type(one)(one) if isinstance(one, list | tuple | dict) else one
                for name, one in kwargs.items()
            }
            copied.append(fresh.keys())
            return plain(*args, **fresh)

        return call

    for layer in lm.decoder.layers:
        monkeypatch.setattr(layer, "forward", moving(layer.forward))
        monkeypatch.setattr(layer.self_attn, "forward", moving(layer.self_attn.forward))
    assert asked(lm) is None
    assert copied
