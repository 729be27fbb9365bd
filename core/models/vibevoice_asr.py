"""VibeVoice-ASR (Microsoft): two convolutional tokenizers at 24 kHz, Qwen2 as decoder.

The prompt names the length of the audio; the answer is a JSON list of turns with times and
speakers, of which the words are kept. Words of the user's own are context, not an instruction.
The model adds noise to what it hears; it is left out: a recording gives the same text twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import StartError
from .facts import Family
from .native import Framing


class VibeVoiceAsr(Framing):
    """Adapter of `VibeVoiceAsrForConditionalGeneration`."""

    about = Family(
        example="microsoft/VibeVoice-ASR-HF",
        tasks=("asr",),
        max_seconds=3600.0,
        tokens_per_second=7.5,
        limits="speakers and times that it writes are dropped",
    )
    names_seconds = True

    @classmethod
    def prepare(cls, model: Any, place: str, how: Mapping[str, Any]) -> None:
        """Leave out the noise, in a way that every version of transformers knows.

        Raises:
            StartError: this one does not.
        """
        encoder = model.config.acoustic_tokenizer_encoder_config
        if not hasattr(encoder, "vae_std"):
            raise StartError(
                f"this transformers names the noise that {place} adds in another way; install a"
                " version that fastadasp asks for, see fastadasp doctor"
            )
        encoder.vae_std = 0.0


FAMILY = VibeVoiceAsr
