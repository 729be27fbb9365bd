"""Several tasks in one run: read once, answered task by task, a record each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import core.pipeline
import fastadasp
from core import cluster, pipeline
from core.cluster import Cluster
from core.config import RunConfig
from core.errors import UsageError
from core.flags import resolve, resolve_tasks
from core.media import apart
from core.pipeline import Event
from core.reading import Read
from core.records import Hypothesis, Recording, Report, Segment, Transcript
from core.results.assemble import in_equal_parts
from core.results.store import MemorySink, Store
from core.stages import Rooms
from fastadasp_cli.main import app
from tests.fakes import COST, FakeCut, FakeEngine, FakeStages
from tests.test_cluster import Inline
from tests.test_stages import model, tone

ASR_ST = resolve_tasks(model="fake", task="asr,st", lang="de")


class Counting(FakeStages):
    """Says which recordings were read, and for which tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[tuple[str, ...]] = []

    def reader(self, config: RunConfig, facts: Any) -> Read:
        read = super().reader(config, facts)

        def counted(recording: Recording, check: Callable[[], None]) -> FakeCut:
            self.read.append((recording.id, *(one.task for one in config.each)))
            return read(recording, check)  # type: ignore[return-value]

        return counted


@pytest.fixture
def corpus(tmp_path: Path) -> Any:
    def make(**files: str) -> list[Recording]:
        (tmp_path / "in").mkdir(exist_ok=True)
        for name, text in files.items():
            (tmp_path / "in" / name).write_text(text, encoding="utf-8")
        return [Recording(name, tmp_path / "in" / name) for name in files]

    return make


def go(
    recordings: list[Recording], config: RunConfig = ASR_ST, sink: Any = None, **more: Any
) -> tuple[Report, list[Transcript], Counting]:
    sink, stages = sink or MemorySink(), Counting()
    report = pipeline.run(config, recordings, sink, stages=stages, **more)
    return report, list(getattr(sink, "kept", {}).values()), stages


def test_a_recording_is_read_once_and_has_a_record_for_each_task(corpus: Any) -> None:
    report, records, stages = go(corpus(a="one\ntwo", b="three"))
    assert [(one.id, one.task, one.pred_text) for one in records] == [
        ("a", "asr", "one two"),
        ("a", "st", "one two"),
        ("b", "asr", "three"),
        ("b", "st", "three"),
    ]
    assert stages.read == [("a", "asr", "st"), ("b", "asr", "st")]
    assert (report.ok, report.audio_s) == (2, 6.0)
    for one in records:
        alone = resolve(model="fake", task=one.task, lang="de" if one.task == "st" else None)
        assert one.settings_hash == alone.hash_in("float32")
        assert (one.preset, one.target_language) == (alone.preset, alone.target_language)


def test_what_tasks_share_is_in_their_records_in_equal_parts(
    corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine has the encoding in the cost of the first."""
    plain = FakeEngine._answer

    def first_pays(self: FakeEngine, segment: Segment, size: int) -> Hypothesis:
        answer = plain(self, segment, size)
        free = {} if answer.task == "asr" else {"encode_s": 0.0, "encoder_flops": 0}
        return replace(answer, cost=replace(answer.cost, **free))

    monkeypatch.setattr(FakeEngine, "_answer", first_pays)
    _, (asr, st), _ = go(corpus(a="one\n!warn odd"))
    for one in (asr, st):
        assert (one.latency.load_audio_s, one.latency.segment_s) == (0.005, 0.01)
        assert one.latency.encode_s == pytest.approx(2 * COST.encode_s / 2)
        assert one.flops.encoder == 2 * COST.encoder_flops / 2
    assert (asr.time, asr.rtfx, asr.flops) == (st.time, st.rtfx, st.flops)
    assert (asr.warnings, st.warnings) == (("odd", "shared_with:st"), ("odd", "shared_with:asr"))
    assert asr.duration == st.duration == 4


def test_no_flop_is_lost_in_parts() -> None:
    costs = [replace(COST, encoder_flops=11, encode_s=0.3), replace(COST, encoder_flops=0)]
    answers = [Hypothesis("a", 0, 0.0, 1.0, "x", cost, task=str(cost)) for cost in costs * 2]
    apart = Hypothesis("a", 1, 1.0, 2.0, "x", replace(COST, encoder_flops=5))
    *shared, alone = in_equal_parts([*answers, apart])
    assert [one.cost.encoder_flops for one in shared] == [6, 6, 5, 5]
    assert sum(one.cost.encode_s for one in shared) == pytest.approx(0.8)
    assert alone == apart


def test_a_task_that_is_done_is_left_out(corpus: Any) -> None:
    recordings = corpus(a="one", b="two", c="three", d="four")
    done = [("a", "asr"), ("b", "st"), ("d", "asr"), ("d", "st")]
    report, records, stages = go(recordings, sink=MemorySink(done))
    assert [(one.id, one.task, one.pred_text) for one in records] == [
        ("a", "st", "one"),
        ("b", "asr", "two"),
        ("c", "asr", "three"),
        ("c", "st", "three"),
    ]
    assert sorted(stages.read) == [("a", "st"), ("b", "asr"), ("c", "asr", "st")]
    assert (report.ok, report.skipped) == (3, 1)
    # the only task of a recording pays for reading it
    assert records[0].latency.load_audio_s == 0.01
    assert records[0].warnings == ()


def test_what_fails_for_one_task_is_done_for_the_other(corpus: Any) -> None:
    report, records, _ = go(corpus(a="one\n!only st no memory", b="two", c="!only asr no"))
    found = {(one.id, one.task): one.status for one in records}
    assert found["a", "asr"] == found["b", "asr"] == found["b", "st"] == found["c", "st"] == "ok"
    assert (found["a", "st"], found["c", "asr"]) == ("partial", "failed")
    assert (report.ok, report.partial, report.failed) == (1, 1, 1)
    assert [name for name, _ in report.failures] == ["a (st)", "c (asr)"]


def test_a_file_that_breaks_off_does_so_for_all(corpus: Any) -> None:
    report, records, _ = go(corpus(a="one\n!media breaks off"))
    assert [one.status for one in records] == ["partial", "partial"]
    assert report.partial == 1


def test_fail_fast_ends_once_the_recording_is_written(corpus: Any) -> None:
    files = {"a": "!only asr no", "b": "two\nthree", "c": "four"}
    report, records, _ = go(corpus(**files), fail_fast=True)
    assert [(one.id, one.task) for one in records] == [("a", "asr"), ("a", "st")]
    assert report.failed == 1


def test_events_tell_when_a_recording_is_complete(corpus: Any) -> None:
    events: list[Event] = []
    go(corpus(a="one"), on_event=events.append)
    kinds = [(one.kind, one.record.task if one.record else None, one.last) for one in events]
    assert kinds[:3] == [
        ("loading", "asr", True),
        ("started", "asr", True),
        ("started", "st", True),
    ]
    assert kinds[-2:] == [("record", "asr", False), ("record", "st", True)]
    assert sum(one.seconds for one in events if one.kind == "segment") == 2


def test_a_question_is_for_the_task_that_asks(corpus: Any) -> None:
    config = resolve_tasks(model="fake", task="asr,sqa")
    one, other = corpus(a="!ask", b="two")
    _, records, stages = go([replace(one, question="who?"), other], config)
    assert [(record.id, record.task, record.status, record.question) for record in records] == [
        ("a", "asr", "ok", None),
        ("a", "sqa", "ok", "who?"),
        ("b", "asr", "ok", None),
        ("b", "sqa", "failed", None),
    ]
    assert records[1].pred_text == "who?"
    assert stages.read == [("a", "asr", "sqa"), ("b", "asr")]
    with pytest.raises(UsageError, match="needs a question"):
        go([other], config)


def test_two_runs_into_a_folder_and_one_give_the_same(corpus: Any, tmp_path: Path) -> None:
    recordings = corpus(a="one", b="two")

    def fill(folder: str, *configs: RunConfig) -> dict[tuple[str, str], Any]:
        for config in configs:
            with Store(tmp_path / folder, config.settings, ["txt"]) as store:
                go(recordings, config, store)
        lines = map(json.loads, (tmp_path / folder / "results.jsonl").read_text().splitlines())
        return {(one["id"], one["task"]): (one["pred_text"], one["settings_hash"]) for one in lines}

    both = fill("both", ASR_ST)
    assert list(both) == [("a", "asr"), ("a", "st"), ("b", "asr"), ("b", "st")]
    assert fill("single", *ASR_ST.each) == both
    names = {path.name for path in (tmp_path / "both").glob("*.txt")}
    assert names == {"a.asr.txt", "a.st.txt", "b.asr.txt", "b.st.txt"}
    # the first run could not know of the second
    names = {path.name for path in (tmp_path / "single").glob("*.txt")}
    assert names == {"a.txt", "a.st.txt", "b.txt", "b.st.txt"}
    for folder in ("both", "single"):
        with Store(tmp_path / folder, ASR_ST.settings, ["txt"]) as store:
            report, _, stages = go(recordings, ASR_ST, store)
        assert (report.skipped, stages.log) == (2, [])
    assert (tmp_path / "single" / "a.asr.txt").read_text() == "one\n"
    other = resolve_tasks(model="fake", task="asr,st", lang="de", reduce=0.4)
    with pytest.raises(UsageError, match="made with other settings"):
        Store(tmp_path / "both", other.settings).__enter__()


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch) -> Counting:
    stages = Counting()
    monkeypatch.setattr(core.pipeline, "Rooms", lambda: stages)
    return stages


def test_the_command(corpus: Any, tmp_path: Path, rooms: Counting) -> None:
    corpus(**{"a.wav": "one", "b.wav": "!only st no"})
    words = ["run", str(tmp_path / "in"), "--task", "asr,st", "--lang", "de"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(one["id"], one["task"], one["status"]) for one in found] == [
        ("a.wav", "asr", "ok"),
        ("a.wav", "st", "ok"),
        ("b.wav", "asr", "ok"),
        ("b.wav", "st", "failed"),
    ]
    assert "1 ok, 1 failed" in result.stderr
    assert "failed: b.wav (st): " in result.stderr
    assert "shared_with" not in result.stderr
    assert "asr with" in result.stderr
    assert "st with" in result.stderr


def test_from_python(corpus: Any, tmp_path: Path, rooms: Counting) -> None:
    corpus(**{"a.wav": "one", "b.wav": "two"})
    want = [("a.wav", "asr"), ("a.wav", "st"), ("b.wav", "asr"), ("b.wav", "st")]
    for folder in (None, tmp_path / "out"):
        found = fastadasp.transcribe(
            tmp_path / "in", task="asr,st", lang="de", model="fake", output_dir=folder
        )
        assert [(one.id, one.task) for one in found] == want


def test_workers_do_what_is_not_done(
    corpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.worker.ray", Inline)
    recordings = [*corpus(a="one", b="!only st no", c="three"), Recording("gone", Path("gone"))]
    recordings[-1] = replace(recordings[-1], error="no such file")
    stages, sink = Counting(), MemorySink([("c", "asr")])
    events: list[Event] = []
    report = cluster.run(
        Cluster(gpus=0, rooms=stages), ASR_ST, recordings, sink, on_event=events.append
    )
    assert {key: one.status for key, one in sink.kept.items()} == {
        ("gone", "asr"): "failed",
        ("gone", "st"): "failed",
        ("a", "asr"): "ok",
        ("a", "st"): "ok",
        ("b", "asr"): "ok",
        ("b", "st"): "failed",
        ("c", "st"): "ok",
    }
    assert sorted(stages.read) == [("a", "asr", "st"), ("b", "asr", "st"), ("c", "st")]
    assert (report.ok, report.failed) == (2, 2)
    assert sum(one.kind == "record" and one.last for one in events) == 4


def test_a_recording_is_decoded_once_however_many_ways_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, plain = [], apart.decode_apart

    def counted(path: Path, *words: Any) -> Any:
        decoded.append(path.name)
        return plain(path, *words)

    monkeypatch.setattr(apart, "decode_apart", counted)
    recording = tone(tmp_path / "a.wav", 65.0)
    read = Rooms().reader(resolve_tasks(task="er,asr,sv"), model())
    found = list(read(recording, lambda: None))
    assert decoded == ["a.wav"]

    def alone(task: str) -> list[tuple[float, float]]:
        pieces = Rooms().reader(resolve(task=task), model())(recording, lambda: None)
        return [(one.start, one.end) for one in pieces]

    for tasks in (("er", "sv"), ("asr",)):
        pieces = [one for one in found if one.tasks == tasks]
        assert [(one.start, one.end) for one in pieces] == alone(tasks[0])
        assert [one.index for one in pieces] == list(range(len(pieces)))
    assert len([one for one in found if one.tasks == ("er", "sv")]) == 3
