"""Sets through fake rooms: what is run, what it cost, how good it was, what is not done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import UsageError
from core.flags import Flags
from core.studies.evaluate import Course, evaluate, plan
from core.studies.grid import Grid
from core.studies.points import Evaluation, Point, write
from core.studies.sets import find_blocks, find_sets
from tests.studies.fakes import LevelStages, fake_model, make_set

pytest.importorskip("jiwer")
pytest.importorskip("sacrebleu")
pytest.importorskip("whisper_normalizer")

TEXTS = ["the red cat", "blue birds sing", "an old house"]


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    rows = {
        f"{number}.wav": {"text": text, "translation": text} for number, text in enumerate(TEXTS)
    }
    return make_set(tmp_path / "speech", rows)


def go(
    folder: Path,
    grid: Grid,
    tasks: tuple[str, ...] = ("asr",),
    *,
    out: Path | None = None,
    lm: Any = None,
) -> tuple[Evaluation, list[Any]]:
    """The evaluation, and what the rooms did: a word for each run, then its batches."""
    lm, stages = lm or fake_model(), LevelStages()
    blocks = find_blocks(find_sets([folder]), tasks, lm.facts.tasks)
    plans = plan(blocks, grid, lm, stages)
    stages.log.clear()
    return evaluate(plans, lm, Course(out, draws=50), stages=stages), stages.log


def runs(log: list[Any]) -> list[str]:
    return [entry for entry in log if isinstance(entry, str)]


def value(point: Point, name: str) -> float:
    return next(one.estimate.value for one in point.scores if one.measure.name == name)


def test_quality_and_cost_of_each_level(speech: Path) -> None:
    found, log = go(speech, Grid(levels=(0.0, 0.2, 0.5)))
    assert runs(log) == ["asr once 0", "asr constant 0.2", "asr constant 0.5"]
    [block] = found.blocks
    assert (block.of, block.task, block.recordings, block.segment) == ("speech", "asr", 3, "whole")
    assert (found.model, found.revision, found.dtype) == ("embedded", "r1", "float32")
    full, light, heavy = block.points
    assert [point.method for point in block.points] == [None, "fastadasp", "fastadasp"]
    assert [point.asked for point in block.points] == [0.0, 0.2, 0.5]
    assert [point.spent.cut for point in block.points] == pytest.approx([0, 0.2, 0.4])
    assert [point.spent.capped for point in block.points] == [0, 0, 1]
    assert [value(point, "wer") for point in block.points] == pytest.approx([0, 0, 100 / 3])
    assert full.scores[0].difference is None
    assert heavy.scores[0].difference is not None
    assert heavy.scores[0].difference.value == pytest.approx(100 / 3)
    assert light.spent.kept == pytest.approx(0.8)
    assert (light.spent.audio_s, light.spent.prefill_s) == pytest.approx((6.0, 0.6))
    assert (light.spent.kv_bytes, light.spent.kv_bytes_full) == (3 * 48, 3 * 64)


def test_every_task_of_a_set_and_its_own_default_schedule(tmp_path: Path) -> None:
    rows = {"a.wav": {"says": "The speaker is happy", "emotion": "happy", "text": "hi"}}
    found, log = go(make_set(tmp_path / "er", rows), Grid(levels=(0.2,)), ())
    assert [block.task for block in found.blocks] == ["asr", "er"]
    assert runs(log) == ["asr once 0", "asr constant 0.2", "er once 0", "er once 0.2"]
    assert value(found.blocks[1].points[1], "accuracy") == 100


def test_what_the_model_leaves_no_choice_about_is_filled_in(speech: Path) -> None:
    found, _ = go(speech, Grid(levels=(0.2,)), ("st",))
    [block] = found.blocks
    assert (block.language, block.target_language) == ("en", "de")
    assert value(block.points[0], "chrf++") == pytest.approx(100)
    many = fake_model(target_languages=("de", "zh"), source_languages=None)
    with pytest.raises(UsageError, match="--lang CODE"):
        go(speech, Grid(levels=(0.2,)), ("st",), lm=many)
    said = Grid(levels=(0.2,), common=Flags(lang="zh"))
    [block] = go(speech, said, ("st",), lm=many)[0].blocks
    assert (block.language, block.target_language) == (None, "zh")
    assert "tok:zh" in block.points[0].scores[0].measure.signature


def test_long_recordings_are_cut_as_in_a_run(tmp_path: Path) -> None:
    rows = {"a.wav": {"text": "hi", "duration": 31.0}, "b.wav": {"text": "ho"}}
    folder = make_set(tmp_path / "long", rows)
    segments = []
    for common in (Flags(), Flags(segment="fixed"), Flags(chunk_length=5.0)):
        found, _ = go(folder, Grid(levels=(0.2,), common=common))
        segments.append(found.blocks[0].segment)
    assert segments == ["vad", "fixed", "vad"]


def test_a_recording_that_fails_counts_as_empty(speech: Path) -> None:
    (speech / "0.wav").write_text("!media damaged")
    found, _ = go(speech, Grid(levels=(0.2,)))
    assert found.failed
    for point in found.blocks[0].points:
        assert point.failed == ("0.wav",)
        assert value(point, "wer") == pytest.approx(100 * 3 / 9)


def test_what_a_point_cannot_have_is_left_out_and_said(speech: Path) -> None:
    found, _ = go(speech, Grid(levels=(0.2,), start_layers=(0, 7)))
    [block] = found.blocks
    assert [point.start_layer for point in block.points] == [None, 0]
    assert block.refused == ("layer 7 is too deep",)
    with pytest.raises(UsageError, match="layer 7 is too deep"):
        go(speech, Grid(levels=(0.2,), start_layers=(7,)))


def test_captions_are_written_and_not_scored(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "ac", {"a.wav": {"says": "a dog", "captions": ["a dog barks"]}})
    found, _ = go(folder, Grid(levels=(0.2,)), ("ac",), out=tmp_path / "out")
    assert [point.scores for point in found.blocks[0].points] == [(), ()]
    texts = [json.loads(path.read_text()) for path in tmp_path.glob("out/ac/ac/*/results.jsonl")]
    assert [text["pred_text"] for text in texts] == ["a dog", "a dog"]


def test_each_row_is_asked_its_own_question(tmp_path: Path) -> None:
    rows = {
        "a.wav": {"says": "!ask", "question": "red", "answer": "Red."},
        "b.wav": {"says": "!ask", "question": "blue", "answer": "green"},
        "c.wav": {"says": "", "question": "grey", "answer": "grey"},
    }
    found, _ = go(make_set(tmp_path / "sqa", rows), Grid(levels=(0.2,)), ("sqa",))
    full = found.blocks[0].points[0]
    assert value(full, "exact_match") == pytest.approx(100 / 3)
    assert value(full, "unparsable") == pytest.approx(100 / 3)


def test_what_is_finished_is_not_run_again(speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first, log = go(speech, Grid(levels=(0.2, 0.5)), out=out)
    assert len(runs(log)) == 3
    again, log = go(speech, Grid(levels=(0.2, 0.5)), out=out)
    assert (log, again) == ([], first)
    # one level more, one file changed, other weights
    _, log = go(speech, Grid(levels=(0.2, 0.3, 0.5)), out=out)
    assert runs(log) == ["asr constant 0.3"]
    (speech / "1.wav").write_text("blue birds sink")
    changed, log = go(speech, Grid(levels=(0.2,)), out=out)
    assert [batch for batch in log if isinstance(batch, list)] == [[("1.wav", 0)]] * 2
    assert value(changed.blocks[0].points[0], "wer") == pytest.approx(100 / 9)
    _, log = go(speech, Grid(levels=(0.2,)), out=out, lm=fake_model("r2"))
    assert runs(log) == ["asr once 0", "asr constant 0.2"]


def test_raw_texts_are_kept_and_references_read_anew(speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    go(speech, Grid(levels=(0.2,)), out=out)
    [kept] = out.glob("speech/asr/full-*/results.jsonl")
    texts = {line["id"]: line["pred_text"] for line in map(json.loads, kept.open())}
    assert texts == {f"{number}.wav": text for number, text in enumerate(TEXTS)}
    rows = [json.loads(line) for line in (speech / "manifest.jsonl").read_text().splitlines()]
    rows[0]["text"] = "the red dog"
    (speech / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found, log = go(speech, Grid(levels=(0.2,)), out=out)
    assert log == []
    assert value(found.blocks[0].points[0], "wer") == pytest.approx(100 / 9)


def test_json_has_everything_by_name(speech: Path, tmp_path: Path) -> None:
    found, _ = go(speech, Grid(levels=(0.2,)))
    write(found, tmp_path / "out")
    data = json.loads((tmp_path / "out" / "eval.json").read_text())
    assert data == json.loads(json.dumps(found.to_json()))
    assert (data["schema_version"], data["draws"], data["revision"]) == (1, 50, "r1")
    [block] = data["blocks"]
    assert block["measures"]["wer"]["lower_is_better"]
    assert "whisper-english" in block["measures"]["wer"]["signature"]
    full, light = block["points"]
    assert full["scores"]["wer"]["difference"] is None
    assert light["scores"]["cer"]["difference"]["high"] == 0
    assert light["spent"]["cut"] == pytest.approx(0.2)
    assert light["overrides"] == {"reduce": 0.2}
