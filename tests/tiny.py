"""Builders of tiny random models and of ragged prompts with audio inside.

The weights are drawn so that attention is peaked, logits are far apart and greedy output wanders:
with the default initialisation a decoder this small is nearly linear, and wrong code passes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import Qwen2AudioForConditionalGeneration

PAD, BOS, EOS, AUDIO = 0, 1, 2, 127
VOCABULARY = 128
MEL_BINS = 16
WINDOW = 100  # encoder positions: 2 mel frames in, half an audio token out
FIRST_TEXT, LAST_TEXT = 3, 126

# What a fan-in scaled weight is multiplied with. Queries and keys louder: peaked attention.
# The head louder: logits far apart.
GAINS = {"q_proj": 1.8, "k_proj": 1.8, "v_proj": 1.2, "o_proj": 1.2, "lm_head": 3.0}


@cache
def tiny_qwen2_audio(kv_heads: int = 4, seed: int = 0) -> Qwen2AudioForConditionalGeneration:
    """A random Qwen2-Audio of six decoder layers, float32, in eval mode.

    Cached: whoever changes the model must put it back.
    """
    from transformers import (
        Qwen2AudioConfig,
        Qwen2AudioEncoderConfig,
        Qwen2AudioForConditionalGeneration,
        Qwen2Config,
    )

    text = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        max_position_embeddings=1024,
        pad_token_id=PAD,
        bos_token_id=BOS,
    )
    audio = Qwen2AudioEncoderConfig(
        num_mel_bins=MEL_BINS,
        encoder_layers=2,
        encoder_attention_heads=4,
        encoder_ffn_dim=64,
        d_model=32,
        max_source_positions=WINDOW,
    )
    config = Qwen2AudioConfig(audio_config=audio, text_config=text, audio_token_index=AUDIO)
    model = Qwen2AudioForConditionalGeneration(config).float().eval()
    _draw_weights(model, seed)
    model.requires_grad_(False)
    model.generation_config.pad_token_id = PAD
    # no end token by default: a test that wants one passes it
    model.generation_config.eos_token_id = None
    return model


def _draw_weights(model: Qwen2AudioForConditionalGeneration, seed: int) -> None:
    """Overwrite every parameter from one generator, whatever the library's own initialisation."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            owner = name.split(".")[-2]
            if "norm" in owner:
                offset = 1.0 if name.endswith("weight") else 0.0
                parameter.copy_(offset + 0.2 * noise)
            elif owner == "embed_positions":
                parameter.copy_(_sinusoids(*parameter.shape))
            elif owner == "embed_tokens":
                parameter.copy_(noise)
            elif parameter.dim() == 1:
                parameter.copy_(0.3 * noise)
            else:
                fan_in = math.prod(parameter.shape[1:])
                parameter.copy_(noise * GAINS.get(owner, 1.0) / math.sqrt(fan_in))
        # never the best token: a generated row can then be cut at its padding
        head = model.get_output_embeddings().weight
        head[[PAD, AUDIO]] = 0.0


def _sinusoids(length: int, channels: int) -> Tensor:
    """Whisper's fixed positions: sines in the first half of the channels, cosines in the second."""
    half = channels // 2
    rates = torch.exp(-math.log(10000.0) / (half - 1) * torch.arange(half))
    angles = torch.arange(length)[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Left-padded prompts, each with one span of audio rows, ready for a forward or `generate`.

    Shapes: B prompts, S padded tokens, d hidden size.
    """

    input_ids: Tensor  # [B, S], the audio token's id at audio
    attention_mask: Tensor  # [B, S], 1 at tokens and 0 at padding
    inputs_embeds: Tensor  # [B, S, d]
    audio_mask: Tensor  # [B, S] bool

    def __len__(self) -> int:
        """How many prompts there are."""
        return len(self.input_ids)

    def row(self, index: int) -> tuple[Tensor, tuple[int, int]]:
        """One prompt without its padding: embeddings [n, d] and the half-open audio span."""
        kept = self.attention_mask[index].bool()
        audio = self.audio_mask[index][kept].nonzero().flatten().tolist()
        span = (audio[0], audio[-1] + 1) if audio else (0, 0)
        return self.inputs_embeds[index][kept], span

    def single(self, index: int) -> PromptBatch:
        """One prompt as a batch of its own, without padding."""
        kept = self.attention_mask[index].bool()
        return PromptBatch(
            self.input_ids[index][kept][None],
            self.attention_mask[index][kept][None],
            self.inputs_embeds[index][kept][None],
            self.audio_mask[index][kept][None],
        )


def prompt_batch(
    model: Qwen2AudioForConditionalGeneration,
    audio_lengths: Sequence[int],
    text_before: int | Sequence[int] = 3,
    text_after: int | Sequence[int] = 4,
    seed: int = 0,
) -> PromptBatch:
    """Ragged prompts: text, audio, text. The text lengths are one number or one for each row."""
    draw = torch.Generator().manual_seed(seed)
    table = model.get_input_embeddings().weight.detach()
    rows = []
    for audio, before, after in zip(
        audio_lengths,
        _for_each(text_before, len(audio_lengths)),
        _for_each(text_after, len(audio_lengths)),
        strict=True,
    ):
        text = torch.randint(FIRST_TEXT, LAST_TEXT + 1, (before + after,), generator=draw)
        ids = torch.cat([text[:before], torch.full((audio,), AUDIO), text[before:]])
        embeds = table[ids].clone()
        embeds[before : before + audio] = _smooth_walk(audio, table.shape[1], draw)
        rows.append((ids, embeds))
    return _left_padded(rows, table[PAD])


def _for_each(length: int | Sequence[int], rows: int) -> list[int]:
    return [length] * rows if isinstance(length, int) else list(length)


def _smooth_walk(length: int, channels: int, draw: torch.Generator) -> Tensor:
    """Rows of unit variance which now linger and now jump, like speech: no two pairs are alike."""
    stay = 0.3 + 0.69 * torch.rand(length, generator=draw)
    fresh = torch.randn(length, channels, generator=draw)
    rows = [fresh[0]] if length else []
    for i in range(1, length):
        rows.append(stay[i] * rows[-1] + math.sqrt(1 - stay[i] ** 2) * fresh[i])
    return torch.stack(rows) if rows else fresh


def _left_padded(rows: list[tuple[Tensor, Tensor]], padding: Tensor) -> PromptBatch:
    longest = max(len(ids) for ids, _ in rows)
    input_ids = torch.full((len(rows), longest), PAD)
    attention_mask = torch.zeros(len(rows), longest, dtype=torch.long)
    # a real embedding, not zeros: code which looks at the padding must get a different answer
    inputs_embeds = padding.repeat(len(rows), longest, 1)
    for i, (ids, embeds) in enumerate(rows):
        start = longest - len(ids)
        input_ids[i, start:] = ids
        attention_mask[i, start:] = 1
        inputs_embeds[i, start:] = embeds
    return PromptBatch(input_ids, attention_mask, inputs_embeds, input_ids == AUDIO)
