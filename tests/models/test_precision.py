"""What `--dtype auto` comes to: asked of the machine once, and never of a small model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from core.models import load_model, precision
from fastadasp_cli import doctor
from tests.folders import save_tiny

CPU = torch.device("cpu")


@pytest.fixture
def races(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[float]]:
    """Results of the races to come, the last one first; the cache is in `tmp_path`."""
    results = [1.0, 9.0, 2.5]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(precision, "race", lambda device, rounds=5: results.pop())
    precision._speedup.cache_clear()
    yield results
    precision._speedup.cache_clear()


def test_no_link_is_written_through(races: list[float], tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    folder = tmp_path / "fastadasp"
    folder.mkdir()
    for name in (f"bfloat16.{os.getpid()}", "bfloat16.json"):
        (folder / name).symlink_to(tmp_path / "victim")
    assert precision.speedup(CPU) == 2.5
    assert (tmp_path / "victim").read_text() == "precious"
    assert json.loads((folder / "bfloat16.json").read_text())


def test_the_race_is_run_once_and_kept_on_the_disk(races: list[float], tmp_path: Path) -> None:
    assert [precision.speedup(CPU) for _ in range(3)] == [2.5] * 3
    precision._speedup.cache_clear()
    assert precision.speedup(CPU) == 2.5
    assert len(races) == 2
    [file] = (tmp_path / "fastadasp").iterdir()
    assert file.name == "bfloat16.json"
    [(key, ratio)] = json.loads(file.read_text()).items()
    assert ratio == 2.5
    assert torch.__version__ in key


@pytest.mark.parametrize("text", ["", "[1]", '{"a": "b"}', '{"a": null}'])
def test_a_damaged_cache_is_as_good_as_none(races: list[float], tmp_path: Path, text: str) -> None:
    (tmp_path / "fastadasp").mkdir()
    (tmp_path / "fastadasp" / "bfloat16.json").write_text(text)
    assert precision.speedup(CPU) == 2.5


def test_a_cache_that_cannot_be_written_is_no_matter(races: list[float], tmp_path: Path) -> None:
    (tmp_path / "fastadasp").write_text("a file")
    assert precision.speedup(CPU) == 2.5


def test_large_models_take_what_is_faster_and_small_ones_float32(
    races: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(save_tiny(tmp_path / "tiny"))
    assert load_model(folder, device="cpu").dtype == torch.float32
    assert len(races) == 3  # nobody asked
    monkeypatch.setattr(precision, "SMALL", 1000)
    assert load_model(folder, device="cpu").dtype == torch.bfloat16
    precision._speedup.cache_clear()
    (tmp_path / "fastadasp" / "bfloat16.json").unlink()
    races[:] = [precision.MARGIN - 0.01] * 2
    assert load_model(folder, device="cpu").dtype == torch.float32
    assert load_model(folder, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_the_race_has_a_result() -> None:
    assert 0 < precision.race(CPU) < 100


def test_a_result_close_to_the_margin_is_looked_at_for_longer(
    races: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def race(device: torch.device, rounds: int = 5) -> float:
        asked.append(rounds)
        return races.pop()

    monkeypatch.setattr(precision, "race", race)
    races[:] = [1.6, precision.MARGIN - 0.1]
    assert precision.speedup(CPU) == 1.6
    precision._speedup.cache_clear()
    assert precision.speedup(CPU) == 1.6  # kept, for it was sure
    assert asked == [5, 40]


def test_another_share_of_the_processor_is_another_machine(
    races: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(precision, "_QUOTA", quota)
    assert precision.speedup(CPU) == 2.5
    quota.write_text("50000 100000\n")
    assert precision.speedup(CPU) == 9.0
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    races[:] = [4.0]
    assert precision.speedup(CPU) == 4.0


def test_doctor_measures_anew(races: list[float], tmp_path: Path) -> None:
    finding: Any = next(doctor._dtype())
    assert finding.what == "dtype on cpu"
    assert "bfloat16 from 100 M" in finding.text
    assert "2.5 times" in finding.text
    assert precision.kept(CPU) is None
    precision.speedup(CPU)
    finding = next(doctor._dtype())
    assert (finding.state, "1.0 times as fast now, and was 9.0" in finding.text) == ("note", True)
    assert f"{tmp_path}/fastadasp/bfloat16.json: delete that file for float32" in finding.text
