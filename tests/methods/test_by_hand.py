"""Each method on a few tokens whose outcome can be worked out on paper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from core.errors import UsageError
from core.merge import Plan
from core.methods import AudioView, choose, get_method
from core.methods.affinity import Affinity
from core.methods.choose import chance, largest
from tests.telling import telling


def view(*angles: float, **more: Any) -> AudioView:
    """One row of unit keys at these angles, in degrees; the states are the numbers 0, 1, 2, ..."""
    turned = torch.tensor(angles).deg2rad()
    count = len(angles)
    made = AudioView(
        lengths=(count,),
        keys=torch.stack([turned.cos(), turned.sin()], -1)[None, None],
        states=torch.arange(float(count))[None, :, None],
        received=telling(torch.ones(1, count)),
        last_query=torch.ones(1, count),
        sizes=torch.ones(1, count),
    )
    return replace(made, **more)


def slots(plan: Plan) -> list[int]:
    return plan.slot[0].tolist()


# steps between neighbours: 10, 1, 2, 30, 3 degrees
ANGLES = (0.0, 10.0, 11.0, 13.0, 43.0, 46.0)


@pytest.mark.parametrize("block", [1, 50, 10**6])
def test_cosines_of_neighbours_whatever_the_blocks(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    keys = torch.randn(2, 3, 11, 4, generator=torch.Generator().manual_seed(0))
    flat = keys.transpose(1, 2).flatten(2)
    expected = torch.cosine_similarity(flat[:, :-1], flat[:, 1:], dim=-1)
    monkeypatch.setattr(choose, "_BLOCK", block)
    torch.testing.assert_close(choose.adjacent_cosine(keys), expected)
    assert choose.adjacent_cosine(keys[:, :, :1]).shape == (2, 0)


def test_fastadasp_weighs_by_received_attention() -> None:
    seen = view(*ANGLES, received=telling(torch.tensor([[1.0, 1.0, 3.0, 2.0, 1.0, 1.0]])))
    plan = get_method("fastadasp").plan(seen, [4])
    assert slots(plan) == [0, 1, 1, 1, 2, 3]
    assert plan.mean(seen.states)[0, 1].item() == pytest.approx((1 + 2 * 3 + 3 * 2) / 6)


def test_merge_mean_takes_the_same_pairs_with_equal_weights() -> None:
    seen = view(*ANGLES, sizes=torch.tensor([[1.0, 5.0, 1.0, 1.0, 1.0, 1.0]]))
    plan = get_method("merge-mean").plan(seen, [4])
    assert slots(plan) == [0, 1, 1, 1, 2, 3]
    assert plan.mean(seen.states)[0, 1].item() == pytest.approx(2.0)


def test_a_tome_pairs_up_and_skips_what_overlaps() -> None:
    # best first: 1-2, then 2-3 (overlaps), then 4-5, then 0-1 (overlaps)
    method = get_method("a-tome")
    assert slots(method.plan(view(*ANGLES), [5])) == [0, 1, 1, 2, 3, 4]
    assert slots(method.plan(view(*ANGLES), [4])) == [0, 1, 1, 2, 3, 3]
    # with 0-1 a candidate too, the run 0-1-2-3 gives its first and its third pair
    assert slots(method.plan(view(*ANGLES), [3])) == [0, 0, 1, 1, 2, 2]


def test_fastv_keeps_what_is_attended_to() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.2, 0.8, 0.2, 0.0]])
    last, received = view(*ANGLES, last_query=scores), view(*ANGLES, received=telling(scores))
    assert slots(get_method("fastv").plan(last, [3])) == [-1, 0, 1, 2, -1, -1]
    assert slots(get_method("fastv-received").plan(received, [3])) == [-1, 0, 1, 2, -1, -1]
    assert slots(get_method("fastv").plan(received, [2])) == [0, 1, -1, -1, -1, -1]


def test_uniform_pools_runs_of_equal_length() -> None:
    seen = view(*ANGLES, sizes=torch.tensor([[1.0, 3.0, 1.0, 1.0, 1.0, 1.0]]))
    plan = get_method("uniform").plan(seen, [3])
    assert slots(plan) == [0, 0, 1, 1, 2, 2]
    assert plan.mean(seen.states)[0, 0].item() == pytest.approx(0.75)
    assert slots(get_method("uniform").plan(seen, [4])) == [0, 0, 1, 2, 2, 3]


def test_affinity_looks_back_over_the_last_members() -> None:
    # the third token is 30 degrees from the second; so is the fourth, which only a window sees
    turned = torch.tensor([0.0, 40.0, 10.0, 70.0]).deg2rad()
    seen = view(0, 0, 0, 0, states=torch.stack([turned.cos(), turned.sin()], -1)[None])
    assert slots(Affinity(inside=3).plan(seen, [2])) == [0, 1, 1, 1]
    assert slots(Affinity(inside=1).plan(seen, [2])) == [0, 0, 0, 1]
    at_input = replace(seen, at_input=True)
    assert slots(get_method("affinity").plan(at_input, [2])) == [0, 0, 0, 1]


def test_chance_depends_on_the_row_alone() -> None:
    like = torch.zeros(1)
    alone = chance([7], [3], 0, like)
    assert torch.equal(chance([9, 7], [2, 3], 0, like)[1, :7], alone[0])
    assert not torch.equal(chance([7], [3], 1, like), alone)
    assert not torch.equal(chance([7], [4], 0, like), alone)


def test_random_choices_differ_from_length_to_length() -> None:
    for name in ("random-merge", "random-evict"):
        first = get_method(name).plan(view(*range(40)), [20]).slot[0, :39]
        other = get_method(name).plan(view(*range(41)), [20]).slot[0, :39]
        assert not torch.equal(first, other)


def test_equal_scores_go_to_the_earlier_token() -> None:
    chosen = largest(torch.tensor([[1.0, 2.0, 1.0, 1.0, 9.0]]), [4], [3])
    assert chosen.tolist() == [[True, True, True, False, False]]


def test_an_unknown_method_lists_the_choices() -> None:
    with pytest.raises(
        UsageError, match=r"fastadsap.*a-tome, affinity, fastadasp, fastadasp-sampled, fastv"
    ):
        get_method("fastadsap")
