"""The same command again, among the files that the first one left and those of others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import fastadasp
from tests.fakes import FakeStages

ALL = "jsonl,srt,vtt,txt,tsv,json"
OTHERS = {
    "a.info.json": '{"id": "x", "title": "a talk"}',
    "a.description": "a talk",
    "a.webp": "RIFF....WEBPVP8 ",
    "b.mp4.part": "....ftypisom",
    "a.txt": "my own notes about it\n",
    "notes.md": "# notes",
}


@pytest.fixture
def folder(talks: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Recordings with what a downloader and their owner have left among them, as working folder."""
    for name, text in OTHERS.items():
        (talks / name).write_text(text)
    monkeypatch.chdir(talks)
    return talks


def star() -> list[str]:
    return sorted(name for name in os.listdir() if not name.startswith("."))


def results(folder: Path) -> dict[str, Any]:
    lines = map(json.loads, (folder / "results.jsonl").read_text().splitlines())
    return {f"{one['id']} {one['task']}": one for one in lines}


def transcribed(stages: FakeStages) -> set[str]:
    done = {name for one in stages.log if isinstance(one, list) for name, _ in one}
    stages.log.clear()
    return done


@pytest.mark.parametrize("more", [(), ("--task", "asr,st", "--lang", "de"), ("--hash",)])
def test_a_star_into_the_same_folder_again_and_again(
    cli: Any, folder: Path, stages: FakeStages, more: tuple[str, ...]
) -> None:
    first = cli("run", *star(), "-o", ".", "-f", ALL, *more)
    assert first.exit_code == 0
    assert "6 passed over, no recordings: " in first.stderr
    assert transcribed(stages) == {"a.wav", "b.wav", "c.mp3"}
    before = {name: (folder / name).stat().st_mtime_ns for name in star()}
    for _ in range(2):
        again = cli("run", *star(), "-o", ".", "-f", ALL, *more)
        assert (again.exit_code, transcribed(stages)) == (0, set())
        assert "3 skipped" in again.stderr
        assert f"{len(before) - 3} passed over" in again.stderr  # a.wav, b.wav and day2
    assert {name: (folder / name).stat().st_mtime_ns for name in star()} == before
    assert {name: (folder / name).read_text() for name in OTHERS} == OTHERS


def test_a_users_file_is_left_alone_and_the_way_out_is_said(cli: Any, folder: Path) -> None:
    found = cli("run", *star(), "-o", ".", "-f", "txt")
    assert found.exit_code == 0
    assert results(folder)["a.wav asr"]["warnings"] == ["left_alone:a.txt"]
    assert "a.wav: left_alone:a.txt" in found.stderr
    assert "1 left alone, " in found.stderr and "--overwrite" in found.stderr
    assert cli("run", *star(), "-o", ".", "-f", "txt").stderr.count("left alone") == 0
    cli("run", "a.wav", "-o", ".", "-f", "txt", "--overwrite")
    assert (folder / "a.txt").read_text() == "one\ntwo\n"
    assert results(folder)["a.wav asr"]["warnings"] == []


def test_one_blocked_side_file_costs_its_recording(cli: Any, folder: Path) -> None:
    (folder / "out/b.srt").mkdir(parents=True)
    for number in range(2):
        found = cli("run", "a.wav", "b.wav", "day2/c.mp3", "-o", "out", "-f", "srt")
        assert found.exit_code == 1
        assert "failed: b.wav: cannot write out/b.srt: Is a directory" in found.stderr
        assert ("2 skipped" in found.stderr) == bool(number)
    assert results(folder / "out")["b.wav asr"]["pred_text"] == "three"
    (folder / "out/b.srt").rmdir()
    assert cli("run", "b.wav", "-o", "out", "-f", "srt").exit_code == 0


def test_another_format_later_needs_no_model(cli: Any, folder: Path, stages: FakeStages) -> None:
    cli("run", ".", "-o", "out")
    transcribed(stages)
    assert cli("run", ".", "-o", "out", "-f", ALL).exit_code == 0
    assert stages.log == []
    assert sorted(os.listdir("out/day2")) == ["c.json", "c.srt", "c.tsv", "c.txt", "c.vtt"]


def test_a_second_folder_and_a_folder_more(cli: Any, folder: Path, stages: FakeStages) -> None:
    (folder / "day3").mkdir()
    (folder / "day3/c.mp3").write_text("five")
    for inputs, done in [
        (["day2"], {"c.mp3"}),
        (["day3"], {"day3/c.mp3"}),
        (["day2", "day3"], set()),
        ([folder / "day2/c.mp3", "."], {"a.wav", "b.wav"}),
    ]:
        assert cli("run", *inputs, "-o", "out", "-f", "txt").exit_code == 0
        assert transcribed(stages) == done
    assert (folder / "out/c.txt").read_text() == "four\n"
    assert (folder / "out/day3/c.txt").read_text() == "five\n"


def test_in_python_too(folder: Path, stages: FakeStages) -> None:
    (folder / "day3").mkdir()
    (folder / "day3/c.mp3").write_text("five")
    for inputs, texts in [
        ("day2", ["four"]),
        ("day3", ["five"]),
        (["day3", "day2"], ["five", "four"]),
    ]:
        found = fastadasp.transcribe(inputs, output_dir="out")
        assert [one.pred_text for one in found] == texts
    assert set(results(folder / "out")) == {"c.mp3 asr", "day3/c.mp3 asr"}


@pytest.mark.parametrize("output", [(), ("-o", "out")])
def test_recordings_with_a_text_are_left_out(
    cli: Any, folder: Path, stages: FakeStages, output: tuple[str, ...]
) -> None:
    (folder / "day2/c.en.srt").write_text("1\n")
    found = cli("run", ".", "--skip-existing", *output)
    assert (found.exit_code, transcribed(stages)) == (0, {"b.wav"})
    assert "1 ok" in found.stderr and "2 left out, with subtitles or a text" in found.stderr
    (folder / "b.vtt").write_text("WEBVTT\n")
    found = cli("run", ".", "--skip-existing", *output)
    assert (found.exit_code, transcribed(stages)) == (0, set())
    paths = "".join(f"{name}\n" for name in ("a.wav", "b.wav", "day2/c.mp3"))
    found = cli("run", "-", "--skip-existing", input=paths)
    assert "3 left out" in found.stderr


def test_a_recording_with_a_record_goes_by_its_record(
    cli: Any, folder: Path, stages: FakeStages
) -> None:
    (folder / "b.wav").write_text("three\n!media breaks off")
    command = ("run", "b.wav", "day2", "-o", "out", "-f", "txt", "--skip-existing")
    assert cli(*command).exit_code == 1
    transcribed(stages)
    assert (folder / "out/b.txt").exists()
    assert cli(*command).exit_code == 1
    assert transcribed(stages) == {"b.wav"}  # which was done in part


def test_quiet_says_nothing_of_all_this(cli: Any, folder: Path) -> None:
    (folder / "b.srt").write_text("1\n")
    found = cli("run", *star(), "-o", ".", "-f", "txt", "--skip-existing", "-q")
    assert (found.exit_code, found.stderr) == (0, "")
