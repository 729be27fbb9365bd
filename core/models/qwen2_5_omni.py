"""Qwen2.5-Omni (Xu et al., arXiv 2503.20215), its thinker: audio in, text out.

Prompts: the cookbook `universal_audio_understanding` of QwenLM/Qwen2.5-Omni; the one for emotion
is that of Moonshot's Kimi-Audio-Evalkit, the one for speakers is ours. The processor cuts clips at
its window of 300 s without a word, so length is checked before.
"""

from __future__ import annotations

from ..records import Seconds
from .facts import EVERY_TASK, PLAIN_WORDS, Family, Request
from .native import HiddenStates, spoken, wanted

_HELPFUL = "You are a helpful assistant."


class Qwen25Omni(HiddenStates):
    """Adapter of `Qwen2_5OmniThinkerForConditionalGeneration`; a full checkpoint serves too."""

    about = Family(
        example="Qwen/Qwen2.5-Omni-7B",
        tasks=EVERY_TASK,
        max_seconds=300.0,
        tokens_per_second=25.0,
    )
    architecture = "Qwen2_5OmniThinkerForConditionalGeneration"
    ears = "Qwen2_5OmniProcessor"
    system = dict.fromkeys(EVERY_TASK, _HELPFUL) | {
        "asr": "You are a speech recognition model.",
        "st": "You are a speech translation model.",
        "er": "You are a speech emotion recognition model.",
    }
    audio_first = False

    @property
    def max_seconds(self) -> Seconds:
        """What the checkpoint's extractor takes before it cuts."""
        samples: Seconds = self.extractor.n_samples / self.extractor.sampling_rate
        return samples

    def words(self, request: Request) -> str:
        """The cookbook's."""
        heard = spoken("the", request, "audio")
        without = "without any" if request.language == "en" else "without including any"
        asr = f"Transcribe {heard} into text {without} punctuation marks."
        if request.language == "zh":
            asr = "请将这段中文语音转换为纯文本，去掉标点符号。"
        speech = spoken("the provided", request, "speech")
        words = PLAIN_WORDS | {
            "asr": asr,
            "st": f"Listen to {speech} and produce a translation in {wanted(request)} text.",
            "er": "Recognize the emotion with keywords in English.",
            "ac": "Describe the audio in one sentence.",
        }
        return words.get(request.task, request.question or "")


FAMILY = Qwen25Omni
