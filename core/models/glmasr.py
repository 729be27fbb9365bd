"""GLM-ASR-Nano (Zhipu AI): Whisper-like encoder with rotary positions, Llama decoder.

Transcription only, with the processor's own prompt. Beyond 30 s the original code frames each
window of audio by itself and transformers frames them all together: pieces stay under 30 s.
"""

from __future__ import annotations

from .facts import Family
from .native import Transcribing


class GlmAsr(Transcribing):
    """Adapter of `GlmAsrForConditionalGeneration`."""

    about = Family(
        example="zai-org/GLM-ASR-Nano-2512",
        tasks=("asr",),
        max_seconds=30.0,
        tokens_per_second=12.5,
    )


FAMILY = GlmAsr
