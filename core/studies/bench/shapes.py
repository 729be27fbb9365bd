"""Sizes of models that are measured, and models of these sizes with random weights.

A shape is a size and not an architecture: every decoder is a Qwen2, every encoder a Whisper of
transformers, which do the same arithmetic as the models that the shapes are named after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...engine.generate import Decoder
from ...errors import UsageError
from ...flops import DecoderShape, EncoderShape, PromptLengths

WINDOW_S = 30
"""Seconds that an encoder hears at once; it always pays for all of them."""

FRAMES = 50 * WINDOW_S
_BEFORE, _AFTER = 17, 14


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a speech language model.

    Attributes:
        decoder, encoder: as the cost model knows them.
        encoder_heads: attention heads of the encoder.
        tokens_per_second: audio tokens that the decoder sees.
    """

    decoder: DecoderShape
    encoder: EncoderShape
    encoder_heads: int
    tokens_per_second: float = 25.0

    def prompt(self, seconds: float) -> PromptLengths:
        """Token counts of a prompt with this much audio."""
        return PromptLengths(_BEFORE, round(seconds * self.tokens_per_second), _AFTER)


def windows_of(seconds: float) -> int:
    """Encoder windows that so much audio takes."""
    return -int(-seconds // WINDOW_S)


def _whisper_large(projected: int) -> EncoderShape:
    return EncoderShape(128, 1280, 32, 5120, projected)


SHAPES: dict[str, ModelShape] = {
    "tiny": ModelShape(DecoderShape(64, 3, 4, 2, 16, 96, 512), EncoderShape(80, 64, 2, 128, 64), 4),
    "embedded": ModelShape(
        DecoderShape(192, 8, 4, 4, 48, 512, 3320), EncoderShape(80, 192, 5, 768, 192), 4
    ),
    "small": ModelShape(
        DecoderShape(1024, 8, 16, 16, 64, 2816, 8192), EncoderShape(80, 512, 6, 2048, 1024), 8
    ),
    "voxtral-3b": ModelShape(
        DecoderShape(3072, 30, 32, 8, 128, 8192, 131072), _whisper_large(3072), 20, 12.5
    ),
    "qwen2-audio-7b": ModelShape(
        DecoderShape(4096, 32, 32, 32, 128, 11008, 156032), _whisper_large(4096), 20
    ),
}
"""By name. `tiny` is for trying the program out."""


def shape_of(name: str) -> ModelShape:
    """The shape of that name.

    Raises:
        UsageError: no such shape; the message lists the choices.
    """
    if name not in SHAPES:
        raise UsageError(f"unknown shape '{name}'; choose one of {', '.join(SHAPES)}")
    return SHAPES[name]


def build_decoder(shape: ModelShape, device: torch.device, dtype: torch.dtype) -> Any:
    """A Qwen2 language model of this size with random weights, as transformers runs it."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    size = shape.decoder
    config = Qwen2Config(
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=size.head_dim,
        intermediate_size=size.intermediate,
        vocab_size=size.vocab,
        max_position_embeddings=65536,
        attn_implementation="sdpa",
        dtype=dtype,
    )
    model = _random(Qwen2ForCausalLM, config, device)
    # every side makes as many tokens as it is told to
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def parts(model: Any) -> Decoder:
    """What this project's generation needs of it."""
    return Decoder(model.model, model.lm_head, model.get_input_embeddings(), ())


def build_encoder(shape: ModelShape, device: torch.device, dtype: torch.dtype) -> Any:
    """A Whisper encoder of this size with random weights, its projector left out."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    size = shape.encoder
    config = WhisperConfig(
        num_mel_bins=size.mels,
        encoder_layers=size.layers,
        encoder_attention_heads=shape.encoder_heads,
        encoder_ffn_dim=size.intermediate,
        d_model=size.width,
        max_source_positions=FRAMES,
        attn_implementation="sdpa",
        dtype=dtype,
    )
    return _random(WhisperEncoder, config, device)


def _random(architecture: Any, config: Any, device: torch.device) -> Any:
    """A model with the same random weights every time, in the config's dtype."""
    torch.manual_seed(0)
    with device:
        return architecture(config).eval().to(device, config.dtype)


def audio_like(prompt: PromptLengths, like: Tensor, batch: int) -> Tensor:
    """Random embeddings whose neighbours are alike, as audio tokens are: (batch, total, hidden)."""
    torch.manual_seed(1)
    noise = torch.randn(batch, prompt.total, like.shape[-1])
    mixed = 0.5 * noise + noise.roll(1, 1) + noise.roll(2, 1)
    return mixed.to(like.device, like.dtype)
