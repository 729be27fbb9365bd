"""Voxtral (Mistral, arXiv 2507.13264): Whisper encoder, four frames to a token, Llama decoder.

Transcription is a mode of its own, written by mistral-common, not by a chat template. Audio is
padded up to blocks of 30 s, so that a clip of 1 s costs 375 tokens like one of 30 s: pieces close
to 30 s are the cheapest. There is no official prompt but transcription; the others are ours.
"""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from ..records import Seconds, Waveform
from .facts import EVERY_TASK, PLAIN_WORDS, Family, Request
from .native import Transcribing, around, wanted

_BLOCK_SECONDS, _BLOCK_TOKENS = 30, 375
_LANGUAGES = ("en", "es", "fr", "pt", "hi", "de", "nl", "it")


class Voxtral(Transcribing):
    """Adapter of `VoxtralForConditionalGeneration`."""

    about = Family(
        example="mistralai/Voxtral-Mini-3B-2507",
        tasks=EVERY_TASK,
        max_seconds=1800.0,
        tokens_per_second=_BLOCK_TOKENS / _BLOCK_SECONDS,
        source_languages=_LANGUAGES,
        target_languages=_LANGUAGES,
        needs="mistral-common",
    )

    def audio_tokens(self, seconds: Seconds) -> int:
        """Those of whole blocks."""
        return max(1, math.ceil(seconds / _BLOCK_SECONDS)) * _BLOCK_TOKENS

    def words(self, request: Request) -> str:
        """Plain requests: the chat mode has no official ones."""
        words = PLAIN_WORDS | {
            "st": f"Translate this speech into {wanted(request)}. Output only the translation.",
            "ac": "Describe briefly what you can hear.",
        }
        return words.get(request.task, request.question or "")

    def prompt_ids(
        self, request: Request, seconds: Seconds | None = None
    ) -> tuple[list[int], list[int]]:
        """Transcription mode for asr without words of the user's own, else the chat mode."""
        if request.task == "asr" and not request.prompt:
            return super().prompt_ids(request, seconds)
        made = self.processor.apply_chat_template(self.messages(request), return_tensors="pt")
        ids: list[int] = made["input_ids"][0].tolist()
        return around(ids, self.audio_id)

    def messages(self, request: Request) -> list[dict[str, Any]]:
        """The conversation with a second of silence: mistral-common wants to see real audio."""
        wave = io.BytesIO()
        rate = self.extractor.sampling_rate
        soundfile.write(wave, np.zeros(rate, np.float32), rate, format="wav")
        turns = super().messages(request)
        sound = "data:audio/wav;base64," + base64.b64encode(wave.getvalue()).decode()
        turns[-1]["content"][0] = {"type": "audio", "base64": sound}
        return turns

    def _wanted(self, request: Request) -> dict[str, Any]:
        # the name only fills a field of the request: it reaches no token
        return {"model_id": self.name, "language": request.language}

    @property
    def _request_options(self) -> dict[str, Any]:
        return {"sampling_rate": self.extractor.sampling_rate, "format": "wav"}

    def _inputs(self, waves: list[Waveform]) -> tuple[dict[str, Tensor], list[int]]:
        # its processor takes audio only inside a conversation, through a wav file
        extractor = self.extractor
        block = _BLOCK_SECONDS * extractor.sampling_rate
        made = [
            extractor(
                wave,
                sampling_rate=extractor.sampling_rate,
                padding=True,
                truncation=False,
                pad_to_multiple_of=block,
                return_tensors="pt",
            )["input_features"][0]
            for wave in waves
        ]
        frames = block // extractor.hop_length
        blocks = [features.unflatten(1, (-1, frames)).transpose(0, 1) for features in made]
        return {"input_features": torch.cat(blocks)}, [len(rows) * _BLOCK_TOKENS for rows in blocks]


FAMILY = Voxtral
