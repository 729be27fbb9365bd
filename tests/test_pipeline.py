from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core import pipeline, reading
from core.errors import StartError, UsageError
from core.flags import resolve
from core.pipeline import Event, run
from core.reading import ReadAhead
from core.records import Recording, Report, Segment, Source, Transcript
from core.results.store import Store
from tests.fakes import FakeCut, FakeStages


class Sink:
    """Keeps records; `finished` are ids that are done already."""

    def __init__(self, *finished: str) -> None:
        self.records: list[Transcript] = []
        self.expected: list[str] = []
        self.finished = finished

    def expect(self, ids: Any) -> None:
        self.expected += ids

    def begin(self, record: Transcript) -> None:
        pass

    def done(self, key: tuple[str, str], source: Source, question: str | None = None) -> bool:
        return key[0] in self.finished

    def write(self, record: Transcript) -> Transcript:
        self.records.append(record)
        return record

    def __getitem__(self, name: str) -> Transcript:
        return next(record for record in self.records if record.id == name)


@pytest.fixture
def corpus(tmp_path: Path) -> Any:
    def make(**files: str) -> list[Recording]:
        for name, text in files.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        return [Recording(name, tmp_path / name) for name in files]

    return make


def go(recordings: Any, sink: Any, **more: Any) -> tuple[Report, FakeStages]:
    stages = FakeStages()
    config = more.pop("config", resolve(model="fake"))
    return run(config, recordings, sink, stages=stages, **more), stages


def test_a_recording_is_stitched_in_order(corpus: Any) -> None:
    sink = Sink()
    report, stages = go(corpus(a="one\ntwo\nthree"), sink)
    record = sink["a"]
    assert record.pred_text == "one two three"
    assert [(span.start, span.end, span.text) for span in record.segments] == [
        (0.0, 2.0, "one"),
        (2.0, 4.0, "two"),
        (4.0, 6.0, "three"),
    ]
    assert (record.status, record.error, record.coverage) == ("ok", None, 1.0)
    assert report.ok == 1
    assert stages.log[:2] == ["start", "enter"]
    assert stages.log[-1] == "exit"


def test_the_record_says_how_it_was_made(corpus: Any) -> None:
    sink = Sink()
    config = resolve(model="fake", task="st", lang="de", reduce=0.3, num_beams=5)
    [recording] = corpus(a="eins")
    go([Recording("a", recording.path, text="the truth")], sink, config=config)
    record = sink["a"]
    assert (record.task, record.target_language, record.text) == ("st", "de", "the truth")
    assert (record.model, record.model_revision) == ("fake", "r1")
    assert (record.device, record.dtype, record.num_beams) == ("cpu", "float32", 5)
    assert (record.preset, record.overrides, record.start_layer) == ("st-safe", {"reduce": 0.3}, 2)
    assert record.settings_hash == config.hash_in("float32")
    assert record.source.size == 4
    assert record.flops.reduction_target == 0.3


def test_costs_are_sums_and_ratios_of_sums(corpus: Any) -> None:
    sink = Sink()
    report, _ = go(corpus(a="one\ntwo\nthree"), sink)
    record = sink["a"]
    assert record.duration == 6.0
    assert record.time == pytest.approx(0.01 + 0.02 + 3 * (0.1 + 0.2 + 0.3))
    assert record.rtf == pytest.approx(record.time / 6.0, abs=1e-6)
    assert record.rtfx == pytest.approx(6.0 / record.time, abs=1e-5)
    assert record.rtfx_model == pytest.approx(6.0 / 1.8, abs=1e-5)
    assert record.latency.first_token_s == 0.25
    assert (record.tokens.audio_in, record.tokens.audio_kept) == (30, 24)
    assert record.tokens.per_second == pytest.approx(15 / 0.9, abs=1e-5)
    assert record.flops.reduction == pytest.approx(0.2)
    assert record.flops.total_reduction == pytest.approx(1 - 1650 / 1800, abs=1e-6)
    assert (record.memory.kv_bytes_full, record.memory.peak_bytes) == (64, None)
    assert record.batch_size == 2
    assert report.audio_s == 6.0


def test_files_share_batches(corpus: Any) -> None:
    _, stages = go(corpus(a="one", b="two", c="three"), Sink())
    assert [("a", 0), ("b", 0)] in stages.log


def test_a_record_comes_as_soon_as_its_file_is_complete(corpus: Any) -> None:
    seen: list[str] = []
    sink = Sink()

    def watch(event: Event) -> None:
        if event.kind != "reading":
            seen.append(f"{event.kind} {event.id}".strip())

    go(corpus(a="one\ntwo", b="three\nfour"), sink, on_event=watch)
    assert seen == [
        "loading",
        "started",
        "segment a",
        "segment a",
        "record a",
        "segment b",
        "segment b",
        "record b",
    ]


def test_a_bad_file_costs_its_own_record(corpus: Any) -> None:
    sink = Sink()
    files = {"a": "one", "b": "!media damaged header", "c": "!crash a bug", "d": "two"}
    report, _ = go(corpus(**files), sink)
    assert (report.ok, report.failed) == (2, 2)
    assert sink["b"].status == "failed"
    assert (sink["b"].error.type, sink["b"].error.message) == ("MediaError", "damaged header")
    assert (sink["c"].error.type, sink["c"].error.message) == ("RuntimeError", "a bug")
    assert (sink["b"].duration, sink["b"].rtf) == (None, None)
    assert sink["d"].pred_text == "two"


def test_what_was_read_before_the_break_is_kept(corpus: Any) -> None:
    sink = Sink()
    report, _ = go(corpus(a="one\ntwo\n!media breaks off at 4.0 s"), sink)
    record = sink["a"]
    assert (record.status, record.pred_text, report.partial) == ("partial", "one two", 1)
    assert "breaks off" in record.error.message


@pytest.mark.parametrize(
    ("text", "status", "pred_text"),
    [
        ("one\n!engine out of memory", "partial", "one"),
        ("!engine out of memory\none", "partial", "one"),
        ("!engine out of memory", "failed", ""),
    ],
)
def test_a_segment_that_fails_is_said(corpus: Any, text: str, status: str, pred_text: str) -> None:
    sink = Sink()
    go(corpus(a=text), sink)
    assert (sink["a"].status, sink["a"].pred_text) == (status, pred_text)
    assert sink["a"].error.type == "TranscriptionError"
    assert "segments failed, the first at" in sink["a"].error.message
    assert sink["a"].coverage < 1


def test_silence_is_a_success(corpus: Any) -> None:
    sink = Sink()
    report, _ = go(corpus(a="", b="one", c=""), sink)
    assert report.ok == 3
    assert (sink["a"].pred_text, sink["a"].segments, sink["a"].error) == ("", (), None)
    assert sink["a"].coverage is None


def test_warnings_once_and_the_highest_number(corpus: Any) -> None:
    sink = Sink()
    lines = [
        "!warn reduction_capped:0.31",
        "!warn reduction_capped:0.41",
        "!warn repetition_retried",
        "!warn repetition_retried",
    ]
    go(corpus(a="\n".join(lines)), sink)
    assert sink["a"].warnings == ("reduction_capped:0.41", "repetition_retried")


def test_a_missing_path_among_good_ones(corpus: Any) -> None:
    sink = Sink()
    missing = Recording("gone", Path("gone"), error="no such file")
    report, _ = go([missing, *corpus(a="one")], sink)
    assert (report.ok, report.failed) == (1, 1)
    assert [record.id for record in sink.records] == ["gone", "a"]
    assert sink["gone"].error.message == "no such file"
    assert sink["gone"].model_revision == "r1"


def test_with_nothing_to_do_no_model_is_loaded(corpus: Any) -> None:
    events: list[Event] = []
    report, stages = go(corpus(a="one", b="two"), Sink("a", "b"), on_event=events.append)
    assert stages.log == []
    assert (report.skipped, report.ok) == (2, 0)
    assert [event.kind for event in events] == ["skipped", "skipped"]
    missing = Recording("gone", Path("gone"), error="no such file")
    report, stages = go([missing, *corpus(a="one")], Sink("a"))
    assert (report.skipped, report.failed, stages.log) == (1, 1, [])


def test_no_recordings_at_all() -> None:
    assert go([], Sink())[0] == Report(wall_s=pytest.approx(0, abs=0.1))


def test_a_list_is_announced_a_stream_is_not(corpus: Any) -> None:
    sink = Sink()
    recordings = corpus(a="one", b="two")
    go(recordings, sink)
    assert sink.expected == ["a", "b"]
    sink = Sink()
    go(iter(recordings), sink)
    assert sink.expected == []
    assert len(sink.records) == 2


def test_fail_fast_ends_at_the_first_failure(corpus: Any) -> None:
    sink = Sink()
    files = {"a": "one\ntwo", "b": "!media no", "c": "three\nfour", "d": "five\nsix"}
    report, stages = go(corpus(**files), sink, fail_fast=True)
    assert [record.id for record in sink.records] == ["a", "b"]
    assert (report.ok, report.failed) == (1, 1)
    assert stages.log[-1] == "exit"


def test_results_in_other_numbers_are_refused_before_a_recording_is_read(
    corpus: Any, tmp_path: Path
) -> None:
    class Bfloat16(FakeStages):
        def start(self, config: Any) -> Any:
            model, engine = super().start(config)
            model.dtype = "torch.bfloat16"
            return model, engine

    config = resolve(model="fake")
    both = corpus(a="one", b="two")
    with Store(tmp_path / "out", config.settings) as store:
        go(both[:1], store)
    stages = Bfloat16()
    refused = pytest.raises(UsageError, match="here it is bfloat16")
    with Store(tmp_path / "out", config.settings) as store, refused:
        run(config, both, store, stages=stages)
    assert stages.log == ["start"]
    with Store(tmp_path / "out", config.settings) as store:
        assert go(both, store)[0].skipped == 1


def test_what_no_recording_can_survive_ends_the_run(corpus: Any) -> None:
    with pytest.raises(StartError, match="no onnxruntime"):
        go(corpus(a="!fatal no onnxruntime", b="one"), Sink())
    with pytest.raises(StartError, match="absent"):
        go(corpus(a="one"), Sink(), config=resolve(model="absent"))


def test_an_interrupt_leaves_finished_work_and_no_threads(corpus: Any, tmp_path: Path) -> None:
    def interrupt(event: Event) -> None:
        if event.kind == "record":
            raise KeyboardInterrupt

    files = {f"f{number:02d}": "one\ntwo\nthree" for number in range(30)}
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), Store(tmp_path / "out", "hash") as store:
        go(corpus(**files), store, on_event=interrupt)
    assert (tmp_path / "out" / "results.jsonl").read_text().count("\n") == 1
    assert threading.active_count() == before


def test_leaving_waits_for_a_decoder_at_work(corpus: Any) -> None:
    """The interpreter aborts when it ends under a decoder, so the threads are seen off."""
    ended = threading.Event()

    class Busy(FakeCut):
        def __iter__(self) -> Iterator[Segment]:
            yield from super().__iter__()
            time.sleep(0.3)
            ended.set()

    with ReadAhead(corpus(a="one"), Busy) as ahead:
        next(iter(next(iter(ahead))))
    assert ended.is_set()


def test_reading_ahead_is_bounded(corpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    drawn = 0

    class Endless(FakeCut):
        def __iter__(self) -> Iterator[Segment]:
            nonlocal drawn
            for segment in super().__iter__():
                drawn += 1
                yield segment

    def read(recording: Recording, check: Callable[[], None]) -> Endless:
        opened.append(recording.id)
        return Endless(recording, check)

    monkeypatch.setattr(reading, "SECONDS_AHEAD", 1e9)
    files = {f"f{number:03d}": "\n".join(["word"] * 150) for number in range(160)}
    asked = 0

    def recordings() -> Iterator[Recording]:
        nonlocal asked
        for recording in everything:
            asked += 1
            yield recording

    everything = corpus(**files)

    with ReadAhead(recordings(), read) as ahead:
        first = iter(next(iter(ahead)))
        next(first)
        time.sleep(0.3)
        assert asked <= reading.FILES_AHEAD
        # each of the workers waits with one segment in hand
        assert drawn == reading.WORKERS * (reading.SEGMENTS_AHEAD + 1) + 1
        assert len(opened) == reading.WORKERS


def test_reading_ahead_is_bounded_in_seconds_too(
    corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SECONDS_AHEAD", 10.0)
    monkeypatch.setattr(reading, "WORKERS", 2)
    drawn = 0

    class Counted(FakeCut):
        def __iter__(self) -> Iterator[Segment]:
            nonlocal drawn
            for segment in super().__iter__():
                drawn += 1
                yield segment

    files = {f"f{number:02d}": "one\ntwo\nthree" for number in range(20)}
    with ReadAhead(corpus(**files), Counted) as ahead:
        readings = iter(ahead)
        first = next(readings)
        time.sleep(0.3)
        # five segments of two seconds, and one in hand of each worker
        assert drawn <= 5 + 2 * reading.WORKERS
        # and all of them come in the end, in order
        assert len(list(first)) == 3
        assert [len(list(one)) for one in readings] == [3] * 19


def test_the_pipeline_itself_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, core.pipeline; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert pipeline.Rooms().source(Recording("x", Path("absent")), False) == Source(offset=0.0)
