"""What holds for every method that cuts the KV cache. A new one is taken up by itself."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core import config
from core.errors import UsageError
from core.evict import CachePlan
from core.flops import PromptLengths
from core.methods import (
    CACHE_METHODS,
    METHODS,
    CacheView,
    ThresholdMethod,
    check_name,
    get_cache_method,
    get_method,
)

HEADS = 3
each = pytest.mark.parametrize("name", CACHE_METHODS)


@dataclass(frozen=True)
class Case:
    """Prompts, how many audio keys each is to keep, and what they received."""

    rows: tuple[PromptLengths, ...]
    kept: tuple[int, ...]
    level: float | None
    seed: int

    def view(self) -> CacheView:
        width = max(row.audio for row in self.rows)
        draw = torch.Generator().manual_seed(self.seed)
        received = torch.rand(len(self.rows), HEADS, width, generator=draw)
        if self.level is not None:
            received = torch.full_like(received, self.level)
        return CacheView(self.rows, received, torch.device("cpu"))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rows = tuple(
        PromptLengths(draw(st.integers(0, 6)), draw(st.integers(1, 33)), draw(st.integers(0, 6)))
        for _ in range(draw(st.integers(1, 3)))
    )
    kept = tuple(draw(st.integers(1, row.audio)) for row in rows)
    return Case(rows, kept, draw(st.sampled_from([None, 0.0, 0.5])), draw(st.integers(0, 99)))


@each
@given(case=cases())
@settings(max_examples=50, deadline=None)
def test_exactly_what_is_asked_stays_in_order(name: str, case: Case) -> None:
    plan = get_cache_method(name).plan(case.view(), case.kept)
    assert plan.kept == case.kept
    assert plan.index.shape[2] == max(case.kept)
    assert plan.index.shape[1] in (1, HEADS)
    for row, (prompt, count) in enumerate(zip(case.rows, case.kept, strict=True)):
        for stays in plan.index[row, :, :count].tolist():
            assert stays == sorted(set(stays))
            assert set(stays) <= set(range(prompt.audio))


@each
@given(case=cases())
@settings(max_examples=50, deadline=None)
def test_a_row_does_not_depend_on_its_neighbours(name: str, case: Case) -> None:
    seen = case.view()
    assert seen.received is not None
    together = get_cache_method(name).plan(seen, case.kept)
    for row, (prompt, count) in enumerate(zip(case.rows, case.kept, strict=True)):
        received = seen.received[row : row + 1, :, : prompt.audio]
        alone = CacheView((prompt,), received, seen.device)
        plan = get_cache_method(name).plan(alone, [count])
        assert torch.equal(plan.index[0], together.index[row, :, :count])


@each
def test_the_longer_the_memory_the_more_of_the_same_it_holds(name: str) -> None:
    case = Case((PromptLengths(2, 30, 3),), (1,), None, 3)
    for count in range(1, 30):
        less, more = (
            get_cache_method(name).plan(case.view(), [kept]).index[0, 0].tolist()
            for kept in (count, count + 1)
        )
        assert set(less) <= set(more)
        assert len(less) == count


def test_h2o_keeps_the_end_and_what_was_looked_at_most() -> None:
    # of 4 + 2 + 6 tokens 8 stay: the last 4 of the prompt are 2 of text and audio 4 and 5
    received = torch.tensor([[[0.1, 0.9, 0.2, 0.8, 0.0, 0.0], [0.9, 0.1, 0.1, 0.2, 0.3, 0.3]]])
    view = CacheView((PromptLengths(2, 6, 4 - 2),), received, torch.device("cpu"))
    plan = get_cache_method("h2o").plan(view, [4])
    assert plan.index.tolist() == [[[1, 3, 4, 5], [0, 3, 4, 5]]]
    # of 10 + 2 tokens with 8 of them text behind the audio, half are recent without any audio
    view = CacheView((PromptLengths(0, 6, 8),), received, torch.device("cpu"))
    assert get_cache_method("h2o").plan(view, [2]).index.tolist() == [[[1, 3], [0, 4]]]


def test_streaming_llm_keeps_the_beginning_and_the_end() -> None:
    method, device = get_cache_method("streaming-llm"), torch.device("cpu")
    rows = (PromptLengths(1, 8, 2), PromptLengths(6, 5, 0))
    plan = method.plan(CacheView(rows, None, device), [5, 2])
    assert plan.index[0, 0].tolist() == [0, 1, 2, 6, 7]
    assert plan.index[1, 0, :2].tolist() == [3, 4]
    few = method.plan(CacheView((PromptLengths(0, 8, 2),), None, device), [2])
    assert few.index[0, 0].tolist() == [0, 1]


def test_a_plan_gathers_for_each_head() -> None:
    states = torch.arange(12.0).view(1, 2, 3, 2)
    plan = CachePlan(torch.tensor([[[0, 2], [1, 2]]]), (2,))
    assert plan.gather(states).tolist() == [[[[0, 1], [4, 5]], [[8, 9], [10, 11]]]]
    same = CachePlan(torch.tensor([[[1]]]), (1,))
    assert same.gather(states).tolist() == [[[[2, 3]], [[8, 9]]]]


def test_the_names_are_known_without_torch() -> None:
    assert set(CACHE_METHODS) == set(config.CACHE_METHODS)
    assert not set(CACHE_METHODS) & set(METHODS)
    able = [name for name in METHODS if issubclass(METHODS[name], ThresholdMethod)]
    assert able == list(config.THRESHOLD_METHODS)


def test_names_of_either_kind_are_found_and_no_others() -> None:
    for name in (*METHODS, *CACHE_METHODS):
        check_name(name)
    for find in (check_name, get_method, get_cache_method):
        with pytest.raises(UsageError, match=r"unknown method 'h20'; .*h2o.*streaming-llm"):
            find("h20")
