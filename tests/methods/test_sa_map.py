"""SA-MAP against its two stages done one token and one choice at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.methods import AudioView, EncoderScores
from core.methods.sa_map import SAMap


def slow_groups(states: Tensor, threshold: float) -> list[list[int]]:
    unit = states / states.norm(dim=1, keepdim=True)
    alike = (unit @ unit.T).tolist()
    found = [[0]]
    for i in range(1, len(states)):
        mean = sum(alike[i][j] for j in found[-1]) / len(found[-1])
        if mean >= threshold:
            found[-1].append(i)
        else:
            found.append([i])
    return found


def slow_choice(means: Tensor, relevance: Tensor, kept: int) -> list[int]:
    """The group that multiplies the determinant of the chosen kernel most, again and again."""
    unit = means / means.norm(dim=1, keepdim=True)
    kernel = (unit @ unit.T) * relevance[:, None] * relevance[None, :]
    chosen: list[int] = []
    for _ in range(kept):
        rest = [i for i in range(len(means)) if i not in chosen]
        chosen.append(max(rest, key=lambda i: float(kernel[[*chosen, i]][:, [*chosen, i]].det())))
    return sorted(chosen)


def slow(states: Tensor, received: Tensor, own: Tensor, kept: int) -> list[list[int]]:
    low, high = 0.85, 1.001
    if len(slow_groups(states, low)) >= kept:
        high = low
    for _ in range(16):
        middle = (low + high) / 2
        enough = len(slow_groups(states, middle)) >= kept
        low, high = (low, middle) if enough else (middle, high)
    found = slow_groups(states, high)
    means = torch.stack([(states[g] * received[g, None]).sum(0) / received[g].sum() for g in found])
    relevance = torch.stack([own[g].mean() for g in found])
    return [found[i] for i in slow_choice(means, relevance / relevance.max(), kept)]


def seen(states: Tensor, received: Tensor, own: Tensor) -> AudioView:
    scores = EncoderScores(received[None].float(), own[None].float())
    ones = torch.ones(1, len(states))
    rows = states[None].float()
    return AudioView((len(states),), rows[:, None], rows, None, None, ones, True, scores)


@given(seed=st.integers(0, 999), length=st.integers(2, 24), share=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_both_stages_equal_the_slow_ones(seed: int, length: int, share: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    # a wide space: kernels of full rank, neighbours between .7 and 1 alike
    states = 3 * torch.randn(1, 40, generator=draw) + torch.randn(length, 40, generator=draw)
    states = (states + states.roll(1, 0)).double()
    received = torch.rand(length, generator=draw).double() + 0.1
    own = torch.rand(length, generator=draw).double() + 0.5
    kept = max(1, round(share * length))
    expected = slow(states, received, own, kept)
    plan = SAMap().plan(seen(states, received, own), [kept])
    slots = plan.slot[0]
    assert [(slots == slot).nonzero().flatten().tolist() for slot in range(kept)] == expected
    mean = plan.mean(states[None].float())[0]
    for slot, members in enumerate(expected):
        weight = received[members] / received[members].sum()
        torch.testing.assert_close(
            mean[slot].double(), weight @ states[members], atol=1e-4, rtol=1e-4
        )


def test_a_group_is_as_long_as_its_members_are_alike() -> None:
    # 0, 20, 40 degrees: .94 from one to the next, but .77 from the first to the third
    turned = torch.tensor([0.0, 20.0, 40.0, 60.0, 62.0]).deg2rad()
    states = torch.stack([turned.cos(), turned.sin()], 1)
    ones = torch.ones(5)
    # mean of .94 and .77 is .853: the third goes in; .77 and .5 and .94: the fourth does not
    assert slow_groups(states, 0.85) == [[0, 1, 2], [3, 4]]
    plan = SAMap().plan(seen(states, ones, ones), [2])
    assert plan.slot[0].tolist() == [0, 0, 0, 1, 1]


def test_the_more_relevant_group_stays() -> None:
    states = torch.eye(3)
    own = torch.tensor([0.2, 0.9, 0.3])
    plan = SAMap().plan(seen(states, torch.ones(3), own), [2])
    assert plan.slot[0].tolist() == [-1, 0, 1]


def test_without_the_encoder_it_says_so() -> None:
    ones = torch.ones(1, 3)
    view = AudioView((3,), torch.ones(1, 1, 3, 2), torch.ones(1, 3, 2), None, None, ones)
    with pytest.raises(ValueError, match="needs the encoder's attention"):
        SAMap().plan(view, [2])
