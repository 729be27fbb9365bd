"""How a tiny random checkpoint of a family is made: sizes and weights alike for all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.tiny import GAINS

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
    "tie_word_embeddings": False,
}


@dataclass(frozen=True)
class Tiny:
    """What a family has of its own.

    Attributes:
        name: the family, = the file in `core/models`.
        config, model: their classes, by name where transformers has them.
        sizes: of the configuration, beside those of the decoder.
        processor: saves a processor into a folder and returns its tokenizer.
        audio: the token that stands for audio.
        text: what the decoder has of its own.
        request: what `apply_transcription_request` is told for English; None: it has no such thing.
        flat: whether the decoder is no part of its own in the configuration.
        official: what becomes of the processor's tensors in the family's own code; None: nothing.
        within: how far our logits at ratio 0 may be from those of transformers.
        needs: package without which its processor cannot be made.
    """

    name: str
    config: Any
    model: Any
    sizes: dict[str, Any]
    processor: Callable[[Path], Any]
    audio: str
    text: dict[str, Any] = field(default_factory=dict)
    request: dict[str, Any] | None = None
    flat: bool = False
    official: Callable[[Any], Any] | None = None
    within: float = 0.0
    needs: str = ""


def save(tiny: Tiny, folder: Path) -> Path:
    """Write a checkpoint of the family into `folder`."""
    import transformers

    made = tiny.processor(folder)
    audio = made.convert_tokens_to_ids(tiny.audio)
    text = TEXT | {"vocab_size": len(made)} | tiny.text
    sizes = tiny.sizes | {"text_config": text, "audio_token_id": audio}
    if tiny.flat:  # the decoder's sizes stand in the configuration itself
        sizes = text | tiny.sizes
        sizes["audio_config"] = tiny.sizes["audio_config"] | {"audio_token_id": audio}
    classes = (
        getattr(transformers, one) if isinstance(one, str) else one
        for one in (tiny.config, tiny.model)
    )
    config = next(classes)(**sizes)
    model = next(classes)(config).float().eval()
    silent = [made.pad_token_id, made.eos_token_id, audio]
    draw_weights(model, silent)
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = silent[:2]
    model.save_pretrained(folder)
    return folder


def draw_weights(model: Any, silent: list[int]) -> None:
    """Peaked attention and logits far apart, see `tests.tiny`; some ids are never answered."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            owner = name.split(".")[-2]
            if "norm" in owner or "norm" in name.split(".")[-1]:
                parameter.copy_((1.0 if name.endswith("weight") else 0.0) + 0.2 * noise)
            elif owner == "embed_tokens":
                parameter.copy_(noise)
            elif owner != "embed_positions":
                fan_in = math.prod(parameter.shape[1:]) if parameter.dim() > 1 else 10
                parameter.copy_(noise * GAINS.get(owner, 1.0) / math.sqrt(fan_in))
        # not even an end: every answer has the length asked for
        model.get_output_embeddings().weight[silent] = 0.0
