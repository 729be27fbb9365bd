"""Schedules, and the promise that `--reduce` cuts what it says."""

from __future__ import annotations

import pytest

from core.errors import UsageError
from core.flops import RECEIVED, DecoderShape, PromptLengths, Scoring, prefill_flops
from core.scheduler import Schedule, solve, solve_alike, solve_cache

EMBEDDED = DecoderShape(160, 8, 4, 4, 40, 432, 1500)
LARGE = DecoderShape(4096, 32, 32, 32, 128, 11008, 156032)
SECONDS = (2, 2.4, 3.3, 5, 7.7, 15, 30, 60, 120, 240)
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5)


@pytest.mark.parametrize("start", [0, 1, 2])
@pytest.mark.parametrize("kind", ["once", "constant", "decay", "input", "2-0-0-1"])
@pytest.mark.parametrize("shape", [EMBEDDED, LARGE], ids=["embedded", "7b"])
def test_the_cut_is_within_a_point_of_what_was_asked(
    shape: DecoderShape, kind: str, start: int
) -> None:
    schedule = Schedule(kind, start, shape.layers)
    for seconds in SECONDS:
        prompt = PromptLengths(17, int(25 * seconds), 14)
        most = solve(shape, schedule, prompt, 1.0).reduction
        for target in LEVELS:
            found = solve(shape, schedule, prompt, target)
            real = 1 - prefill_flops(shape, prompt, found.kept) / prefill_flops(shape, prompt)
            assert found.reduction == pytest.approx(real)
            assert found.capped == (target > most + 0.005)
            if found.capped:
                assert real == pytest.approx(most)
                assert found.kept[-1] == 1
            else:
                assert abs(real - target) <= 0.01


def test_shares_of_each_schedule() -> None:
    assert Schedule("once", 1, 4).ratios(0.4) == (0, 0, 0.4, 0, 0)
    assert Schedule("constant", 1, 4).ratios(0.4) == (0, 0, 0.4, 0.4, 0.4)
    assert Schedule("input", 0, 4).ratios(0.4) == (0.4, 0, 0, 0, 0)
    assert Schedule("decay", 1, 4).ratios(0.4) == pytest.approx((0, 0, 0.4, 0.2, 0))
    assert Schedule("2-0-1", 3, 4).ratios(0.4) == pytest.approx((0.4, 0, 0.2, 0, 0))
    assert Schedule("0-0.5", 3, 4).ratios(0.4) == (0, 0.4, 0, 0, 0)


def test_counts_only_fall_and_never_reach_zero() -> None:
    for kind in ("once", "constant", "decay", "input", "1-0-2"):
        for ratio in (0.0, 0.05, 0.5, 0.99):
            kept = Schedule(kind, 0, 8).kept(61, ratio)
            assert kept[0] <= 61
            assert sorted(kept, reverse=True) == list(kept)
            assert kept[-1] >= 1
    assert Schedule("once", 0, 8).kept(0, 0.5) == (0,) * 9


def test_a_layer_removes_no_more_than_its_method_can() -> None:
    halving = Schedule("once", 1, 4, most=0.5)
    assert halving.kept(75, 0.9) == (75, 75, 38, 38, 38)
    assert Schedule("constant", 0, 3, most=0.5).kept(9, 0.9) == (9, 5, 3, 2)
    assert Schedule("constant", 0, 3, most=0.5).kept(9, 0.2) == Schedule("constant", 0, 3).kept(
        9, 0.2
    )
    found = solve(EMBEDDED, Schedule("once", 0, 8, most=0.5), PromptLengths(17, 75, 14), 0.5)
    assert found.capped
    assert found.kept == (75, *[38] * 8)


def test_cheaper_scores_leave_more_tokens() -> None:
    prompt, schedule = PromptLengths(17, 75, 14), Schedule("constant", 0, 8)
    dear, free = (solve(EMBEDDED, schedule, prompt, 0.4, s) for s in (RECEIVED, Scoring()))
    assert sum(free.kept) > sum(dear.kept)
    assert abs(free.reduction - 0.4) <= 0.01


def test_nothing_asked_nothing_removed() -> None:
    prompt = PromptLengths(17, 75, 14)
    found = solve(EMBEDDED, Schedule("constant", 0, 8), prompt, 0.0)
    assert found.kept == (75,) * 9
    assert found.reduction == 0
    assert not found.capped


@pytest.mark.parametrize(
    ("kind", "start"),
    [("twice", 0), ("once", 8), ("once", -1), ("0-0", 0), ("1-", 0), ("1-" * 9 + "1", 0)],
)
def test_what_does_not_exist_is_refused(kind: str, start: int) -> None:
    with pytest.raises(UsageError, match=r"choose one of|layers 0 to 7|the input and 8 layers"):
        Schedule(kind, start, 8)


@pytest.mark.parametrize("layers", [8, 32])
def test_kv_bytes_are_cut_as_asked(layers: int) -> None:
    for seconds in (0.2, *SECONDS):
        prompt = PromptLengths(17, int(25 * seconds), 14)
        for target in (*LEVELS, 0.9):
            found = solve_cache(layers, prompt, target)
            real = 1 - (sum(found.held) + layers * 31) / (layers * prompt.total)
            assert found.reduction == pytest.approx(real)
            assert found.kept == (prompt.audio,) * (layers + 1)
            assert len(found.held) == layers
            assert max(found.held) - min(found.held) <= 1
            assert min(found.held) >= 1
            most = (prompt.audio - 1) / prompt.total
            assert found.capped == (target > most + 0.005)
            assert real == pytest.approx(min(target, most), abs=0.51 / (layers * prompt.total))


def test_a_cache_is_left_alone_where_nothing_is_asked() -> None:
    found = solve_cache(4, PromptLengths(2, 9, 3), 0.0)
    assert (found.held, found.capped) == ((9,) * 4, False)
    nothing = solve_cache(4, PromptLengths(2, 0, 3), 0.5)
    assert (nothing.held, nothing.capped) == ((0,) * 4, True)


@pytest.mark.parametrize("shape", [EMBEDDED, LARGE], ids=["embedded", "7b"])
def test_prompts_that_differ_little_in_words_keep_equally_much(shape: DecoderShape) -> None:
    schedule = Schedule("input", 0, shape.layers)
    for seconds in SECONDS:
        for target in LEVELS:
            alike = set()
            for words in (13, 14, 15):
                prompt = PromptLengths(17, int(25 * seconds), words)
                found = solve_alike(14, shape, schedule, prompt, target)
                real = 1 - prefill_flops(shape, prompt, found.kept) / prefill_flops(shape, prompt)
                assert found.reduction == pytest.approx(real)
                assert abs(real - target) <= 0.01
                alike.add(found.kept)
            assert len(alike) == 1 or seconds < 3
        long = PromptLengths(17, int(25 * seconds), 90)
        most = solve(shape, schedule, long, 1.0).reduction
        for target in (level for level in LEVELS if level < most):
            found = solve_alike(14, shape, schedule, long, target)
            assert abs(found.reduction - target) <= 0.01
