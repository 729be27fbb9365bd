"""Qwen-Audio and Qwen-Audio-Chat (Chu et al., arXiv 2311.07919), after `fastadasp convert`.

The architecture of Qwen2-Audio on 80 mel bins. Two rules of the original are kept here: a clip has
the whole frames of its samples, and behind the pairs of frames that it fills the encoder sees
zeros, not silence. The pretrained model is asked by tags, those of its published evaluations, and
has to be told the spoken language; the chat model by the words of the published tutorial
(translation: ours). Beyond its positions the original rotates and scales otherwise, see
`core/convert/qwen_audio.py`: prompt and answer end there.
"""

from __future__ import annotations

from ..records import Waveform
from .facts import Family, Request, language_name
from .qwen2_audio import SHORTEST_MEL_FRAMES, Mel, Qwen2Audio

_LANGUAGES = ("en", "zh", "de", "es", "ko", "fr", "ja", "it")


class QwenAudio(Qwen2Audio):
    """Adapter of converted checkpoints; their card says `"family": "qwen_audio"`."""

    about = Family(
        example="Qwen/Qwen-Audio-Chat",
        tasks=("asr", "st", "er", "sqa", "ac", "chat"),
        max_seconds=30.0,
        tokens_per_second=25.0,
        source_languages=_LANGUAGES,
        target_languages=_LANGUAGES,
        chunk_seconds=None,
        limits="fastadasp convert qwen-audio comes first; 2048 positions for prompt and answer",
    )
    bounded = True

    @property
    def _chats(self) -> bool:
        """Whether this is the chat model: the other one's card leaves the task out."""
        return "chat" in self.facts.tasks

    @property
    def detects(self) -> bool:
        """The chat model does; the pretrained one is told by a tag."""
        return self._chats

    def words(self, request: Request) -> str:
        """Words for the chat model, tags for the pretrained one."""
        return _said(request) if self._chats else _tagged(request)

    def features(self, waveform: Waveform) -> Mel:
        """Whole frames only, and zeros behind the pairs that they fill."""
        mel = super().features(waveform)
        hop = self.extractor.hop_length
        real = max(SHORTEST_MEL_FRAMES, len(waveform) // hop)
        frames = mel.frames.clone()
        frames[:, real + real % 2 :] = 0
        return Mel(frames, real)


def _said(request: Request) -> str:
    target = language_name(request.target_language) or "English"
    words = {
        "asr": "Recognize the speech",
        "st": f"Translate the speech into {target}",
        "er": "What is his emotion",
        "sqa": request.question or "",
        "ac": "what is that sound?",
        "chat": request.question or "",
    }
    return words[request.task]


def _tagged(request: Request) -> str:
    """What is wanted, the spoken language, the task, the language of the answer, its style."""
    spoken = f"<|{request.language or 'en'}|>"
    target = f"<|{request.target_language or 'en'}|>"
    untimed = "<|notimestamps|>"
    tags = {
        "asr": f"{spoken}<|transcribe|>{spoken}{untimed}<|wo_itn|>",
        "st": f"{spoken}<|translate|>{target}{untimed}<|itn|>",
        "er": f"{spoken}<|keyword|><|en|>{untimed}<|emotion_recognition|>",
        "sqa": f"{spoken}<|question|>{request.question or ''}<|answer|>",
        "ac": f"<|unknown|><|caption|><|en|>{untimed}<|caption_audiocaps|>",
    }
    start = "<|startoftranscript|>" if request.task in ("asr", "st") else "<|startofanalysis|>"
    return start + tags[request.task]


FAMILY = QwenAudio
