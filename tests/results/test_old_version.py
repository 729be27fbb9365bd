"""A folder that version 0.1.0 wrote, byte for byte: it knew files by id, and kept no journal."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import core.results.cues
from core.flags import resolve
from core.media.discover import discover
from core.naming import settle
from core.pipeline import run
from core.records import Report
from core.results.store import Store
from tests.fakes import FakeStages

CONFIG = resolve(model="fake")
SETTINGS = "f5e998e576e3ad3816bb4d91eb24e620bcfae27f5a5c6afc5435d4a5d550e9b6"
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
TALKS = {
    "a.wav": f"{LONG} sixteen\nand more",
    "b.wav": "three",
    "d.wav": "!media no sound",
    "day2/c.mp3": "four\n!media breaks off",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Recordings and results as they were then, in the working folder."""
    shutil.copytree(Path(__file__).parent / "version_0_1_0", tmp_path / "out")
    for name, text in TALKS.items():
        write(tmp_path / "talks" / name, text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (1_700_000_000, 1_700_000_000))


def go(*inputs: str, formats: tuple[str, ...] = ("srt", "txt", "json")) -> tuple[Report, list[str]]:
    """Run over inputs into `out`: the report, and what was transcribed."""
    stages = FakeStages()
    with Store(Path("out"), CONFIG.settings, formats) as store:
        report = run(CONFIG, list(settle(list(discover(inputs)), store)), store, stages=stages)
    done = [name for batch in stages.log if isinstance(batch, list) for name, _ in batch]
    return report, sorted(set(done))


def lines() -> dict[str, Any]:
    found = map(json.loads, Path("out/results.jsonl").read_text().splitlines())
    return {(one["id"], one["task"]): one for one in found}


def test_its_settings_are_those_of_today() -> None:
    assert CONFIG.settings_hash == SETTINGS


@pytest.mark.parametrize(
    "inputs", [("talks",), ("talks/*",), ("talks/a.wav", "talks/b.wav", "talks/day2"), ("./talks",)]
)
def test_what_is_done_stays_done(
    home: Path, inputs: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    subtitles = Path("out/a.srt").read_text()
    monkeypatch.setattr(core.results.cues, "LINE", 20)  # cues are cut in another way now
    report, done = go(*inputs)
    assert report.skipped == 2
    assert done == ["day2/c.mp3"]  # it was partial
    assert Path("out/a.srt").read_text() == subtitles
    assert all(one["warnings"] == [] for one in lines().values())
    assert set(lines()) == {(name, "asr") for name in TALKS}


def test_from_another_folder_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its paths lead nowhere from there."""
    shutil.move(home / "talks", home / "moved")
    (home / "work").mkdir()
    (home / "out").rename(home / "work" / "out")
    monkeypatch.chdir(home / "work")
    report, done = go("../moved")
    assert (report.skipped, done) == (2, ["day2/c.mp3"])
    assert len(lines()) == 4


def test_another_folder_is_added(home: Path) -> None:
    write(home / "more/a.wav", TALKS["a.wav"])  # of the same size and time
    report, done = go("talks", "more")
    assert (report.skipped, done) == (2, ["day2/c.mp3", "more/a.wav"])
    assert len(lines()) == 5


def test_another_folder_alone_replaces_nothing(home: Path) -> None:
    before = lines()[("a.wav", "asr")]
    write(home / "more/a.wav", TALKS["a.wav"])
    _, done = go("more")
    assert done == ["more/a.wav"]
    assert lines()[("a.wav", "asr")] == before
    assert (home / "out/more/a.srt").exists()


@pytest.mark.parametrize("columns", [42, 20])
def test_its_own_side_files_are_replaced(
    home: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Also where cues are cut in another way now."""
    monkeypatch.setattr(core.results.cues, "LINE", columns)
    write(home / "talks/a.wav", "new words")
    os.utime(home / "talks/a.wav")
    go("talks")
    assert lines()[("a.wav", "asr")]["warnings"] == []
    for kind in ("srt", "txt", "json"):
        assert "new words" in (home / f"out/a.{kind}").read_text()


@pytest.mark.parametrize(("old", "new"), [("fifteen", "50"), ("00:00:04,000", "00:00:03,500")])
def test_what_was_corrected_by_hand_is_left_alone(home: Path, old: str, new: str) -> None:
    path = home / "out/a.srt"
    path.write_text(path.read_text().replace(old, new))
    corrected = path.read_text()
    os.utime(home / "talks/a.wav")
    go("talks")
    assert path.read_text() == corrected
    assert lines()[("a.wav", "asr")]["warnings"] == ["left_alone:a.srt"]


def test_a_format_more_is_written_without_a_model(home: Path) -> None:
    (home / "out/b.vtt").write_text("mine")
    for _ in range(2):
        go("talks/a.wav", formats=("srt", "txt", "vtt"))
        _, done = go("talks/b.wav", formats=("srt", "txt", "vtt"))
        assert done == []
    assert (home / "out/a.vtt").read_text().startswith("WEBVTT")
    assert (home / "out/b.vtt").read_text() == "mine"
    assert lines()[("a.wav", "asr")]["warnings"] == []
    assert lines()[("b.wav", "asr")]["warnings"] == ["left_alone:b.vtt"]
