"""Qwen2-Audio (Chu et al., arXiv 2407.10759) and every model of its architecture.

Whisper-like encoder on windows of exactly 30 s, average pooling to 25 tokens a second, a linear
projector, Qwen2 as decoder. Its processor cuts longer audio without a word, so length is checked
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import create_bidirectional_mask

from ..errors import TranscriptionError
from ..flops import EncoderShape
from ..records import Waveform
from .base import LANGUAGES, Facts, Request, SpeechLM

# the pretrained (not instruction-tuned) checkpoint knows no chat markup
RAW_PROMPTS = frozenset({"Qwen/Qwen2-Audio-7B"})
_SHORTEST_MEL_FRAMES = 8


class Qwen2Audio(SpeechLM):
    """Adapter of `Qwen2AudioForConditionalGeneration`."""

    @property
    def facts(self) -> Facts:
        """Window and rate of the feature extractor; tasks of the card or all of them."""
        extractor, card = self.processor.feature_extractor, self.card
        tasks = card.get("tasks") or ("asr", "st", "er", "sv", "sqa", "ac", "chat")
        return Facts(
            sample_rate=extractor.sampling_rate,
            max_seconds=float(extractor.chunk_length),
            chunk_seconds=card.get("chunk_seconds"),
            tokens_per_second=extractor.sampling_rate / extractor.hop_length / 4,
            tasks=tuple(tasks),
            source_languages=_codes(card.get("source_languages")),
            target_languages=_codes(card.get("target_languages")),
        )

    @property
    def encoder_shape(self) -> EncoderShape:
        """Sizes of one padded window."""
        audio, text = self.model.config.audio_config, self.model.config.get_text_config()
        return EncoderShape(
            mels=audio.num_mel_bins,
            width=audio.d_model,
            layers=audio.encoder_layers,
            intermediate=audio.encoder_ffn_dim,
            frames=audio.max_source_positions,
            tokens=audio.max_source_positions // 2,
            projected=text.hidden_size,
        )

    def instruction(self, request: Request) -> str:
        """The card's words for the task, else those of the published evaluations."""
        own = self.card.get("prompts", {}).get(request.task)
        target = _language(request.target_language) or "English"
        if own is not None:
            return str(own).format(question=request.question or "", target=target.lower())
        tag = f" <|{request.language}|>" if request.language else ""
        words = {
            "asr": f"Detect the language and recognize the speech:{tag}",
            "st": f"Detect the language and translate the speech into {target}:{tag}",
            "er": "Recognize the emotion with keywords in English:",
            "sv": "Is there one speaker or are there several speakers? Answer one or several:",
            "sqa": f"{request.question} The answer is:",
            "ac": "Generate the caption in English:",
            "chat": request.question or "",
        }
        return words[request.task]

    def prompt(self, instruction: str) -> str:
        """Chat markup with the audio before the words; raw for the pretrained checkpoint."""
        if self.name in RAW_PROMPTS:
            processor = self.processor
            audio = f"{processor.audio_bos_token}{processor.audio_token}{processor.audio_eos_token}"
            return audio + instruction
        content = [{"type": "audio", "audio_url": ""}, {"type": "text", "text": instruction}]
        text: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        return text

    def encode(self, waveforms: Sequence[Waveform]) -> list[Tensor]:
        """Audio tokens of each waveform, 25 a second: (audio tokens, hidden) each."""
        extractor = self.processor.feature_extractor
        waves = self._checked(waveforms, _SHORTEST_MEL_FRAMES * extractor.hop_length)
        made = extractor(
            waves,
            sampling_rate=extractor.sampling_rate,
            padding="max_length",
            return_attention_mask=True,
            return_tensors="pt",
        )
        frames: list[int] = made["attention_mask"].sum(-1).tolist()
        given = [-(-len(wave) // extractor.hop_length) for wave in waves]
        if frames != given:
            raise TranscriptionError(
                f"the processor kept {frames} of {given} frames; use a smaller --chunk-length"
            )
        pooled = self._tower(made["input_features"], frames)
        return [
            row[: ((frame - 1) // 2 - 1) // 2 + 1]
            for row, frame in zip(pooled, frames, strict=True)
        ]

    def _tower(self, features: Tensor, frames: Sequence[int]) -> Tensor:
        """Encoder and projector over padded windows: (batch, tokens, hidden)."""
        model = self.model.model
        tower = model.audio_tower
        positions = self.model.config.audio_config.max_source_positions
        lengths = torch.tensor([(frame - 1) // 2 + 1 for frame in frames])
        visible = (torch.arange(positions) < lengths.unsqueeze(1)).long().to(self.device)
        mask = create_bidirectional_mask(
            config=tower.config,
            inputs_embeds=torch.zeros(
                len(frames), positions, 1, dtype=self.dtype, device=self.device
            ),
            attention_mask=visible,
        )
        features = features.to(self.device, self.dtype)
        encoded = tower(features, attention_mask=mask).last_hidden_state
        projected: Tensor = model.multi_modal_projector(encoded)
        return projected


def _codes(value: Any) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)


def _language(code: str | None) -> str | None:
    return LANGUAGES.get(code, code) if code else None


FAMILY = Qwen2Audio
