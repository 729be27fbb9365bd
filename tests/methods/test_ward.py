"""Ward clusters in rounds, against joining the cheapest pair of neighbours one at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.methods import AudioView, get_method
from core.methods.ward import clusters
from tests.reference_methods import Seen, ward


def in_rounds(states: Tensor, joins: int, sizes: list[int] | None = None) -> list[list[int]]:
    """Clusters of one row, as indices."""
    weights = torch.tensor([sizes or [1] * len(states)], dtype=torch.float32)
    joined = clusters(states[None].float(), weights, [len(states) - 1], [joins])[0].tolist()
    found = [[0]]
    for i, with_last in enumerate(joined, start=1):
        if with_last:
            found[-1].append(i)
        else:
            found.append([i])
    return found


def one_by_one(states: Tensor, joins: int, sizes: list[int] | None = None) -> list[list[int]]:
    """The same by the oracle, in float64."""
    nothing = [0.0] * len(states)
    seen = Seen(
        states.double(), states.double(), nothing, nothing, nothing, sizes or [1] * len(states)
    )
    return [members for members, _ in ward(seen, len(states) - joins)]


def blur(states: Tensor, found: list[list[int]]) -> float:
    """Squared distances of tokens from the mean of their cluster."""
    return sum(
        float((states[members] - states[members].mean(0)).square().sum()) for members in found
    )


def test_by_hand() -> None:
    # 1-2 costs .5, 7-8 too; then 1.5 and 4 cost 2/3 * 2.5^2 = 4.2, 4 and 7.5 8.2
    states = torch.tensor([[1.0], [2.0], [4.0], [7.0], [8.1]])
    assert in_rounds(states, 1) == [[0, 1], [2], [3], [4]]
    assert in_rounds(states, 2) == [[0, 1], [2], [3, 4]]
    assert in_rounds(states, 3) == [[0, 1, 2], [3, 4]]
    # as 9 tokens, the first moves for nobody: 9 / 10 * 1 against 1 / 2 * 1.1^2
    assert in_rounds(states, 1, [9, 1, 1, 1, 1]) == [[0], [1], [2], [3, 4]]


def test_a_chain_of_small_steps_does_not_swallow_everything() -> None:
    """What top-k chains do wrong: steps of 1, all more alike than any other pair."""
    slope = torch.arange(12.0)[:, None]
    states = torch.cat([slope, torch.tensor([[30.0], [32.0], [50.0], [52.0]])])
    longest = max(map(len, in_rounds(states, 9)))
    assert longest <= 4


@given(
    steps=st.lists(st.integers(1, 10_000), min_size=1, max_size=60, unique=True),
    share=st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_without_reversals_rounds_are_the_greedy_order(steps: list[int], share: float) -> None:
    # along a line that only rises, no join brings a cluster nearer to its neighbours
    # offsets that no sum of others equals: no ties
    states = (torch.tensor([0, *steps]) * 1.0).cumsum(0)[:, None] / 1000
    joins = round(share * len(steps))
    mine, theirs = in_rounds(states, joins), one_by_one(states, joins)
    assert blur(states, mine) == pytest.approx(blur(states, theirs), rel=1e-4, abs=1e-6)
    assert sum(map(len, mine)) == len(states)


@given(seed=st.integers(0, 999), length=st.integers(2, 80), share=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_smooth_walks_are_clustered_as_well(seed: int, length: int, share: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    states = torch.randn(length, 16, generator=draw).cumsum(0)
    joins = round(share * (length - 1))
    mine, theirs = in_rounds(states, joins), one_by_one(states, joins)
    assert blur(states, mine) <= 1.05 * blur(states, theirs) + 1e-4


@pytest.mark.parametrize("kind", ["equal", "rising"])
def test_many_joins_meet_the_budget_whatever_the_order(kind: str) -> None:
    """Equal costs everywhere, and costs that rise: each the worst case of a rule for ties."""
    count = 1000
    states = torch.ones(count, 3)
    if kind == "rising":
        states = torch.arange(float(count)).square()[:, None].expand(-1, 3)
    for joins in (1, 10, 500, 999):
        found = in_rounds(states, joins)
        assert len(found) == count - joins
    if kind == "equal":
        # no cluster takes all
        assert max(map(len, in_rounds(states, 500))) < 25


def test_the_view_is_left_alone() -> None:
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(2, 9, 4, generator=draw)
    sizes = torch.randint(1, 4, (2, 9), generator=draw).float()
    before = states.clone(), sizes.clone()
    view = AudioView((9, 5), states.unsqueeze(1), states, None, None, sizes, at_input=True)
    plan = get_method("ward").plan(view, [3, 2])
    assert torch.equal(states, before[0])
    assert torch.equal(sizes, before[1])
    assert torch.equal(plan.weight, sizes)
