"""The embedded model: a small `Qwen2AudioForConditionalGeneration` and how it starts.

Knows the architecture and its initial weights, nothing of data or losses.
"""

import math
from typing import Any

import torch
from torch import nn
from transformers import (
    Qwen2AudioConfig,
    Qwen2AudioEncoderConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2Config,
)

from .features import N_MELS
from .tokens import AUDIO

WIDTH = 192
HEADS = 4
ENCODER_LAYERS = 5
DECODER_LAYERS = 8
DECODER_FFN = 512
MAX_FRAMES = 1500
"""Encoder frames in 30 s: the standard window."""

PHONE_LAYER = 3
"""The phoneme loss reads the encoder after this many layers."""

SEEKING_LAYER = 3
"""The decoder layer one head of which is told to look from what a question names at where it is
said."""

READING_LAYER = 6
"""The loss on what fits a question reads the decoder after this many layers."""

_WINDOW_SHIFTS = (-4, 0, 4)  # frames; where the encoder's heads look at first
_RESIDUAL_OUTPUTS = ("out_proj", "o_proj", "fc2", "down_proj")


def build_model(processor: Any) -> Any:
    """Return a freshly initialised model that fits the processor's tokens. Uses torch's seed."""
    model: Any = Qwen2AudioForConditionalGeneration(_config(processor.tokenizer))
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    with torch.no_grad():
        _initialise(model)
    return model


def _config(tokenizer: Any) -> Qwen2AudioConfig:
    vocabulary = -(-len(tokenizer) // 8) * 8
    encoder = Qwen2AudioEncoderConfig(
        num_mel_bins=N_MELS,
        encoder_layers=ENCODER_LAYERS,
        encoder_attention_heads=HEADS,
        encoder_ffn_dim=4 * WIDTH,
        d_model=WIDTH,
        max_source_positions=MAX_FRAMES,
    )
    decoder = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=DECODER_FFN,
        num_hidden_layers=DECODER_LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=2048,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    audio = tokenizer.convert_tokens_to_ids(AUDIO)
    return Qwen2AudioConfig(audio_config=encoder, text_config=decoder, audio_token_index=audio)


def _initialise(model: Any) -> None:
    """Overwrite the library's start (std 0.02), from which a small model learns too slowly."""
    tower, decoder = model.model.audio_tower, model.model.language_model
    for convolution in (tower.conv1, tower.conv2):
        convolution.reset_parameters()
        convolution.weight.mul_(2)
    for layer in [*tower.layers, *decoder.layers]:
        for name, weight in layer.named_parameters():
            if weight.dim() == 2:
                scale = 0.5 if any(part in name for part in _RESIDUAL_OUTPUTS) else 1.0
                nn.init.normal_(weight, 0.0, scale * weight.shape[1] ** -0.5)
    nn.init.normal_(model.model.multi_modal_projector.linear.weight, 0.0, WIDTH**-0.5)
    nn.init.normal_(decoder.embed_tokens.weight, 0.0, 0.7)
    nn.init.normal_(model.lm_head.weight, 0.0, 0.5 * WIDTH**-0.5)
    # half amplitude: the convolutions' output must not drown in the positions
    tower.embed_positions.weight.copy_(0.5 * sinusoids(MAX_FRAMES, WIDTH))
    for index, layer in enumerate(tower.layers):
        _look_nearby(layer.self_attn, reach=1 if index < 2 else 3, gain=1.4 if index < 2 else 1.0)


def sinusoids(length: int, width: int) -> torch.Tensor:
    """Return Whisper's position table (length, width): sines in the first half, then cosines."""
    angles = torch.arange(length)[:, None] * _frequencies(width)[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _frequencies(width: int) -> torch.Tensor:
    half = width // 2
    return torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half))


def _look_nearby(attention: Any, reach: int, gain: float) -> None:
    """Start each head as a soft window at a fixed distance, in frames, from its query.

    Keys read the fastest sines and cosines of the position, queries the same ones turned by the
    distance, so that their product peaks there.
    """
    half, width = WIDTH // 2, WIDTH // HEADS
    pairs = width // 2
    index = torch.arange(pairs)
    frequencies = _frequencies(WIDTH)[:pairs]
    for head in range(HEADS):
        angle = frequencies * (_WINDOW_SHIFTS[head % len(_WINDOW_SHIFTS)] * reach)
        query, key = torch.zeros(width, WIDTH), torch.zeros(width, WIDTH)
        key[index, index] = 1.0
        key[pairs + index, half + index] = 1.0
        query[index, index] = query[pairs + index, half + index] = angle.cos()
        query[index, half + index] = angle.sin()
        query[pairs + index, index] = -angle.sin()
        rows = slice(head * width, (head + 1) * width)
        attention.q_proj.weight[rows].mul_(0.3).add_(query * gain)
        attention.k_proj.weight[rows].mul_(0.3).add_(key * gain)
