"""From a model's words to a label: one parser, for the records of a run and for scoring.

A small model answers with the label, a large one with a sentence around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..records import Seconds, Span

_WORDS = {
    "er": {
        "neutral": "neutral neu calm",
        "happy": "happy happiness hap joy joyful excited exc",
        "sad": "sad sadness",
        "angry": "angry anger ang",
        "fearful": "fearful fear afraid scared",
        "disgusted": "disgusted disgust",
        "surprised": "surprised surprise",
    },
    "sv": {
        "one": "one 1 single same",
        # "more", so that "more than one" is not taken for one
        "two": "two 2 several multiple different more",
    },
}
LABELS = {task: tuple(words) for task, words in _WORDS.items()}
"""Tasks whose answer is a label, and the labels."""

_LABEL_OF = {
    task: {word: label for label, words in table.items() for word in words.split()}
    for task, table in _WORDS.items()
}
_NOT = re.compile(r"\b(?:not|nor|neither)\b|n't\b")


def label_of(task: str, text: str) -> str | None:
    """The one label that a text names; None when it names none, several, or denies one.

    Args:
        task: of `LABELS`.
        text: an answer, or the reference of a manifest.
    """
    said = text.casefold().replace("\u2019", "'")
    table = _LABEL_OF[task]
    found = {table[word] for word in re.findall(r"\w+", said) if word in table}
    return found.pop() if len(found) == 1 and not _NOT.search(said) else None


def longest_label(task: str, spans: Iterable[Span]) -> str | None:
    """The label that holds for the longest time; None if no span has one."""
    seconds: dict[str, Seconds] = {}
    for span in spans:
        if label := label_of(task, span.text):
            seconds[label] = seconds.get(label, 0.0) + span.end - span.start
    return max(seconds, key=seconds.__getitem__, default=None)
