"""What the overlap benchmark counts, and that what is read ahead is what the engine looks ahead."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from benchmarks.overlap import EXAMPLES, SHORT, measure
from core import reading
from core.engine import batching, engine


def test_the_model_and_its_waits_are_parts_of_the_wall_time(tmp_path: Path) -> None:
    for name in SHORT[:3]:
        shutil.copyfile(EXAMPLES / name, tmp_path / name)
    threads = torch.get_num_threads()
    try:
        found = measure(tmp_path, 1, {"reduce": 0.2})
    finally:
        torch.set_num_threads(threads)
    assert (found["recordings"], found["failed"]) == (3, 0)
    # the first recording is always waited for
    assert found["model_s"] > 0 < found["waited_s"]
    assert found["model_s"] + found["waited_s"] <= found["wall_s"] + 0.02
    assert 0 < found["thread_cpu_s"] <= found["wall_s"] + 0.02


def test_a_window_of_the_engine_is_read_ahead() -> None:
    # of short recordings, where the model is slow enough to be waited for
    assert batching.LOOK_AHEAD * engine._CPU_ROWS[0] <= reading.FILES_AHEAD
    assert reading.SEGMENTS_AHEAD >= batching.MOST_AHEAD
    assert reading.SECONDS_AHEAD >= batching.SECONDS_AHEAD
