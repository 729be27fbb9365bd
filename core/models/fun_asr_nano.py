"""Fun-ASR-Nano (Alibaba, arXiv 2509.12508): SAN-M encoder on Kaldi features, Qwen3 decoder.

Transcription only, with the prompt of the checkpoint's own template. Words of the user's own are
context for it, not an instruction.
"""

from __future__ import annotations

from typing import Any

from .facts import Family, Request
from .native import Transcribing


class FunAsrNano(Transcribing):
    """Adapter of `FunAsrNanoForConditionalGeneration`."""

    about = Family(
        example="FunAudioLLM/Fun-ASR-Nano-2512-hf",
        tasks=("asr",),
        max_seconds=30.0,
        tokens_per_second=100 / 6,
        source_languages=("zh", "en", "ja"),
        needs="torchaudio",
    )
    # its memory blocks see the padding of a shorter neighbour
    together = False

    def _wanted(self, request: Request) -> dict[str, Any]:
        return super()._wanted(request) | {"language": request.language}


FAMILY = FunAsrNano
