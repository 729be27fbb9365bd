from __future__ import annotations

import pytest

from core.records import Span
from core.results.labels import LABELS, label_of, longest_label


@pytest.mark.parametrize(
    ("task", "text", "label"),
    [
        ("er", "happy", "happy"),
        ("er", " Happy. ", "happy"),
        ("er", "The speaker is in a neutral mood.", "neutral"),
        ("er", "Sadness, sad", "sad"),
        ("er", "ang", "angry"),
        ("er", "happy or sad", None),
        ("er", "he is not angry", None),
        ("er", "she isn\u2019t happy", None),
        ("er", "unhappy", None),
        ("er", "", None),
        ("sv", "one", "one"),
        ("sv", "1", "one"),
        ("sv", "There are several speakers.", "two"),
        ("sv", "the same", "one"),
        ("sv", "different speakers", "two"),
        ("sv", "more than one", None),
        ("sv", "happy", None),
    ],
)
def test_a_label_is_found_in_an_answer(task: str, text: str, label: str | None) -> None:
    assert label_of(task, text) == label


def test_every_label_means_itself() -> None:
    for task, labels in LABELS.items():
        assert tuple(label_of(task, label) for label in labels) == labels


def test_of_several_pieces_the_longest_label_counts() -> None:
    spans = [Span(0, 3, "sad"), Span(3, 5, "happy"), Span(5, 7, "Happy!"), Span(7, 99, "a dog")]
    assert longest_label("er", spans) == "happy"
    assert longest_label("er", [*spans, Span(99, 101, "sad")]) == "sad"
    assert longest_label("er", spans[3:]) is None
    assert longest_label("er", []) is None
