"""A run over a manifest that names parts of files, with real ears and no model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.flags import resolve
from core.media.discover import discover
from core.pipeline import run
from core.records import Report, Source
from core.results.lines import read_results
from core.results.store import Store
from core.worker import of_json, to_json
from tests.hearing import Hearing
from tests.media.sounds import tone, write


def manifest(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "list.jsonl"
    path.write_text("".join(json.dumps({"audio_filepath": "a.wav", **row}) + "\n" for row in rows))
    return str(path)


def go(out: Path, *inputs: str) -> Report:
    config = resolve(segment="fixed", chunk_length=2.0)
    recordings = list(discover(inputs))
    with Store(out, config.settings) as store:
        return run(config, recordings, store, stages=Hearing())


def records(out: Path) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in read_results(out / "results.jsonl")}


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "a.wav", tone(9.04))
    return folder


def test_only_the_part_is_read_and_times_are_those_of_the_recording(
    talk: Path, tmp_path: Path
) -> None:
    rows = ({"offset": 0, "duration": 1}, {"offset": 3.5, "duration": 3}, {"offset": 8.0})
    report = go(tmp_path / "out", manifest(talk, *rows, {"offset": 8.5, "duration": 4}))
    made = records(tmp_path / "out")
    assert report.ok == 4
    times = {
        name: [(span["start"], span["end"]) for span in one["segments"]]
        for name, one in made.items()
    }
    assert times == {
        "a#t=0,1.wav": [(0.0, 1.0)],
        "a#t=3.5,6.5.wav": [(3.5, 5.5), (5.5, 6.5)],
        "a#t=8.wav": [(8.0, 9.04)],
        "a#t=8.5,12.5.wav": [(8.5, 9.04)],
    }
    assert [(one["offset"], one["duration"]) for one in made.values()] == [
        (0.0, 1.0),
        (3.5, 3.0),
        (8.0, 1.04),
        (8.5, 0.54),
    ]
    assert made["a#t=8.5,12.5.wav"]["warnings"] == [
        "ends at 9.0 s, before the 12.5 s of its manifest"
    ]


def test_a_part_behind_the_end_fails_alone(talk: Path, tmp_path: Path) -> None:
    report = go(tmp_path / "out", manifest(talk, {"offset": 20, "duration": 1}, {"offset": 1}))
    assert (report.ok, report.failed) == (1, 1)
    error = records(tmp_path / "out")["a#t=20,21.wav"]["error"]["message"]
    assert error == "the manifest's offset of 20 s lies behind its 9.0 s"


@pytest.mark.parametrize("written", [9.0, 9.04, 9.1, 30.0])
def test_a_manifest_with_the_length_of_the_file_is_the_file(
    written: float, talk: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert go(out, manifest(talk, {"duration": written})).ok == 1
    made = records(out)["a.wav"]
    assert (made["duration"], made["offset"]) == (9.04, None)
    assert "cut_short" not in str(made["warnings"])
    for inputs in ([str(talk)], [str(talk / "list.jsonl")], [str(talk), str(talk / "list.jsonl")]):
        assert go(out, *inputs).skipped == 1
    assert go(out, manifest(talk, {"duration": 9.02})).skipped == 1


def test_another_duration_is_done_again(talk: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert go(out, manifest(talk, {"duration": 4})).ok == 1
    assert records(out)["a.wav"]["duration"] == 4.0
    assert records(out)["a.wav"]["warnings"] == [
        "cut_short: there is more behind the 4 s of its manifest"
    ]
    assert go(out, manifest(talk, {"duration": 4})).skipped == 1
    assert go(out, manifest(talk, {"duration": 5})).ok == 1
    assert records(out)["a.wav"]["duration"] == 5.0
    assert go(out, str(talk)).ok == 1
    assert records(out)["a.wav"]["duration"] == 9.04
    assert go(out, manifest(talk, {"duration": 4})).ok == 1


def test_records_from_before_there_were_parts_are_of_whole_files() -> None:
    old = Source(**{"size": 3, "mtime_ns": 4, "sha256": None})
    assert old.same(Source(3, 4, None, 0.0, None))
    assert old.same(Source(3, 4, None, 0.0, 9.0))
    assert not old.same(Source(3, 5, None, 0.0, None))
    assert not Source(3, 4, "x", 0.0, 2.0).same(Source(3, 4, "x", 0.0, None))


def test_a_worker_elsewhere_is_told_of_the_part(talk: Path) -> None:
    [found] = discover([manifest(talk, {"offset": 1, "duration": 2})])
    from core.wanted import Wanted

    config = resolve()
    assert of_json(to_json(config, Wanted(found, Source(), (config,)))).recording == found
