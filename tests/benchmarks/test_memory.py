"""What a run holds at a time depends neither on a recording's length nor on their number."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks.memory import no_model
from core.flags import resolve
from core.pipeline import run
from core.records import Recording
from core.results.store import Store
from tests.fakes import FakeStages


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def peak(recordings: list[Recording], folder: Path, stages: Any, **flags: Any) -> int:
    """Bytes of Python and numpy at the fullest moment of a run, less what was there before."""
    config = resolve(**flags)
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    with Store(folder, config.settings) as store:
        report = run(config, recordings, store, stages=stages)
    assert report.ok == len(recordings)
    return tracemalloc.get_traced_memory()[1] - before


@pytest.mark.usefixtures("traced")
def test_memory_is_flat_in_the_length_of_a_recording(tmp_path: Path) -> None:
    taken = []
    second = (0.3 * np.sin(np.arange(16_000) / 5)).astype(np.float32)
    for minutes in (1, 10, 40):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 16_000, 1) as file:
            for _ in range(60 * minutes):
                file.write(second)
        flags = {"segment": "fixed", "chunk_length": 5.0}
        taken.append(peak([Recording("a", path)], tmp_path / path.stem, no_model(), **flags))
    # the look-ahead alone is more than a minute
    assert taken[1] > 1.5 * taken[0]
    assert taken[2] < 1.2 * taken[1]


@pytest.mark.usefixtures("traced")
def test_memory_is_flat_in_the_number_of_recordings(tmp_path: Path) -> None:
    taken = []
    for number in (100, 1100):
        (tmp_path / f"{number}").mkdir()
        recordings = [Recording(f"{n}", tmp_path / f"{number}" / f"{n}") for n in range(number)]
        for recording in recordings:
            recording.path.write_text("\n".join(["word " * 100] * 4))
        taken.append(peak(recordings, tmp_path / f"out{number}", FakeStages(), model="fake"))
    # names of what is done, and no more: a record alone would take 4 kB
    assert taken[1] - taken[0] < 1000 * 1500
