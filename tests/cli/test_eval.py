from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fastadasp_cli.eval
from core.stages import Rooms
from tests.studies.fakes import LevelStages, fake_model, make_set

for name in ("jiwer", "sacrebleu", "whisper_normalizer"):
    pytest.importorskip(name)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    rows = {
        "a.wav": {"text": "the red cat", "translation": "die rote Katze"},
        "b.wav": {"text": "blue birds sing"},
    }
    return make_set(tmp_path / "speech", rows)


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch) -> LevelStages:
    """The stages behind the command; no model is loaded."""
    stages = LevelStages()
    monkeypatch.setattr(Rooms, "load", lambda self, config: fake_model())
    monkeypatch.setattr("core.studies.evaluate.OneModel", lambda lm: stages)
    return stages


def test_a_table_for_each_set_and_task(cli: Any, rooms: LevelStages, speech: Path) -> None:
    out = speech.parent / "out"
    result = cli("eval", speech, "--reduce", "0,0.2,0.5", "--draws", "20")
    assert result.exit_code == 0, result.output
    asr, st = result.stdout.split("\n\n")
    caption, signature, columns, full, light, heavy = asr.splitlines()
    assert caption.startswith("speech, asr: 2 recordings with embedded (r1) on cpu, float32")
    fewer = cli(
        "eval", speech, *("--reduce", "0", "--draws", "20", "--quantize", "8bit"), "-o", out
    )
    assert json.loads((out / "eval.json").read_text())["quantize"] == "8bit"
    assert "on cpu, float32, 8bit weights; segments" in fewer.stdout
    assert signature.startswith("WER %, CER %: jiwer:")
    assert " ".join(columns.split()).startswith("method schedule positions start asked cut kept")
    assert full.split()[:4] == ["full", "0%", "0.0%", "100%"]
    assert " ".join(light.split()).startswith("fastadasp constant keep 0 20% 20.0% 80%")
    # two of six words lost at 50 %, which short prompts cannot reach
    assert heavy.split()[4:8] == ["50%", "40.0%", "60%", "100%"]
    assert "33.33 [33.33, 33.33]  +33.33 [+33.33, +33.33]" in heavy
    assert st.startswith("speech, st into de: 1 recordings")
    assert "nrefs:1|case:mixed" in st
    assert "speech, st: 1 recordings have no reference, left out" in result.stderr
    assert all(len(line.rstrip()) <= 120 for line in asr.splitlines())


def test_json_is_one_document_and_nothing_else(cli: Any, rooms: LevelStages, speech: Path) -> None:
    result = cli("eval", speech, "--json", "-t", "asr", "--reduce", "0.5", "--draws", "20")
    data = json.loads(result.stdout)
    [block] = data["blocks"]
    assert [point["asked"] for point in block["points"]] == [0.0, 0.5]
    assert block["points"][1]["scores"]["wer"]["value"] == pytest.approx(100 / 3)
    assert "speech, asr: fastadasp constant keep 50%" in result.stderr
    assert cli("eval", speech, "--json", "-q").stderr == ""


def test_a_folder_keeps_everything_and_is_gone_on_with(
    cli: Any, rooms: LevelStages, speech: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    command = ("eval", speech, "-t", "asr", "--reduce", "0.2", "--draws", "20", "-o")
    first = cli(*command, tmp_path / "out")
    assert first.exit_code == 0, first.output
    assert json.loads((tmp_path / "out" / "eval.json").read_text())["seed"] == 0
    assert (tmp_path / "out" / "eval.png").stat().st_size > 10_000
    assert len(list(tmp_path.glob("out/speech/asr/*/results.jsonl"))) == 2
    rooms.log.clear()
    again = cli(*command, tmp_path / "out")
    assert again.stdout == first.stdout
    assert [entry for entry in rooms.log if isinstance(entry, list)] == []


def test_a_bad_file_is_named_once_and_exit_1(cli: Any, rooms: LevelStages, speech: Path) -> None:
    (speech / "a.wav").write_text("!media damaged")
    result = cli("eval", speech, "-t", "asr", "-q")
    assert result.exit_code == 1
    assert result.stderr == "error: speech, asr: failed: a.wav: damaged\n"
    assert "50.00" in result.stdout


def test_a_pipe_sees_life_within_a_point(
    cli: Any, rooms: LevelStages, speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastadasp_cli.console.PATIENCE", 0.0)
    told = cli("eval", speech, "-t", "asr", "--reduce", "0.2").stderr.splitlines()
    assert "2 of 4 done" in told and "4 of 4 done" in told
    assert told.index("2 of 4 done") < told.index("speech, asr: fastadasp constant keep 20%")


def test_what_the_model_refuses_is_said(cli: Any, rooms: LevelStages, speech: Path) -> None:
    result = cli("eval", speech, "-t", "asr", "--reduce", "0.2", "--start-layers", "0,7")
    assert result.exit_code == 0
    assert "left out: layer 7 is too deep" in result.stderr


def test_captions_are_said_to_be_unscored(cli: Any, rooms: LevelStages, tmp_path: Path) -> None:
    folder = make_set(tmp_path / "sounds", {"a.wav": {"says": "a dog", "captions": ["dogs"]}})
    result = cli("eval", folder, "--reduce", "0.2")
    assert result.exit_code == 0
    assert "sounds, ac: captions are written, not scored" in result.stderr
    assert result.stdout.splitlines()[1].split()[-1] == "kept"


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (("gone",), "no such manifest"),
        (("SET", "--reduce", "half"), "numbers with commas"),
        (("SET", "--reduce", "3"), "0 to 0.9"),
        (("SET", "--methods", "fastadsap"), "fastadasp"),
        (("SET", "--presets", "asr-saef"), "asr-safe"),
        (("SET", "--schedules", "wonce"), "once, constant"),
        (("SET", "--task", "sing"), "asr, st"),
        (("SET", "--task", "er"), '"emotion" or "label"'),
        (("SET", "--task", "chat"), "never scored"),
        (("SET", "--batch-size", "0"), "auto"),
        (("SET", "--draws", "0"), "--draws"),
        (("SET", "--plot", "a.txt"), ".png"),
        (("SET", "--plot", "gone/a.png"), "no folder gone"),
        ((), "MANIFEST"),
    ],
)
def test_usage_errors_come_before_the_model(
    cli: Any,
    monkeypatch: pytest.MonkeyPatch,
    speech: Path,
    words: tuple[str, ...],
    way_out: str,
) -> None:
    monkeypatch.setattr(Rooms, "load", lambda *_: pytest.fail("a model was loaded"))
    result = cli("eval", *(str(speech) if word == "SET" else word for word in words))
    assert result.exit_code == 2
    assert way_out in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("absent", "words", "said"),
    [
        ("sacrebleu", (), "eval needs sacrebleu: pip install 'fastadasp[eval]'"),
        ("matplotlib", ("--plot", "a.png"), "--plot needs matplotlib: pip install"),
    ],
)
def test_a_missing_extra_is_one_line_before_any_work(
    cli: Any,
    monkeypatch: pytest.MonkeyPatch,
    speech: Path,
    absent: str,
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.setattr(fastadasp_cli.eval, "find_spec", lambda name: name != absent or None)
    monkeypatch.setattr(Rooms, "load", lambda *_: pytest.fail("a model was loaded"))
    result = cli("eval", speech, *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_without_matplotlib_a_folder_lacks_the_picture_only(
    cli: Any, rooms: LevelStages, monkeypatch: pytest.MonkeyPatch, speech: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(fastadasp_cli.eval, "find_spec", lambda name: name != "matplotlib" or None)
    result = cli("eval", speech, "-t", "asr", "--reduce", "0.2", "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "fastadasp[plots]" in result.stderr
    assert (tmp_path / "out" / "eval.json").exists()
    assert not (tmp_path / "out" / "eval.png").exists()


def test_the_basic_normaliser_leaves_number_words_apart(
    cli: Any, rooms: LevelStages, tmp_path: Path
) -> None:
    folder = make_set(tmp_path / "digits", {"a.wav": {"text": "one two three"}})
    command = ("eval", folder, "--json", "-q", "--reduce", "0.5", "--draws", "5")

    def worst(*options: str) -> tuple[float, str]:
        [block] = json.loads(cli(*command, *options).stdout)["blocks"]
        return block["points"][1]["scores"]["wer"]["value"], block["measures"]["wer"]["signature"]

    wer, signature = worst()
    assert wer == pytest.approx(100)
    assert signature.endswith("whisper-english")
    wer, signature = worst("--normaliser", "basic")
    assert wer == pytest.approx(100 / 3)
    assert signature.endswith("whisper-basic")
    refused = cli("eval", folder, "--normaliser", "loud")
    assert refused.exit_code == 2
    assert "choose from whisper, basic" in refused.stderr
