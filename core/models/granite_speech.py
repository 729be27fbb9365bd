"""Granite Speech (IBM, arXiv 2505.08699): conformer encoder, Q-Former, Granite decoder with a LoRA.

Prompts: the model cards' and the training list of ibm-granite/granite-speech-models. Asked for
anything else it transcribes; questions are answered in a second pass on the text, without audio.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .facts import Family, Request, language_name
from .native import Native
from .weights import load_adapter

_SPOKEN = ("en", "fr", "de", "es", "pt", "ja")
# the first generation's template puts the day's date there, so that no two days ask alike
_DATED = "Knowledge Cutoff Date"
_SYSTEM = (
    "Knowledge Cutoff Date: April 2024.\nToday's Date: April 9, 2025.\n"
    "You are Granite, developed by IBM. You are a helpful AI assistant"
)


class GraniteSpeech(Native):
    """Adapter of `GraniteSpeechForConditionalGeneration`."""

    about = Family(
        example="ibm-granite/granite-speech-3.3-8b",
        tasks=("asr", "st"),
        max_seconds=300.0,
        tokens_per_second=10.0,
        source_languages=_SPOKEN,
        target_languages=(*_SPOKEN, "it", "zh"),
        through_english=True,
        needs="torchaudio",
    )
    # the encoder has no mask: padding would be heard
    together = False

    @classmethod
    def prepare(cls, model: Any, place: str, how: Mapping[str, Any]) -> None:
        """Load the LoRA that hears, which lies beside the weights."""
        if model.config.has_lora_adapter:
            load_adapter(model, place, "", how)

    @property
    def extractor(self) -> Any:
        """What makes features of waveforms."""
        return self.processor.audio_processor

    def words(self, request: Request) -> str:
        """Those of the model cards."""
        if request.task == "asr":
            return "can you transcribe the speech into a written format?"
        target = request.target_language
        name = "Mandarin" if target == "zh" else language_name(target)
        return f"translate the speech to {name}."

    def messages(self, request: Request) -> list[dict[str, Any]]:
        """Plain text with the audio's token in it: so the template wants it."""
        words = self.processor.audio_token + self.instruction(request)
        turns = [{"role": "user", "content": words}]
        template = self.processor.chat_template or self.processor.tokenizer.chat_template or ""
        if _DATED in template:
            turns.insert(0, {"role": "system", "content": _SYSTEM})
        return turns

    @property
    def _audio_options(self) -> dict[str, Any]:
        return {}

    def _features(self, inputs: dict[str, Tensor]) -> Tensor:
        features = inputs["input_features"]
        states: Tensor = self.model.get_audio_features(features, return_dict=True).pooler_output
        return states[inputs["input_features_mask"]]


FAMILY = GraniteSpeech
