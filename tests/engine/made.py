"""Settings and sounds for the tests of the engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from core.config import ReductionConfig, RunConfig
from core.records import Segment

CARD = {
    "tasks": ["asr", "sqa"],
    "prompts": {"asr": "transcribe the speech", "sqa": "{question}"},
}


def config(reduce: float = 0.3, **changes: Any) -> RunConfig:
    reduction = ReductionConfig("fastadasp", "constant", reduce, "keep", 0.0)
    return replace(RunConfig("asr", reduction, max_new_tokens=3), **changes)


def segments(*seconds: float) -> list[Segment]:
    draw = np.random.default_rng(1)
    made = (draw.normal(0, 0.1, round(16_000 * s)).astype(np.float32) for s in seconds)
    return [Segment("a", index, 10.0 * index, wave) for index, wave in enumerate(made)]
