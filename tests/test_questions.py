"""Questions of a manifest's rows on their way through a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import UsageError
from core.flags import resolve
from core.records import Recording
from core.results.store import Store
from tests.test_pipeline import Sink, go


def corpus(folder: Path, **files: str) -> list[Recording]:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [Recording(name, folder / name) for name in files]


def asked(recordings: list[Recording], *questions: str | None) -> list[Recording]:
    pairs = zip(recordings, questions, strict=True)
    return [replace(recording, question=question) for recording, question in pairs]


def test_each_recording_brings_its_question(tmp_path: Path) -> None:
    files = corpus(tmp_path, a="!ask\n!ask\n!ask", b="!ask", c="!ask")
    sink = Sink()
    config = resolve(model="fake", task="sqa")
    report, stages = go(asked(files, "who?", "when?", None), sink, config=config)
    assert [sink[name].pred_text for name in "ab"] == ["who? who? who?", "when?"]
    assert [sink[name].question for name in "abc"] == ["who?", "when?", None]
    assert (sink["c"].status, sink["c"].error.type) == ("failed", "UsageError")
    assert (report.ok, report.failed) == (2, 1)
    assert [("a", 2), ("b", 0)] in stages.log


def test_the_question_of_the_run_wins(tmp_path: Path) -> None:
    sink = Sink()
    files = asked(corpus(tmp_path, a="!ask", b="!ask"), "who?", None)
    go(files, sink, config=resolve(model="fake", task="sqa", question="why?"))
    assert [(sink[name].question, sink[name].pred_text) for name in "ab"] == [("why?", "why?")] * 2
    go(files, sink, config=resolve(model="fake", task="asr"))
    assert sink.records[-1].question is None


def test_when_nobody_has_a_question_nothing_runs(tmp_path: Path) -> None:
    for recordings in (corpus(tmp_path, a="!ask"), iter(corpus(tmp_path, a="!ask"))):
        sink = Sink()
        with pytest.raises(UsageError, match="--question"):
            go(recordings, sink, config=resolve(model="fake", task="sqa"))
        assert sink.records == []


def test_a_changed_question_is_asked_again(tmp_path: Path) -> None:
    files = corpus(tmp_path, a="!ask", b="!ask")
    config = resolve(model="fake", task="sqa")
    for questions, skipped in ((("who?", "when?"), 0), (("who?", "why?"), 1), (("who?", None), 1)):
        with Store(tmp_path / "out", config.settings) as store:
            report, _ = go(asked(files, *questions), store, config=config)
        assert report.skipped == skipped
        assert store.records("sqa")["b"].question == questions[1]
