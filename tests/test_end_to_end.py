"""The whole road with the embedded model: recordings of every kind in, JSON lines out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from fastadasp_cli.main import app
from tests.media import sounds

EXAMPLES = Path(__file__).parents[1] / "examples" / "audio"
SPEECH = EXAMPLES / "kitchen.wav"


def run(*arguments: str | Path) -> tuple[Result, dict[str, Any]]:
    """`fastadasp run ...` in this process: result and records by id."""
    result = CliRunner().invoke(app, ["run", *map(str, arguments)])
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return result, {line["id"]: line for line in lines}


def references(key: str) -> dict[str, str]:
    rows = map(json.loads, (EXAMPLES / "manifest.jsonl").read_text().splitlines())
    return {row["audio_filepath"]: row[key] for row in rows}


def word_errors(expected: dict[str, str], records: dict[str, Any]) -> float:
    jiwer = pytest.importorskip("jiwer")
    names = sorted(expected)
    texts = [records[name]["pred_text"] for name in names]
    return float(jiwer.wer([expected[name] for name in names], texts))


def test_examples_are_transcribed() -> None:
    result, records = run(EXAMPLES)
    assert result.exit_code == 0, result.stderr
    assert records.keys() == references("text").keys()
    assert word_errors(references("text"), records) < 0.05
    for record in records.values():
        assert record["status"] == "ok"
        assert record["flops"]["reduction_target"] == 0.2
        assert record["flops"]["reduction"] == pytest.approx(0.2, abs=0.01)
        assert record["tokens"]["audio_kept"] < record["tokens"]["audio_in"]
        assert record["memory"]["kv_bytes"] < record["memory"]["kv_bytes_full"]
        assert record["rtf"] > 0
    long = records["long.ogg"]
    assert long["duration"] > 180
    times = [(span["start"], span["end"]) for span in long["segments"]]
    assert times == sorted(times)
    assert all(begin < end for begin, end in times)
    assert all(now[1] <= after[0] + 1e-3 for now, after in pairwise(times))


def test_examples_are_translated() -> None:
    result, records = run(EXAMPLES / "manifest.jsonl", "--task", "st", "--lang", "de")
    assert result.exit_code == 0, result.stderr
    assert word_errors(references("translation"), records) < 0.15
    assert all(record["target_language"] == "de" for record in records.values())
    assert records["market.flac"]["text"] == references("text")["market.flac"]


def test_two_tasks_give_what_two_runs_give_and_encode_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.models.qwen2_audio import Qwen2Audio

    files = [EXAMPLES / f"{name}.flac" for name in ("market", "harbour")] + [SPEECH]
    heard: list[int] = []
    plain = Qwen2Audio.encode

    def counted(lm: Any, waves: Any, scored: bool = False) -> Any:
        heard.append(len(waves))
        return plain(lm, waves, scored)

    monkeypatch.setattr(Qwen2Audio, "encode", counted)
    alone, windows = {}, []
    for words in (("--task", "asr"), ("--task", "st", "--lang", "de")):
        _, records = run(*files, *words)
        alone |= {(name, record["task"]): record for name, record in records.items()}
        windows.append(sum(heard))
        heard.clear()
    words = ("run", *map(str, files), "--task", "asr,st", "--lang", "de")
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    both = [json.loads(line) for line in result.stdout.splitlines()]
    assert windows == [sum(heard)] * 2
    assert [one["task"] for one in both] == ["asr", "st"] * len(files)
    assert {(one["id"], one["task"]) for one in both} == alone.keys()
    for one in both:
        mine = alone[one["id"], one["task"]]
        for key in ("pred_text", "segments", "settings_hash", "preset", "status", "coverage"):
            assert one[key] == mine[key]
        for key in ("prompt", "audio_in", "audio_kept", "generated"):
            assert one["tokens"][key] == mine["tokens"][key]
    # encoded once, at the cost of both
    for asr, st in zip(both[::2], both[1::2], strict=True):
        assert 0 < asr["latency"]["encode_s"] == pytest.approx(st["latency"]["encode_s"], abs=1e-5)
        parts = asr["flops"]["encoder"], st["flops"]["encoder"]
        assert 0 < max(parts) - min(parts) + 1 < 9
        assert min(parts) < 0.6 * alone[asr["id"], "asr"]["flops"]["encoder"]
    # where one task is done already, the other goes on alone
    run(*files, "--task", "asr", "-o", tmp_path)
    CliRunner().invoke(app, [*words, "-o", str(tmp_path)])
    found = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [one["task"] for one in found] == ["asr"] * len(files) + ["st"] * len(files)
    for one in found:
        assert one["pred_text"] == alone[one["id"], one["task"]]["pred_text"]
        assert one["flops"]["encoder"] > 0


def test_examples_are_evaluated(tmp_path: Path) -> None:
    for name in ("jiwer", "sacrebleu", "whisper_normalizer"):
        pytest.importorskip(name)
    rows = [json.loads(line) for line in (EXAMPLES / "manifest.jsonl").read_text().splitlines()]
    short = [row | {"audio_filepath": str(EXAMPLES / row["audio_filepath"])} for row in rows[:3]]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("\n".join(map(json.dumps, short)))
    words = ("eval", str(manifest), "--task", "asr,st", "--reduce", "0.2", "--json")
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    asr, st = json.loads(result.stdout)["blocks"]
    for block, measure in ((asr, "wer"), (st, "bleu")):
        full, reduced = block["points"]
        assert (block["recordings"], block["segment"]) == (3, "whole")
        assert (full["spent"]["cut"], full["spent"]["kept"]) == (0, 1)
        assert reduced["spent"]["cut"] == pytest.approx(0.2, abs=0.01)
        assert reduced["spent"]["kept"] < 1
        assert reduced["spent"]["kv_bytes"] < full["spent"]["kv_bytes"]
        assert reduced["scores"][measure]["difference"]["low"] <= 0
    assert asr["points"][1]["scores"]["wer"]["value"] < 10
    assert st["points"][1]["scores"]["bleu"]["value"] > 50


def mess(folder: Path) -> dict[str, str]:
    """A folder of good and bad files: name -> expected status."""
    tone, silence = sounds.tone(1.0), np.zeros(16_000, np.float32)
    chord = sum(sounds.tone(3.0, hertz=hertz) for hertz in (220, 277, 330)) / 3
    speech, rate = sounds.soundfile.read(SPEECH, dtype="float32")
    expected = {}

    def good(name: str, samples: Any, rate: int = 16_000, subtype: str | None = None) -> None:
        sounds.write(folder / name, samples, rate, subtype)
        expected[name] = "ok"

    good("silence.wav", silence)
    sounds.write(folder / "music.flac", chord)
    good("8 kHz.wav", speech[::2], 8_000)
    good("96k.wav", np.repeat(speech, 6), 96_000)
    good("eight channels.wav", np.stack([speech] * 8, 1))
    good("24 bit.wav", speech, rate, "PCM_24")
    good("one sample.wav", np.zeros(1, np.float32))
    good("no samples.wav", np.zeros(0, np.float32))
    good('it\'s a "quote".ogg', speech)
    good("-dash.mp3", speech)
    good("日本語 ümläut.m4a", speech)
    good("clip.opus", speech)
    good("clip.wma", speech)
    good("clip.webm", speech)
    shutil.copy(SPEECH, folder / "really a wav.mp3")
    expected["really a wav.mp3"] = "ok"
    (folder / "empty.wav").write_bytes(b"")
    (folder / "random.flac").write_bytes(np.random.default_rng(0).bytes(50_000))
    (folder / "text.wav").write_text("Dear diary, today I was no sound file.\n" * 50)
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    expected |= dict.fromkeys(("empty.wav", "random.flac", "text.wav", "gone.wav"), "failed")
    sounds.cut(sounds.write(folder / "cut.wav", np.tile(tone, 20)))
    sounds.cut(sounds.write(folder / "cut.m4a", np.tile(tone, 20)))
    expected["cut.m4a"] = "failed"
    return expected


def test_a_messy_folder_is_done_to_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "mess"
    folder.mkdir()
    expected = mess(folder)
    result, records = run(folder, tmp_path / "missing.mp3", "--batch-size", "4")
    assert result.exit_code == 1, result.stderr
    found = {name.split("/")[-1]: record for name, record in records.items()}
    assert {name: found[name]["status"] for name in expected} == expected
    assert found["missing.mp3"]["status"] == "failed"
    assert found["cut.wav"]["status"] in ("partial", "failed")
    # taken for speech, it may be answered with nothing, which then shows
    assert found["music.flac"]["status"] in ("ok", "failed")
    assert found.keys() == expected.keys() | {"missing.mp3", "cut.wav", "music.flac"}
    for record in found.values():
        if record["status"] != "ok":
            assert record["error"]["message"]
            assert "\n" not in record["error"]["message"]
        else:
            assert record["error"] is None
    for name in ("silence.wav", "one sample.wav", "no samples.wav"):
        assert found[name]["pred_text"] == ""
    wanted = references("text")["kitchen.wav"]
    for name in ("24 bit.wav", "eight channels.wav", "really a wav.mp3", "clip.opus"):
        assert found[name]["pred_text"] == wanted


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_paths_in_records_out_of_a_pipeline(tmp_path: Path) -> None:
    shutil.copy(SPEECH, tmp_path / "a b.wav")
    shutil.copy(SPEECH, tmp_path / "-c.wav")
    pick = "import json,sys; [print(json.loads(line)['pred_text']) for line in sys.stdin]"
    command = f'find . -name "*.wav" | "{sys.executable}" -m fastadasp_cli run - 2> log | '
    command += f'"{sys.executable}" -c "{pick}"'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (tmp_path / "log").read_text()
    assert done.stdout.splitlines() == [references("text")["kitchen.wav"]] * 2
