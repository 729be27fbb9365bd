"""A small run of the faults benchmark: what it does to a run is real, and nothing is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from benchmarks import faults

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")


def test_killed_at_random_moments(tmp_path: Path) -> None:
    found = faults.killed(tmp_path / "run", kills=4, files=10, seed=2)
    assert found["lost"] == found["left_behind"] == found["left_alone"] == found["exit_code"] == 0
    assert found["complete"] and found["each_once"] and found["side_files_whole"]


def test_a_disk_that_fills_up_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # works without being root, and tears the line for certain
    monkeypatch.setattr(faults, "_mount", lambda *_: False)
    found = faults.full_disk(tmp_path / "run", files=20)
    assert (found["exit_code"], found["exit_code_with_room"]) == (1, 0)
    assert found["said"] == "error: cannot write into -o DIR/out: File too large"
    assert 0 < found["kept"] < 20
    assert found["torn_bytes"] > 0
    assert found["complete"] and found["each_once"] and found["side_files_whole"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_record_in_hand_be_finished(
    tmp_path: Path, number: signal.Signals
) -> None:
    found = faults.interrupted(tmp_path / "run", number)
    assert (found["exit_code"], found["exit_code_again"]) == (130, 0)
    assert found["in_hand_finished"]
    assert found["complete"] and found["each_once"]


def test_recordings_that_vanish(tmp_path: Path) -> None:
    found = faults.vanished(tmp_path / "run")
    assert (found["ok"], found["failed"], found["complete"]) == (20, 4, True)
    assert found["said"] == ["no such file"]
