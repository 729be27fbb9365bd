"""What is said about models and asked of them, in plain records: no torch at run time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..languages import english_name
from ..records import Seconds

if TYPE_CHECKING:
    from torch import Tensor

LANGUAGES = {
    "ar": "Arabic",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fa": "Persian",
    "fi": "Finnish",
    "fil": "Filipino",
    "fr": "French",
    "hi": "Hindi",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "mk": "Macedonian",
    "ms": "Malay",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "ur": "Urdu",
    "vi": "Vietnamese",
    "yue": "Cantonese",
    "zh": "Chinese",
}
"""English names of the languages that families name in their prompts."""

EVERY_TASK = ("asr", "st", "er", "sv", "sqa", "ac", "chat")


PLAIN_WORDS = {
    "er": "What is the emotion of the speaker? Answer with one word.",
    "sv": "Is there one speaker or are there several speakers? Answer one or several.",
}
"""Ours, for families of which no prompt for the task was published."""


def language_name(code: str | None) -> str | None:
    """English name of a language, the code itself where none is known."""
    return (LANGUAGES.get(code) or english_name(code)) if code else None


@dataclass(frozen=True, slots=True)
class Family:
    """What is known of a family before any checkpoint of it is loaded.

    Attributes:
        example: hub id of a checkpoint.
        tasks: of asr, st, er, sv, sqa, ac, chat.
        max_seconds: longest window.
        tokens_per_second: audio tokens per second of audio.
        source_languages, target_languages: codes, None = not restricted.
        chunk_seconds: length of piece that it does best, None = up to the window.
        through_english: whether it translates from and into English only.
        needs: package beyond those of fastadasp, with its place in `pip install`, else "".
        limits: what else it cannot do, in one clause.
    """

    example: str
    tasks: tuple[str, ...]
    max_seconds: Seconds
    tokens_per_second: float
    source_languages: tuple[str, ...] | None = None
    target_languages: tuple[str, ...] | None = None
    chunk_seconds: Seconds | None = 30.0
    through_english: bool = False
    needs: str = ""
    limits: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a model can take and do.

    Attributes:
        sample_rate: Hz that its features are made from.
        max_seconds: longest window; more would be cut silently.
        chunk_seconds: length of piece that it does best, None = up to the window.
        tokens_per_second: audio tokens per second of audio.
        tasks: of asr, st, er, sv, sqa, ac, chat.
        source_languages, target_languages: codes, None = not restricted.
    """

    sample_rate: int
    max_seconds: Seconds
    chunk_seconds: Seconds | None
    tokens_per_second: float
    tasks: tuple[str, ...]
    source_languages: tuple[str, ...] | None
    target_languages: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted of a segment, in the words of the command line.

    Attributes:
        task: asr | st | er | sv | sqa | ac | chat.
        language: code of the spoken language, None = detect.
        target_language: code of the translation, else None.
        question: for sqa and chat.
        prompt: replaces the task's own instruction.
    """

    task: str
    language: str | None = None
    target_language: str | None = None
    question: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch of waveforms after encoder and projector.

    Attributes:
        tokens: audio tokens of each waveform, (audio tokens, hidden).
        flops: of each of them, padding included; together they are what was spent.
        received, own: attention of the last layer, folded to audio tokens, if it was asked for:
            what each token received (mean over queries of the largest head at each pair of
            frames), and what it gave itself (mean over heads); (audio tokens,), float32 each.
    """

    tokens: list[Tensor]
    flops: list[int]
    received: list[Tensor] | None = None
    own: list[Tensor] | None = None

    @property
    def rows(self) -> list[Encoded]:
        """Each waveform by itself."""
        return [
            Encoded([tokens], [flops], *(one and [one[n]] for one in (self.received, self.own)))
            for n, (tokens, flops) in enumerate(zip(self.tokens, self.flops, strict=True))
        ]


def together(rows: Sequence[Encoded]) -> Encoded:
    """What was encoded apart."""
    received, own = (
        [value for row in rows for value in getattr(row, name) or ()] or None
        for name in ("received", "own")
    )
    tokens = [one for row in rows for one in row.tokens]
    return Encoded(tokens, [one for row in rows for one in row.flops], received, own)
