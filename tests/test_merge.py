"""`Plan` against loops: any slots, weights, drops and ragged rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.merge import Plan


def members(plan: Plan, row: int, slot: int) -> list[int]:
    return [i for i, s in enumerate(plan.slot[row].tolist()) if s == slot]


def slow_mean(plan: Plan, states: Tensor) -> Tensor:
    out = torch.zeros(len(states), max(plan.kept), states.shape[2])
    for row, kept in enumerate(plan.kept):
        for slot in range(kept):
            index = members(plan, row, slot)
            weight = plan.weight[row, index]
            if weight.sum() == 0:
                weight = torch.ones(len(index))
            out[row, slot] = (states[row, index] * weight[:, None]).sum(0) / weight.sum()
    return out


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Rows of joins, some tokens dropped, some weights zero."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    width = max(lengths)
    slots, kept, moved = [], [], 0
    for length in lengths:
        row, slot = [], -1
        for _ in range(length):
            action = draw(st.sampled_from(["open", "join", "drop"]))
            if action == "open" or (action == "join" and slot < 0):
                slot += 1
            row.append(-1 if action == "drop" else slot)
        if slot < 0:
            row[0], slot = 0, 0
        slots.append(row + [-1] * (width - length))
        kept.append(slot + 1)
        moved = max(moved, length - slot - 1)
    weight = draw(
        st.lists(
            st.sampled_from([0.0, 0.5, 1.0, 3.0]),
            min_size=width * len(lengths),
            max_size=width * len(lengths),
        )
    )
    weights = torch.tensor(weight).view(len(lengths), width)
    return Plan(torch.tensor(slots), weights, tuple(kept), moved)


@given(plans(), st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_mean_first_and_total_equal_loops(plan: Plan, seed: int) -> None:
    states = torch.randn(*plan.slot.shape, 3, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(plan.mean(states), slow_mean(plan, states))
    numbers = torch.arange(plan.slot.numel()).view(plan.slot.shape)
    first, total = plan.first(numbers), plan.total(numbers)
    for row, kept in enumerate(plan.kept):
        for slot in range(kept):
            inside = numbers[row, members(plan, row, slot)]
            assert first[row, slot] == inside[0]
            assert total[row, slot] == inside.sum()


def test_runs_of_joins_collapse_into_one_slot() -> None:
    joined = torch.tensor([[True, True, False, True], [False, True, False, False]])
    plan = Plan.from_joins(joined, torch.ones(2, 5), lengths=[5, 3], kept=[2, 2])
    assert plan.slot.tolist() == [[0, 0, 0, 1, 1], [0, 1, 1, -1, -1]]
    assert plan.kept == (2, 2)
    states = torch.tensor([[1.0, 2, 6, 4, 8], [7, 1, 3, 99, 99]]).unsqueeze(-1)
    assert plan.mean(states).squeeze(-1).tolist() == [[3, 6], [7, 2]]


def test_weights_need_not_be_normalised() -> None:
    joined = torch.tensor([[True]])
    plan = Plan.from_joins(joined, torch.tensor([[300.0, 100.0]]), [2], [1])
    assert plan.mean(torch.tensor([[[1.0], [5.0]]])).item() == pytest.approx(2.0)


def test_half_precision_is_summed_in_float32() -> None:
    joined = torch.ones(1, 4095, dtype=torch.bool)
    plan = Plan.from_joins(joined, torch.ones(1, 4096), [4096], [1])
    states = torch.full((1, 4096, 1), 1.0, dtype=torch.bfloat16)
    states[:, ::2] = 2.0
    mean = plan.mean(states)
    assert mean.dtype == torch.bfloat16
    assert mean.item() == 1.5
