"""The oracle's arithmetic of one layer, against sums done by hand."""

from __future__ import annotations

import math

import pytest
import torch

from tests.reference_layers import Token, attend, choose_pairs, merge, neighbour_cosines, rotate


def test_cosines_by_hand():
    keys = torch.tensor([[3.0, 4.0], [6.0, 8.0], [-4.0, 3.0], [4.0, -3.0]])
    assert neighbour_cosines(keys) == pytest.approx([1.0, 0.0, -1.0])


def test_pairs_by_hand():
    similarity = [0.1, 0.9, 0.3, 0.8, 0.9]
    assert choose_pairs(similarity, 0) == ([], math.inf)
    # ties go to the earlier pair
    assert choose_pairs(similarity, 1) == ([1], 0.0)
    pairs, margin = choose_pairs(similarity, 3)
    assert pairs == [1, 3, 4]
    assert margin == pytest.approx(0.5)
    assert choose_pairs(similarity, 5) == ([0, 1, 2, 3, 4], math.inf)


def test_merge_by_hand():
    # token i has state (i, 10 i) and prompt index 4 + i; token 2 already stands for two
    sources = [(4,), (5,), (6, 7), (8,), (9,)]
    tokens = [Token(torch.tensor([float(i), 10.0 * i]), s, s[0]) for i, s in enumerate(sources)]
    # pairs 1 and 2 chain tokens 1, 2, 3: (1*1 + 2*2 + 3*5) / (1+2+5) = 20/8
    merged = merge(tokens, [7.0, 1.0, 2.0, 5.0, 3.0], [1, 2])
    assert [t.sources for t in merged] == [(4,), (5, 6, 7, 8), (9,)]
    assert [t.position for t in merged] == [4, 5, 9]
    assert [t.size for t in merged] == [1, 4, 1]
    expected = torch.tensor([[0.0, 0.0], [2.5, 25.0], [4.0, 40.0]])
    assert torch.allclose(torch.stack([t.state for t in merged]), expected)
    # two chains side by side stay two: 0+1 and 2+3, but not 1+2
    merged = merge(tokens, [1.0, 1.0, 1.0, 1.0, 1.0], [0, 2])
    assert [t.sources for t in merged] == [(4, 5), (6, 7, 8), (9,)]
    assert [t.state[0].item() for t in merged] == [0.5, 2.5, 4.0]


def test_attention_by_hand():
    # one key head under two query heads of size 4, so scores are halved
    queries = torch.zeros(2, 2, 4)
    queries[1, 0, 0] = 2 * math.log(3)  # score log 3 on the second key, 0 on the first
    keys, values = torch.zeros(2, 1, 4), torch.zeros(2, 1, 4)
    keys[1, 0, 0], values[0, 0, 1], values[1, 0, 1] = 1.0, 4.0, 8.0
    mixed, received = attend(queries, keys, values, torch.zeros(2))
    # query 0 sees key 0 only; query 1: shares 1/4 and 3/4 on head 0, halves on head 1
    assert mixed[..., 1].flatten().tolist() == pytest.approx([4.0, 4.0, 7.0, 6.0])
    assert received.tolist() == pytest.approx([2 + 0.25 + 0.5, 0.75 + 0.5])
    # a first key which stands for three: shares 3/6 and 3/6, then 3/4 and 1/4
    mixed, received = attend(queries, keys, values, torch.tensor([3.0, 1.0]).log())
    assert mixed[..., 1].flatten().tolist() == pytest.approx([4.0, 4.0, 6.0, 5.0])
    assert received.tolist() == pytest.approx([2 + 0.5 + 0.75, 0.5 + 0.25])


def test_rotation_by_hand():
    # half = 2: channels 0 and 2 turn by the position, 1 and 3 by position / sqrt(theta)
    turned = rotate(torch.tensor([1.0, 0.0, 0.0, 2.0]), position=3, theta=100.0)
    expected = [math.cos(3), -2 * math.sin(0.3), math.sin(3), 2 * math.cos(0.3)]
    assert turned.tolist() == pytest.approx(expected)
