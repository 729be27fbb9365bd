from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from core.records import Span
from core.results.cues import LINE, LINES, PAUSE, cues, width

TEXTS = st.text(st.characters(codec="utf-8"), max_size=400)


def test_short_text_is_one_cue_with_the_times_of_its_span() -> None:
    assert list(cues([Span(1.0, 2.5, " one\n two "), Span(3.0, 4.0, "")])) == [
        (1000, 2500, ("one two",))
    ]


def test_long_text_is_cut_at_words_and_timed_by_width() -> None:
    text = " ".join(["wordword"] * 18)
    first, second, third = cues([Span(10.0, 28.0, text)])
    assert first[2] == ("wordword wordword wordword wordword",) * 2
    assert third[2] == ("wordword wordword",)
    assert (first[0], first[1], second[0], third[1]) == (10_000, second[0], first[1], 28_000)
    assert first[1] - first[0] == round(18_000 * 70 / 157)


def test_wide_letters_take_two_columns_and_need_no_spaces() -> None:
    [cue, more] = cues([Span(0.0, 10.0, "語" * 50)])
    assert [len(line) for line in (*cue[2], *more[2])] == [21, 21, 8]


@given(TEXTS, st.integers(0, 40_000), st.integers(1, 30_000))
def test_cues_hold_all_words_in_order_and_stay_in_their_span(
    text: str, start: int, length: int
) -> None:
    found = list(cues([Span(start / 1000, (start + length) / 1000, text)]))
    shown = "".join("".join(lines) for _, _, lines in found)
    assert shown.replace(" ", "") == "".join(text.split())
    for _, _, lines in found:
        assert all(0 < width(line) <= LINE for line in lines if width(line))
        assert len(lines) <= LINES or length < len(found) * 100
    if found:
        assert (found[0][0], found[-1][1]) == (start, start + length)
    assert all(one[0] < one[1] == two[0] for one, two in pairwise(found))


def test_no_time_to_show_them_one_by_one() -> None:
    [(start, end, lines)] = cues([Span(1.0, 1.001, "word " * 60)])
    assert (start, end) == (1000, 1001)
    assert " ".join(lines) == ("word " * 60).strip()


def test_nothing_is_shown_while_nobody_speaks() -> None:
    speech = ((0.2, 3.0), (3.4, 4.0), (12.0, 13.9))
    text = "one two three four five six"
    assert list(cues([Span(0.0, 14.0, text, speech)])) == [
        (50, 4150, ("one two three four",)),
        (11_850, 14_000, ("five six",)),
    ]


def test_letters_that_need_no_spaces_are_shared_too() -> None:
    [first, second] = cues([Span(0.0, 20.0, "語" * 30, ((0.0, 2.0), (10.0, 11.0)))])
    assert (first[2], second[2]) == (("語" * 20,), ("語" * 10,))
    assert (first[:2], second[:2]) == ((0, 2150), (9850, 11_150))


def test_a_word_is_shown_where_there_was_time_for_it() -> None:
    speech = ((0.0, 0.1), (5.0, 9.0), (20.0, 20.1))
    assert list(cues([Span(0.0, 21.0, "word", speech)])) == [(4850, 9150, ("word",))]


@given(TEXTS, st.lists(st.floats(0.05, 9), min_size=2, max_size=9), st.integers(0, 4000))
def test_cues_of_speech_hold_all_words_and_no_long_pause(
    text: str, lengths: list[float], start: int
) -> None:
    """Speech and pauses by turns."""
    edges = [start + sum(lengths[:number]) for number in range(len(lengths) + 1)]
    speech = tuple(zip(edges[::2], edges[1::2], strict=False))
    span = Span(edges[0], edges[-1], text, speech)
    found = list(cues([span]))
    shown = "".join("".join(lines) for _, _, lines in found)
    assert shown.replace(" ", "") == "".join(text.split())
    silences = [
        (1000 * one[1], 1000 * two[0]) for one, two in pairwise(speech) if two[0] - one[1] >= PAUSE
    ]
    for first, last, _ in found:
        for begun, ended in silences:
            assert min(last, ended) - max(first, begun) <= 151
    assert all(one[1] <= two[0] for one, two in pairwise(found))
