"""Qwen3-Omni (arXiv 2509.17765), its thinker: a mixture of experts that hears and writes.

Prompts: the evaluation settings in the README of QwenLM/Qwen3-Omni (no system turn, audio before
words) and its cookbooks; those for emotion and speakers are Qwen2.5-Omni's and ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from .facts import EVERY_TASK, PLAIN_WORDS, Family, Request
from .native import HiddenStates, spoken, wanted

_END_OF_THOUGHT = "</think>"


class Qwen3OmniMoe(HiddenStates):
    """Adapter of `Qwen3OmniMoeThinkerForConditionalGeneration`; a full checkpoint serves too."""

    about = Family(
        example="Qwen/Qwen3-Omni-30B-A3B-Instruct",
        tasks=EVERY_TASK,
        max_seconds=1200.0,
        tokens_per_second=13.0,
        source_languages=(
            *("en", "zh", "ko", "ja", "de", "ru", "it", "fr", "es", "pt"),
            *("ms", "nl", "id", "tr", "vi", "yue", "ar", "ur"),
        ),
    )
    # its convolutions see the padding of a shorter neighbour
    together = False
    architecture = "Qwen3OmniMoeThinkerForConditionalGeneration"
    ears = "Qwen3OmniMoeProcessor"

    def words(self, request: Request) -> str:
        """The README's."""
        heard = spoken("the", request, "audio")
        speech = spoken("the provided", request, "speech")
        words = PLAIN_WORDS | {
            "asr": "请将这段中文语音转换为纯文本。"
            if request.language == "zh"
            else f"Transcribe {heard} into text.",
            "st": f"Listen to {speech} and produce a translation in {wanted(request)} text.",
            "er": "Recognize the emotion with keywords in English.",
            "ac": "Give the detailed description of the audio.",
        }
        return words.get(request.task, request.question or "")

    def text(self, ids: Sequence[int]) -> str:
        """The answer without the thoughts before it."""
        return super().text(ids).rpartition(_END_OF_THOUGHT)[2].strip()


FAMILY = Qwen3OmniMoe
