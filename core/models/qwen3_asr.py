"""Qwen3-ASR (arXiv 2601.21337): an encoder of 8 s windows, Qwen3 as decoder, transcription only.

The processor writes the prompt; a known language is forced by it, an unknown one is detected and
stands before the text, from which the processor's own decoding takes it away. Words of the user's
own are context for it, not an instruction.
"""

from __future__ import annotations

from typing import Any

from .facts import Family, Request
from .native import Framing


class Qwen3Asr(Framing):
    """Adapter of `Qwen3ASRForConditionalGeneration` (the `-hf` checkpoints)."""

    about = Family(
        example="Qwen/Qwen3-ASR-1.7B-hf",
        tasks=("asr",),
        max_seconds=1200.0,
        tokens_per_second=13.0,
        source_languages=(
            *("ar", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fil", "fr", "hi", "hu", "id"),
            *("it", "ja", "ko", "mk", "ms", "nl", "pl", "pt", "ro", "ru", "sv", "th", "tr", "vi"),
            *("yue", "zh"),
        ),
    )
    # its convolutions see the padding of a shorter neighbour
    together = False

    def _wanted(self, request: Request) -> dict[str, Any]:
        return super()._wanted(request) | {"language": request.language}


FAMILY = Qwen3Asr
