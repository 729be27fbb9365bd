"""A run on Ray: two workers on this machine, without sound and without a model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import core
from core.cluster import Cluster, run
from core.errors import StartError, UsageError
from core.flags import resolve
from core.ids import source_of
from core.media.discover import discover
from core.naming import settle
from core.pipeline import Event
from core.pipeline import run as run_here
from core.records import Recording, Source, Transcript
from core.results.lines import read_results
from core.results.store import MemorySink, Store
from tests.fakes import FakeStages

TWO = Cluster(workers=2, gpus=0, rooms=FakeStages())
CONFIG = resolve(model="fake")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "in").mkdir()
    yield tmp_path


def corpus(folder: Path, files: dict[str, str]) -> list[Recording]:
    for name, text in files.items():
        (folder / "in" / name).write_text(text, encoding="utf-8")
    return [Recording(name, folder / "in" / name) for name in files]


def alike(record: Transcript) -> Transcript:
    """What does not depend on the company."""
    return replace(record, batch_size=None)


def test_two_workers_write_the_records_of_one_process_and_a_killed_one_is_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray.data")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # the workers import this file
    files = {f"{n:02d}": f"one {n}\n!sleep 0.2\ntwo" for n in range(12)}
    files |= {"bad": "one\n!media breaks off", "who": "!pid", "empty": ""}
    recordings = corpus(folder, files)
    recordings.append(Recording("gone", Path("gone"), error="no such file"))
    # a path from where the command was started
    monkeypatch.chdir(folder)
    recordings[0] = replace(recordings[0], path=Path("in") / recordings[0].id)
    expected = MemorySink()
    run_here(CONFIG, recordings, expected, stages=FakeStages())
    killer = corpus(folder, {"killer": f"one\n!kill {folder}/killed"})
    events: list[Event] = []
    with Store(folder / "out", CONFIG.settings) as store:
        report = run(TWO, CONFIG, recordings + killer, store, on_event=events.append)
        found = store.records("asr")
    assert (folder / "killed").exists()
    assert (report.ok, report.partial, report.failed) == (15, 1, 1)
    lines = [data["id"] for data in read_results(folder / "out" / "results.jsonl")]
    assert sorted(lines) == sorted([*files, "gone", "killer"])
    for name, record in expected.records.items():
        if name not in ("who", "gone"):
            assert alike(found[name]) == alike(record)
    assert found["who"].pred_text != expected.records["who"].pred_text
    assert found["gone"].error == expected.records["gone"].error
    kinds = [event.kind for event in events]
    assert (kinds[0], kinds.count("started"), kinds.count("record")) == ("loading", 1, 17)
    # the same resume: what is ok is skipped, and no worker is started for the rest
    again: list[Event] = []
    good = [one for one in recordings + killer if one.id not in ("bad", "gone")]
    with Store(folder / "out", CONFIG.settings) as store:
        report = run(TWO, CONFIG, good, store, on_event=again.append)
    assert report.skipped == len(again) == 15


@pytest.mark.timeout(600)  # four workers die and are replaced
def test_a_recording_that_ends_every_worker_fails_and_its_neighbours_do_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray.data")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    deaths = folder / "deaths"
    # 16 recordings for two workers go in pairs
    files = {f"{n:02d}": f"one {n}\ntwo" for n in range(16)}
    files["07"] = f"one\n!die {deaths}"
    sink = MemorySink()
    report = run(TWO, CONFIG, corpus(folder, files), sink)
    assert (report.ok, report.failed) == (15, 1)
    assert sink.records["07"].status == "failed"
    assert "2 workers that took it alone died of it" in str(sink.records["07"].error)
    assert sink.records["07"].source.size == (folder / "in" / "07").stat().st_size
    assert sink.records["06"].pred_text == "one 6 two"
    # twice in company, twice alone
    assert deaths.read_text() == "x" * 4


class Handle:
    """Of an actor that lives here."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._actor, name))


class Inline:
    """Ray in this process: one worker, groups one after the other."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.init = self.shutdown = self.cluster_resources = lambda **_: {}
        self.data = self
        self.exceptions = SimpleNamespace(RayError=KeyError)
        self.DataContext = SimpleNamespace(get_current=SimpleNamespace)

    def from_items(self, rows: list[dict[str, str]], override_num_blocks: int) -> Inline:
        self.rows = rows
        return self

    def ActorPoolStrategy(self, size: int) -> int:
        return size

    def remote(self, **_: Any) -> Any:
        """An actor whose methods answer at once."""
        return lambda cls: SimpleNamespace(remote=lambda: Handle(cls()))

    def get(self, answer: Any) -> Any:
        return answer

    def map_batches(
        self, worker: Any, *, fn_constructor_args: Any, batch_size: int, **_: Any
    ) -> Inline:
        self.worker, self.size = worker(*fn_constructor_args), batch_size
        return self

    def iter_rows(self) -> Iterator[dict[str, str]]:
        for at in range(0, len(self.rows), self.size):
            group = [row["recording"] for row in self.rows[at : at + self.size]]
            self.groups.append(len(group))
            yield from ({"record": text} for text in self.worker({"recording": group})["record"])


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> Inline:
    ray = Inline()
    monkeypatch.setattr("core.worker.ray", lambda: ray)
    return ray


def test_workers_do_not_fall_back_to_cpus_unasked(folder: Path, inline: Inline) -> None:
    inline.cluster_resources = lambda: {"CPU": 8.0, "accelerator_type:H100": 1.0}
    recordings = corpus(folder, {"a": "one"})
    with pytest.raises(StartError, match=r"none by the name GPU: .*--gpus-per-worker, 0 for"):
        run(replace(TWO, gpus=None), CONFIG, recordings, MemorySink())
    assert run(replace(TWO, gpus=0.0), CONFIG, recordings, MemorySink()).ok == 1


def test_a_model_that_does_not_load_ends_the_run(folder: Path, inline: Inline) -> None:
    config = resolve(model="absent")
    with pytest.raises(StartError, match="no such model"):
        run(TWO, config, corpus(folder, {"a": "one"}), MemorySink())


def test_what_no_recording_can_survive_ends_the_run(folder: Path, inline: Inline) -> None:
    with pytest.raises(StartError, match="no onnxruntime"):
        run(TWO, CONFIG, corpus(folder, {"a": "!fatal no onnxruntime"}), MemorySink())


def test_workers_do_not_import_from_the_working_folder(
    folder: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray puts the folder that it is started in on their path, before the standard library."""
    started: list[Path] = []
    inline.init = lambda **_: started.append(Path.cwd())
    monkeypatch.chdir(folder)
    run(TWO, CONFIG, corpus(folder, {"a": "one"}), MemorySink())
    assert started == [Path(core.__file__).parents[1]]
    assert Path.cwd() == folder


def test_each_file_is_hashed_once(folder: Path, inline: Inline) -> None:
    class Counting(FakeStages):
        def source(self, recording: Recording, hashed: bool) -> Source:
            looked.append((recording.id, hashed))
            return super().source(recording, hashed)

    looked: list[tuple[str, bool]] = []
    sink, cluster = MemorySink(), replace(TWO, rooms=Counting())
    recordings = corpus(folder, {"a": "one", "b": "two"})
    run(cluster, resolve(model="fake", hash=True), recordings, sink)
    assert looked == [("a", True), ("b", True)]
    source = sink.records["b"].source
    assert replace(source, length=None) == source_of(recordings[1].path, hashed=True)


def test_names_and_side_files_are_the_drivers(
    folder: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for name in ("d1", "d2"):
        corpus(folder, {"a.wav": f"one {name}", "b.wav": "two"})
        (folder / "in").rename(name)
        (folder / "in").mkdir()
    (folder / "out/b.txt").mkdir(parents=True)
    (folder / "out/a.txt").write_text("mine")
    for inputs, ok, failed in ((["d1"], 1, 1), (["d2"], 2, 0), (["d2", "d1"], 0, 1)):
        with Store(folder / "out", CONFIG.settings, ["txt"]) as store:
            found = settle(list(discover(inputs)), store)
            report = run(TWO, CONFIG, list(found), store)
        assert (report.ok, report.failed) == (ok, failed)
    assert (folder / "out/a.txt").read_text() == "mine"
    assert (folder / "out/d2/a.txt").read_text() == "one d2\n"
    made = {one["id"]: one for one in read_results(folder / "out/results.jsonl")}
    assert sorted(made) == ["a.wav", "b.wav", "d2/a.wav", "d2/b.wav"]
    assert made["a.wav"]["warnings"] == ["left_alone:a.txt"]
    assert "out/b.txt" in made["b.wav"]["error"]["message"]


def test_groups_are_bounded_and_every_worker_has_some(folder: Path, inline: Inline) -> None:
    for number, size in ((5, 1), (40, 5), (300, 16)):
        inline.groups.clear()
        sink = MemorySink()
        run(TWO, CONFIG, corpus(folder, {f"{n}": "one" for n in range(number)}), sink)
        assert (
            (max(inline.groups), sum(inline.groups)) == (size, number) == (size, len(sink.records))
        )


def test_fail_fast_ends_at_the_first_failure(folder: Path, inline: Inline) -> None:
    sink = MemorySink()
    files = {"a": "one", "b": "!media no", **{f"c{n}": "two" for n in range(9)}}
    report = run(TWO, CONFIG, corpus(folder, files), sink, fail_fast=True)
    assert (list(sink.records), report.failed) == (["a", "b"], 1)


def test_each_recording_keeps_its_question_and_those_without_fail(
    folder: Path, inline: Inline
) -> None:
    config = resolve(model="fake", task="sqa")
    one, other = corpus(folder, {"a": "!ask", "b": "!ask"})
    sink = MemorySink()
    run(TWO, config, [replace(one, question="who?", row={"n": 1}), other], sink)
    assert sink.records["a"].pred_text == sink.records["a"].question == "who?"
    assert "asks no question" in str(sink.records["b"].error)


def test_relative_paths_start_where_the_command_did(
    folder: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus(folder, {"a": "one"})
    monkeypatch.chdir(folder)
    sink = MemorySink()
    run(TWO, CONFIG, [Recording("a", Path("in/a"))], sink)
    assert (sink.records["a"].pred_text, sink.records["a"].audio_filepath) == ("one", "in/a")


def test_without_questions_no_worker_is_asked(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("core.worker.ray", lambda: pytest.fail("Ray was started"))
    config = resolve(model="fake", task="sqa")
    with pytest.raises(UsageError, match="needs a question"):
        run(TWO, config, corpus(folder, {"a": "one"}), MemorySink())


def test_no_ray_says_what_to_install(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StartError, match=r"pip install 'fastadasp\[ray\]'"):
        run(TWO, CONFIG, corpus(folder, {"a": "one"}), MemorySink())


def test_a_ray_that_does_not_start_is_one_line(
    folder: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> None:
        raise Exception("The node timed out\nand more")

    inline.init = init
    with pytest.raises(
        StartError, match=r"Ray does not start on this machine: The node timed out$"
    ):
        run(TWO, CONFIG, corpus(folder, {"a": "one"}), MemorySink())
