from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from core.records import Span
from core.results.cues import LINE, LINES, cues, width

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
