"""Texts made comparable: what is not an error of hearing must not count as one."""

from __future__ import annotations

import re
import string
from collections.abc import Callable

BASIC = "basic"
NORMALISERS = ("whisper", BASIC)
"""What errors of asr are counted after: Whisper's normaliser of the language, which writes spoken
numbers as figures, or its basic one for any language, which leaves every word a word."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normaliser(language: str | None) -> Callable[[str], str]:
    """Whisper's normaliser: the English one for `en`, the basic one for all other languages."""
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

    clean = EnglishTextNormalizer() if language == "en" else BasicTextNormalizer()
    return lambda text: str(clean(text)).strip()


def normaliser_name(language: str | None) -> str:
    """Which one that is, in a word."""
    return "english" if language == "en" else "basic"


def plain_answer(text: str) -> str:
    """An answer as SQuAD compares it: lower case, no punctuation, no articles, single spaces."""
    words = re.sub(r"\b(?:a|an|the)\b", " ", text.casefold().translate(_PUNCTUATION))
    return " ".join(words.split())
