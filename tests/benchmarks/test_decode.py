"""The benchmark of a decode step: all ways take the same steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.decode import SETTLED, measure
from core.studies.bench import Setting, build_decoder, shape_of
from core.studies.bench.measure import work_of


@pytest.mark.parametrize("beams", [1, 3])
def test_ways_that_need_a_gpu_are_left_out_or_agree(
    beams: int, request: pytest.FixtureRequest
) -> None:
    model: Any = build_decoder(shape_of("tiny"), torch.device("cpu"), torch.float32)
    setting = Setting("tiny", 4.0, beams, batch=2, tokens=SETTLED + 3)
    (alone,) = measure(work_of(setting, model), setting, 0.5, 1e9)
    assert alone.way == "moving"
    plays = request.getfixturevalue("played")
    found = measure(work_of(setting, model), setting, 0.5, 1e9)
    assert [row.way for row in found] == ["moving", "staying", "played"]
    assert len(plays) == 7  # the first is tried twice
    for row in found:
        assert row.difference < 1e-5
        # two ways to say the same of one bandwidth
        assert row.ms * row.of_bandwidth == pytest.approx(found[0].ms * found[0].of_bandwidth)
