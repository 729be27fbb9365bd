from __future__ import annotations

import pytest

from core.engine.generate import Answer
from core.engine.loops import longest_run, looped, packed

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PI = "31415926535897932384626433832795028841971693993751058209749445923078164062862"


def said(text: str, ended: bool, seconds: float) -> bool:
    """Each word is a token."""
    words = text.split()
    names = {word: number for number, word in enumerate(dict.fromkeys(words))}
    return looped(Answer(tuple(names[word] for word in words), ended), text, seconds)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("one one one one", 1.5),
        ("zero zero zero zero zero zero seven", 4.0),
        ("one two one two one two one two", 4.0),
        ("my number is four four four four nine", 4.0),
        (" ".join(DIGITS[int(digit)] for digit in PI), 30.0),
        ("", 5.0),
    ],
)
def test_people_may_repeat_themselves(text: str, seconds: float) -> None:
    assert not said(text, True, seconds)


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("you see the the the the", False),
        ("so " + "i do not know " * 4 + "i do", False),
        ("thank you " * 12, True),
        ("we went home and then " + "the " * 40, True),
        ("and the man said so to us again " * 6, True),
    ],
)
def test_loops_are_seen(text: str, ended: bool) -> None:
    assert said(text.strip(), ended, 5.0)


def test_repeats_that_were_left_behind_are_no_loop() -> None:
    assert not said("no no no no he said and went", False, 5.0)
    # as many words in as much time as it takes to say them
    assert not said("and the man said so to us again " * 6, True, 30.0)


def test_the_longest_run_counts_its_tokens_and_repeats() -> None:
    assert longest_run([9, 7, 7, 7, 7, 8]) == (4, 4)
    assert longest_run([1, 2, 3, 4, 3, 4, 3, 4, 3, 4, 3]) == (9, 4)
    assert longest_run([7, 7, 7, 1]) == (0, 0)
    assert longest_run([]) == (0, 0)


def test_packing() -> None:
    assert packed("") == 0
    assert packed("thank you " * 20) > 2.4 > packed("the quick brown fox jumps over the lazy dog")
