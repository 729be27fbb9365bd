"""`fastadasp calibrate` with a tiny model: table, JSON, preset file, refusals."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

import presets
from core.errors import StartError
from core.stages import Rooms
from fastadasp_cli import calibrate_view
from fastadasp_cli.main import app
from tests.folders import save_tiny

CARD = {"tasks": ["asr"], "prompts": {"asr": "transcribe the speech"}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"), CARD)


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    where = tmp_path / "talks"
    where.mkdir()
    draw = np.random.default_rng(5)
    for number in range(4):
        soundfile.write(where / f"{number}.wav", draw.normal(0, 0.1, 30_000), 16_000)
    return where


def invoke(*words: object) -> Result:
    """Any command, with the real rooms."""
    return CliRunner().invoke(app, [str(word) for word in words])


def said(result: Result) -> list[str]:
    """stderr without transformers' own bar, which hushing comes too late for in this process."""
    lines = result.stderr.splitlines()
    return [line for line in lines if line and not line.startswith("Loading weights")]


@pytest.fixture
def calibrate(model: Path, talks: Path) -> Callable[..., Result]:
    """`fastadasp calibrate` over the folder of noise."""

    def go(*words: object) -> Result:
        usual = ("calibrate", talks, "--model", model, "--device", "cpu", "--segment", "fixed")
        return invoke(*usual, *words)

    return go


def test_a_table_and_a_preset_that_runs(
    calibrate: Any, model: Path, talks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fastadasp", "calibrate", "my talks"])
    path = tmp_path / "mine.yaml"
    result = calibrate("--reduce", "0.1,0.4", "-o", path)
    assert result.exit_code == 0, result.output
    caption, meaning, head, *rows = (line.rstrip() for line in result.stdout.splitlines())
    assert caption.startswith("asr: 4 recordings, 7.5 s, with ")
    assert "full model " in meaning
    assert head.split() == ["layer", "start", "asked", "cut", "tokens", "H", "TE"]
    assert len(rows) == 12
    chosen = {row.split()[0] for row in rows if row.endswith("chosen")}
    assert len(chosen) == 1
    assert rows[-1].startswith("5      0.833  40%")
    assert rows[-1].rpartition("reach: ")[2].endswith("% at most")
    assert "loading" in result.stderr
    assert f"--preset {path}" in result.stderr
    text = path.read_text()
    assert text.startswith("# fastadasp calibrate 'my talks'\n# fastadasp ")
    assert presets.load(str(path)).reduce == 0.4
    command = ("run", talks, "--model", model, "--device", "cpu", "--segment", "fixed")
    done = invoke(*command, "--preset", path, "--max-new-tokens", "2", "-q")
    # random weights never end an answer, so nothing counts as covered
    assert done.exit_code == 1, done.output
    assert "ended by itself" in done.stderr
    record = json.loads(done.stdout.splitlines()[0])
    assert (record["preset"], record["schedule"]) == ("mine", "once")
    assert {str(record["start_layer"])} == chosen
    assert record["flops"]["reduction"] == pytest.approx(0.4, abs=0.02)


def test_json_is_one_document_and_nothing_else(calibrate: Any) -> None:
    words = ("--json", "-q", "--reduce", "0.4", "--limit", "2", "--method", "merge-mean")
    result = calibrate(*words, "--positions", "reindex", "--start-layers", "0,1,5")
    assert (result.exit_code, said(result)) == (0, [])
    data = json.loads(result.stdout)
    assert (data["method"], data["positions"], data["levels"]) == ("merge-mean", "reindex", [0.4])
    assert (data["recordings"], data["failed"], data["entropy_of"]) == (2, [], "channels")
    assert [point["layer"] for point in data["points"]] == [0, 1, 5]
    assert [point["chosen"] for point in data["points"]].count(True) == 1
    first, _, last = data["points"]
    assert first["reached"] is True
    assert (last["reached"], last["cut"], last["transfer_entropy"]) == (False, None, None)
    assert last["most"] < 0.4
    assert data["start"] == pytest.approx(data["layer"] / 6, abs=1e-6)


def test_the_level_is_the_tasks_when_none_is_asked_for(calibrate: Any) -> None:
    data = json.loads(calibrate("--json", "--start-layers", "0").stdout)
    assert data["levels"] == [presets.load("asr-safe").reduce]


def test_a_file_is_not_replaced_unless_told_to(calibrate: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("precious")
    result = calibrate("-o", path)
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert path.read_text() == "precious"
    assert calibrate("-o", path, "--force", "--start-layers", "0").exit_code == 0
    assert presets.load(str(path)).schedule == "once"


def test_a_file_made_meanwhile_is_not_replaced(
    calibrate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.yaml"
    load = Rooms.load

    def meanwhile(self: Rooms, config: Any) -> Any:
        path.write_text("precious")
        return load(self, config)

    monkeypatch.setattr(Rooms, "load", meanwhile)
    result = calibrate("-o", path, "--start-layers", "0")
    assert result.exit_code == 2
    assert path.read_text() == "precious"


def test_a_bad_file_is_named_and_exit_1(calibrate: Any, talks: Path, tmp_path: Path) -> None:
    (talks / "bad.wav").write_text("no sound in here")
    result = calibrate("-q", "--start-layers", "0", "-o", tmp_path / "mine.yaml")
    assert result.exit_code == 1
    [line] = said(result)
    assert line.startswith("failed: bad.wav: ")
    assert "4 recordings" in result.stdout
    assert "4 recordings, 1 failed" in (tmp_path / "mine.yaml").read_text()


def test_all_failed_writes_nothing(calibrate: Any, talks: Path, tmp_path: Path) -> None:
    for path in talks.iterdir():
        path.write_text("no sound in here")
    result = calibrate("-o", tmp_path / "mine.yaml", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no recording could be used" in result.stderr
    assert not (tmp_path / "mine.yaml").exists()


def test_no_layer_reaches_the_cut(calibrate: Any, talks: Path, tmp_path: Path) -> None:
    for path in talks.iterdir():
        soundfile.write(path, np.random.default_rng(1).normal(0, 0.1, 4_000), 16_000)
    result = calibrate("-o", tmp_path / "mine.yaml", "--reduce", "0.6", "--start-layers", "0")
    assert result.exit_code == 2
    assert "recordings too short for this cut" in result.stdout
    assert "lower --reduce" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "mine.yaml").exists()


def test_a_bar_tells_of_every_step(
    calibrate: Any, monkeypatch: pytest.MonkeyPatch, talks: Path
) -> None:
    told: list[dict[str, Any]] = []

    class Bar:
        def add_task(self, words: str, **about: Any) -> int:
            told.append(about)
            return 0

        def update(self, row: int, **about: Any) -> None:
            told.append(about)

        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(calibrate_view.console, "progress_bar", Bar)
    monkeypatch.setattr(calibrate_view, "_on_terminal", lambda: True)
    assert calibrate("--reduce", "0.2", "--start-layers", "0,1", "-q").exit_code == 0
    assert told == []
    assert calibrate("--reduce", "0.2", "--start-layers", "0,1").exit_code == 0
    first, *steps = told
    assert first["total"] == 4
    assert sum(step["advance"] for step in steps) == pytest.approx(4)
    assert [step["audio"] for step in steps] == ["full", "layer 0 at 20%", "layer 1 at 20%"]


def test_a_pipe_sees_life(calibrate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastadasp_cli.console.PATIENCE", 0.0)
    told = said(calibrate("--reduce", "0.2", "--start-layers", "1", "--batch-size", "2"))
    done = [line for line in told if "recordings done" in line]
    assert done[:2] == [
        "full (0 of 4 recordings done)",
        "layer 1 at 20% (0 of 4 recordings done)",
    ]
    assert done[-1].startswith("layer 1 at 20% (")
    assert len(done) == 4


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (("TALKS", "--reduce", "half"), "numbers with commas"),
        (("TALKS", "--reduce", "0.2,3"), "0 to 0.9"),
        (("TALKS", "--reduce", "0,0.2"), "nothing is cut"),
        (("TALKS", "--method", "none"), "name a method"),
        (("TALKS", "--method", "fastadsap"), "fastadasp"),
        (("TALKS", "--positions", "left"), "reindex, keep"),
        (("TALKS", "--entropy", "loud"), "channels, joint"),
        (("TALKS", "--task", "sing"), "asr, st"),
        (("TALKS", "--task", "st"), "--lang CODE"),
        (("TALKS", "--limit", "0"), "--limit"),
        (("TALKS", "-o", "mine.txt"), ".yaml"),
        (("TALKS", "-o", "gone/mine.yaml"), "no folder gone"),
        (("gone.wav",), "gone.wav"),
        ((), "INPUT"),
    ],
)
def test_usage_errors_come_before_the_model(
    monkeypatch: pytest.MonkeyPatch, talks: Path, words: tuple[str, ...], way_out: str
) -> None:
    monkeypatch.setattr(
        "core.models.load_model", lambda *_, **__: pytest.fail("a model was loaded")
    )
    result = invoke("calibrate", *(str(talks) if word == "TALKS" else word for word in words))
    assert result.exit_code == 2, result.output
    assert way_out in result.stderr
    assert result.stdout == ""


def test_a_model_that_does_not_load_is_exit_3(monkeypatch: pytest.MonkeyPatch, talks: Path) -> None:
    def absent(*_: Any, **__: Any) -> None:
        raise StartError("model 'absent' cannot be loaded: no such model")

    monkeypatch.setattr("core.models.load_model", absent)
    result = invoke("calibrate", talks, "-m", "absent", "-q")
    assert result.exit_code == 3
    assert result.stderr == "error: model 'absent' cannot be loaded: no such model\n"
