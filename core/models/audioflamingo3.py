"""Audio Flamingo 3 (NVIDIA, arXiv 2507.08128): Whisper encoder on windows of 30 s, Qwen2 decoder.

The processor writes the prompt of a transcription; that for captions is the demo's, the others are
free text. Answers come framed ("The spoken content of the audio is ..."): the frame goes, a full
stop or quotes of the sentence itself stay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .facts import PLAIN_WORDS, Family, Request
from .native import Transcribing

_FRAME = re.compile(
    r"""The\ (?:spoken\ content\ of\ the\ audio|transcription\ of\ the\ audio
    |content\ of\ the\ input\ audio)\ is\s+(["'])(.*)\1\.?""",
    re.DOTALL | re.VERBOSE,
)


class AudioFlamingo3(Transcribing):
    """Adapter of `AudioFlamingo3ForConditionalGeneration`."""

    about = Family(
        example="nvidia/audio-flamingo-3-hf",
        tasks=("asr", "er", "sv", "sqa", "ac", "chat"),
        max_seconds=600.0,
        tokens_per_second=25.0,
        limits="licence for non-commercial use",
    )
    audio_first = False

    def words(self, request: Request) -> str:
        """The demo's for captions; ours for emotion and speakers."""
        words = PLAIN_WORDS | {
            "ac": "Please describe the audio in detail.",
        }
        return words.get(request.task, request.question or "")

    def text(self, ids: Sequence[int]) -> str:
        """The answer out of its frame."""
        answer = super().text(ids)
        framed = _FRAME.fullmatch(answer)
        return framed[2].strip() if framed else answer


FAMILY = AudioFlamingo3
