"""Running moments against numpy on all features at once."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from core.studies.entropy import GaussianEntropy

KINDS = pytest.mark.parametrize("joint", [False, True], ids=["channels", "joint"])


def features(count: int = 500, channels: int = 6, seed: int = 0) -> Tensor:
    """Correlated channels of very different means and spreads."""
    draw = np.random.default_rng(seed)
    mixed = draw.normal(size=(count, channels)) @ draw.normal(size=(channels, channels))
    scales, means = np.logspace(-2, 2, channels), np.linspace(-1e4, 1e4, channels)
    return torch.from_numpy(mixed * scales + means)


def expected(rows: Tensor, joint: bool) -> float:
    covariance: npt.NDArray[np.float64] = np.cov(rows.double().numpy().T)
    if not joint:
        covariance = np.diag(np.diag(covariance))
    return float(0.5 * np.linalg.slogdet(2 * math.pi * math.e * covariance)[1])


def of(*batches: Tensor, joint: bool) -> GaussianEntropy:
    found = GaussianEntropy(joint=joint)
    for batch in batches:
        found.add(batch)
    return found


@KINDS
@pytest.mark.parametrize("sizes", [[500], [250, 250], [1, 2, 97, 0, 400], [1] * 500])
def test_any_batches_give_what_numpy_gives_for_all(joint: bool, sizes: list[int]) -> None:
    rows = features()
    found = of(*rows.split(sizes), joint=joint)
    assert (found.count, found.channels) == (500, 6)
    assert found.nats() == pytest.approx(expected(rows, joint), abs=1e-8)


@KINDS
def test_parts_are_merged_and_stay_as_they_are(joint: bool) -> None:
    rows = features()
    left, right = of(rows[:300], joint=joint), of(rows[300:], joint=joint)
    before = right.nats()
    total = of(joint=joint)
    for part in (left, of(joint=joint), right):
        total.merge(part)
    assert total.nats() == pytest.approx(expected(rows, joint), abs=1e-8)
    assert left.nats() == pytest.approx(expected(rows[:300], joint), abs=1e-8)
    assert (right.nats(), right.count) == (before, 200)


@KINDS
def test_narrow_floats_are_summed_in_wide_ones(joint: bool) -> None:
    rows = features().float()
    rows[:, -1] = 1e4 + torch.arange(500) % 2  # a spread that float32 sums of squares would lose
    found = of(*rows.split(50), joint=joint)
    assert found.nats() == pytest.approx(expected(rows, joint), abs=1e-8)
    half = (features(channels=3) % 10).to(torch.bfloat16)
    assert of(half, joint=False).nats() == pytest.approx(expected(half, False), abs=1e-8)


@KINDS
def test_what_does_not_vary_counts_with_a_least_variance(joint: bool) -> None:
    rows = features()
    same = rows[:, 1:2] if joint else torch.full((500, 1), 3.0)  # no new direction; no spread
    dead = torch.cat([rows, same], 1)
    found = of(dead, joint=joint).nats()
    assert math.isfinite(found)
    # as many terms on both sides: a scale shows in all of them
    twice = of(2 * dead, joint=joint).nats()
    assert twice - found == pytest.approx(7 * math.log(2), abs=1e-6 if joint else 1e-12)
    assert math.isfinite(of(torch.zeros(20, 4), joint=joint).nats())


@KINDS
def test_too_few_features_are_refused(joint: bool) -> None:
    least = 7 if joint else 2
    for count in (0, 1, least - 1):
        with pytest.raises(ValueError, match="too few"):
            of(features()[:count], joint=joint).nats()
    assert math.isfinite(of(features()[:least], joint=joint).nats())
