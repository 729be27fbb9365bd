"""Pieces: nothing lost, in order, within the window, cut where it is quietest.

Most tests put a loudness meter in the place of the voice detector, so that a tone is speech and
the expected cuts can be told to the sample.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import MediaError, UsageError
from core.media import cutters
from core.media.segment import Cutting, Mode, segment
from core.records import Waveform

from .pieces import RATE, LoudIsSpeech, check, cut, sound, spans, split, uncovered
from .sounds import tone


@pytest.mark.usefixtures("loud_is_speech")
def test_speech_is_padded_and_pauses_are_left_out() -> None:
    samples = sound((1.024, False), (2.048, True), (3.072, False), (1.024, True), (2.0, False))
    pieces = cut(samples, target=2.5)
    assert spans(pieces) == [(0.874, 3.222), (5.994, 7.318)]
    check(pieces, samples, 30)


@pytest.mark.usefixtures("loud_is_speech")
def test_padding_stays_inside_the_recording() -> None:
    samples = sound((2.0, True))
    assert spans(cut(samples)) == [(0, 2)]
    samples = sound((0.064, False), (2.048, True), (0.064, False))
    assert spans(cut(samples)) == [(0, 2.176)]


@pytest.mark.usefixtures("loud_is_speech")
@pytest.mark.parametrize(("target", "pieces"), [(30, 1), (8, 2), (5, 4), (None, 1)])
def test_neighbours_are_joined_up_to_the_target(target: float | None, pieces: int) -> None:
    samples = sound(*[(2.048, True), (1.024, False)] * 4)
    found = cut(samples, target=target)
    assert len(found) == pieces
    assert all(piece.duration <= (target or 30) for piece in found)
    assert not uncovered(found, samples).any()


@pytest.mark.usefixtures("loud_is_speech")
def test_a_short_pause_does_not_end_speech_and_a_click_does_not_begin_it() -> None:
    samples = sound((1.024, True), (0.256, False), (1.024, True), (2.048, False), (0.064, True))
    segmenter = segment([samples], "r", target=1)
    assert spans(list(segmenter)) == [(0, 2.454)]
    assert segmenter.speech_seconds == pytest.approx(2.304)


@pytest.mark.usefixtures("loud_is_speech")
@pytest.mark.parametrize("window", [2.0, 5.0, 30.0])
def test_long_speech_is_cut_at_the_quietest_point(window: float) -> None:
    samples = sound((window * 2.2, True))
    dips = [0.9 * window, 0.9 * window + 0.8 * window]
    for dip in dips:
        samples[round((dip - 0.06) * RATE) : round((dip + 0.06) * RATE)] *= 0.1
    pieces = cut(samples, window=window)
    assert [piece.end for piece in pieces[:-1]] == pytest.approx(dips, abs=0.02)
    check(pieces, samples, window)
    assert not uncovered(pieces, samples).any()


@pytest.mark.usefixtures("loud_is_speech")
def test_a_dip_early_in_the_window_does_not_make_short_pieces() -> None:
    samples = sound((12.0, True))
    samples[2 * RATE : 2 * RATE + 3200] *= 0.05
    pieces = cut(samples, window=9.0)
    assert pieces[0].duration >= 6
    assert pieces[-1].duration >= 0.45
    assert not uncovered(pieces, samples).any()


@pytest.mark.usefixtures("loud_is_speech")
@pytest.mark.parametrize("seconds", [29.76, 29.9, 30.0, 30.05, 30.2, 31.0])
def test_speech_about_as_long_as_the_window(seconds: float) -> None:
    samples = sound((0.512, False), (seconds, True), (1.0, False))
    pieces = cut(samples)
    check(pieces, samples, 30)
    assert not uncovered(pieces, samples).any()


@pytest.mark.usefixtures("loud_is_speech")
def test_the_rest_of_long_speech_is_kept_however_short() -> None:
    samples = sound((5.2, True), (1.0, False), (0.8, True), (1.0, False))
    pieces = cut(samples, window=5.0, target=1.0, min_speech=1.0)
    assert len(pieces) == 2  # the stretch of 0.8 s alone is too short to be speech here
    assert not uncovered(pieces, samples)[: 6 * RATE].any()


@pytest.mark.usefixtures("loud_is_speech")
def test_any_mixture_keeps_every_sample_of_speech() -> None:
    rng = np.random.default_rng(3)
    for _ in range(15):
        turns = [(float(rng.uniform(0.2, 9)), bool(i % 2)) for i in range(12)]
        samples = sound(*turns)
        window = float(rng.choice([3.0, 7.5, 20.0]))
        how = {"window": window, "target": float(rng.uniform(1, window))}
        pieces = cut(samples, **how)
        check(pieces, samples, window)
        assert not uncovered(pieces, samples).any()
        for size in (257, 7_777, 100_000):
            again = cut(samples, size=size, **how)
            assert spans(again) == spans(pieces)


def test_speech_begins_at_the_threshold_and_ends_well_below_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # frames of 32 ms: doubtful, speech, doubtful, none, doubtful
    script = [0.4] * 20 + [0.6] + [0.4] * 20 + [0.3] * 20 + [0.4] * 20

    class Scripted(LoudIsSpeech):
        def push(self, block: Waveform) -> list[float]:
            return []

        def finish(self) -> list[float]:
            return script

    monkeypatch.setattr(cutters, "SpeechProbabilities", Scripted)
    segmenter = segment([tone(len(script) * 0.032)], "r")
    assert spans(list(segmenter)) == [(0.49, 1.462)]
    assert segmenter.speech_seconds == pytest.approx(21 * 0.032)


@pytest.mark.usefixtures("loud_is_speech")
def test_what_is_counted() -> None:
    samples = sound((1.024, False), (2.048, True), (5.12, False), (1.024, True), (1.0, False))
    segmenter = segment(split(samples, 5000), "r", target=4)
    pieces = list(segmenter)
    assert segmenter.audio_seconds == pytest.approx(len(samples) / RATE)
    assert segmenter.speech_seconds == pytest.approx(3.072)
    assert segmenter.segment_seconds == pytest.approx(sum(piece.duration for piece in pieces))
    stretches = [stretch for piece in pieces for stretch in piece.speech or ()]
    assert stretches == [pytest.approx((0.15, 2.198)), pytest.approx((0.15, 1.174))]


@pytest.mark.usefixtures("loud_is_speech")
def test_speech_is_counted_across_cuts_too() -> None:
    segmenter = segment([sound((40.96, True))], "r", window=7)
    pieces = list(segmenter)
    assert len(pieces) > 5
    for piece in pieces:
        assert piece.speech == (pytest.approx((0.0, piece.duration)),)
    assert segmenter.speech_seconds == pytest.approx(40.96)
    assert segmenter.segment_seconds == pytest.approx(40.96)


@pytest.mark.usefixtures("loud_is_speech")
@pytest.mark.parametrize("mode", ["vad", "fixed"])
@pytest.mark.parametrize("loud", [True, False])
def test_a_long_recording_is_not_held(
    mode: Mode, loud: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []
    append = cutters.Tape.append

    def watched(tape: cutters.Tape, block: Waveform) -> None:
        append(tape, block)
        held.append(tape.end - tape.start)

    monkeypatch.setattr(cutters.Tape, "append", watched)
    block = sound((10.0, True)) if loud else sound((1.0, True), (9.0, False)) * 0
    blocks = [sound((1.0, True), (1.0, False)), *[block] * 30]
    list(segment(blocks, "r", mode=mode, window=30))
    assert max(held) <= 51 * RATE


@pytest.mark.usefixtures("loud_is_speech")
def test_pieces_come_while_the_recording_is_still_being_read() -> None:
    read: list[int] = []

    def blocks() -> Iterator[Waveform]:
        for number in range(100):
            read.append(number)
            yield sound((3.0, True), (2.0, False))

    next(segment(blocks(), "r", target=4))
    assert len(read) <= 3


@pytest.mark.usefixtures("loud_is_speech")
def test_a_piece_does_not_hold_the_block_it_came_from() -> None:
    (piece,) = cut(sound((1.0, True), (9.0, False)))
    assert piece.samples.base is None


@pytest.mark.usefixtures("loud_is_speech")
@pytest.mark.parametrize("mode", ["vad", "fixed", "whole"])
def test_what_came_before_an_error_is_handed_out_first(mode: Mode) -> None:
    def blocks() -> Iterator[Waveform]:
        yield sound((3.0, True))
        raise MediaError("breaks off at 3.0 s")

    pieces = []
    with pytest.raises(MediaError, match=r"breaks off at 3\.0 s"):
        pieces.extend(piece for piece in segment(blocks(), "r", mode=mode))
    segmenter = segment(blocks(), "r", mode=mode)
    assert spans([next(segmenter)]) == [(0, 3)]
    with pytest.raises(MediaError):
        next(segmenter)


def test_fixed_windows_are_exactly_that() -> None:
    samples = tone(10.5)
    pieces = cut(samples, mode="fixed", window=4.0, size=7000)
    assert spans(pieces) == [(0, 4), (4, 8), (8, 10.5)]
    check(pieces, samples, 4)
    assert not uncovered(pieces, samples).any()


def test_whole_is_one_piece_or_an_error() -> None:
    samples = tone(12.0)
    assert spans(cut(samples, mode="whole", window=12.0)) == [(0, 12)]
    assert spans(cut(samples, mode="whole", window=None)) == [(0, 12)]
    with pytest.raises(
        MediaError, match=r"longer than the 11 s that fit in one prompt: use --segment vad"
    ):
        cut(samples, mode="whole", window=11.0)


def test_too_long_for_whole_is_noticed_before_all_is_read() -> None:
    blocks = iter([tone(10.0)] * 1000)
    with pytest.raises(MediaError):
        next(segment(blocks, "r", mode="whole", window=25.0))
    assert len(list(blocks)) >= 990


@pytest.mark.parametrize("mode", ["vad", "fixed", "whole"])
@pytest.mark.parametrize("samples", [0, 1, 399])
def test_next_to_nothing_gives_no_piece(mode: Mode, samples: int) -> None:
    segmenter = segment([tone(1.0)[100 : 100 + samples]], "r", mode=mode)
    assert list(segmenter) == []
    assert segmenter.audio_seconds == samples / RATE


@pytest.mark.parametrize("mode", ["vad", "fixed", "whole"])
def test_silence_gives_no_piece(mode: Mode) -> None:
    hiss = np.random.default_rng(0).standard_normal(RATE * 20).astype(np.float32) * 1e-5
    for samples in (hiss, np.zeros_like(hiss)):
        segmenter = segment(split(samples, 50_000), "r", mode=mode, window=30)
        assert list(segmenter) == []
        assert segmenter.speech_seconds == 0


@pytest.mark.usefixtures("loud_is_speech")
def test_another_rate() -> None:
    samples = sound((1.024, False), (2.048, True), (2.0, False), rate=24_000)
    (piece,) = segment(split(samples, 9999), "r", sample_rate=24_000)
    assert (piece.start, piece.end) == (pytest.approx(0.874), pytest.approx(3.222))
    assert piece.sample_rate == 24_000


@pytest.mark.parametrize(
    "wrong",
    [{"mode": "vda"}, {"mode": "fixed", "window": None}, {"window": 0.5}, {"pad": 0.2}],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"mode|window|pad"):
        Cutting(**wrong)  # type: ignore[arg-type]


def test_who_wants_the_numbers_keeps_no_sound() -> None:
    def blocks() -> Iterator[Waveform]:
        for _ in range(6):
            yield np.zeros(9 * RATE, np.float32)

    list(segment(blocks(), "a"))  # the detector is loaded
    tracemalloc.start()
    segmenter = segment(blocks(), "a")
    list(segmenter)
    left, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert segmenter.audio_seconds == 54
    assert left < 100_000 < most


@pytest.mark.usefixtures("loud_is_speech")
@given(
    st.lists(st.tuples(st.floats(0.2, 6), st.floats(0.35, 6)), min_size=1, max_size=9),
    st.integers(200, 40_000),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_nothing_is_joined_over_a_long_pause(parts: list[tuple[float, float]], size: int) -> None:
    samples = sound(*(one for loud, quiet in parts for one in ((loud, True), (quiet, False))))
    pieces = cut(samples, window=30.0, size=size)
    check(pieces, samples, 30.0)
    stretches = [(piece, stretch) for piece in pieces for stretch in piece.speech or ()]
    for (one, first), (two, second) in pairwise(stretches):
        pause = two.start + second[0] - one.start - first[1]
        assert pause > 0.29 or one.start + first[1] == two.start
        if one is two:
            assert pause <= 2.0 + 1e-6
        elif two.end - one.start < 30 - 1:  # it would have fitted
            assert pause > 2.0 - 1e-6
    assert not np.abs(uncovered(pieces, samples)).max(initial=0) > 0.01
