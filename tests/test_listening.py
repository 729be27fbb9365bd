"""From odd files to the words of the embedded model: what is said in them is what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

import fastadasp
from fastadasp_cli.main import app
from tests.media.sounds import write, write_tracks

EXAMPLES = Path(__file__).parents[1] / "examples" / "audio"
KITCHEN, RATE = soundfile.read(EXAMPLES / "kitchen.wav", dtype="float32")
OFFICE, _ = soundfile.read(EXAMPLES / "office.wav", dtype="float32")
SILENT = np.zeros_like(OFFICE)


def run(*arguments: str | Path) -> tuple[Result, dict[str, Any]]:
    """`fastadasp run ...` in this process: result and records by id."""
    result = CliRunner().invoke(app, ["run", *map(str, arguments)])
    records = [json.loads(line) for line in result.stdout.splitlines()]
    return result, {record["id"]: record for record in records}


@pytest.fixture(scope="module")
def texts() -> tuple[str, str]:
    """What is said in the kitchen and in the office."""
    _, records = run(EXAMPLES / "kitchen.wav", EXAMPLES / "office.wav")
    kitchen, office = (record["pred_text"] for record in records.values())
    return kitchen, office


def test_what_is_odd_about_a_file_does_not_change_its_words(
    texts: tuple[str, str], tmp_path: Path
) -> None:
    words = {
        "antiphase.wav": np.stack([KITCHEN, -KITCHEN], axis=1),
        "left.wav": np.stack([KITCHEN, 0 * KITCHEN], axis=1),
        "quiet.wav": KITCHEN * np.float32(1e-3),
        "int16.wav": KITCHEN * np.float32(2**15),
        "int32.wav": KITCHEN * np.float32(2**31),
    }
    for name, samples in words.items():
        write(tmp_path / name, samples, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "rifx.wav", KITCHEN, RATE, endian="BIG")
    data = bytearray((EXAMPLES / "kitchen.wav").read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = (32_000).to_bytes(4, "little")
    (tmp_path / "stale.wav").write_bytes(data)
    result, records = run(tmp_path)
    assert result.exit_code == 0
    assert {record["pred_text"] for record in records.values()} == {texts[0]}
    assert {name: record["warnings"] for name, record in records.items()} == {
        "antiphase.wav": ["antiphase_channels"],
        "left.wav": [],
        "quiet.wav": ["quiet_sound:-82dB"],
        "int16.wav": ["scale_int16"],
        "int32.wav": ["scale_int32"],
        "rifx.wav": [],
        "stale.wav": [],
    }


def test_the_silent_first_track_of_a_screen_recording(
    texts: tuple[str, str], tmp_path: Path
) -> None:
    write_tracks(tmp_path / "screen.mkv", SILENT, OFFICE)
    _, records = run(tmp_path)
    assert records["screen.mkv"]["pred_text"] == texts[1]
    assert records["screen.mkv"]["warnings"] == ["audio_tracks_left_out:1"]
    _, records = run(tmp_path, "--audio-track", "1")
    assert records["screen.mkv"]["pred_text"] == ""


def test_the_channels_of_a_call(texts: tuple[str, str], tmp_path: Path) -> None:
    sides = np.stack([np.pad(KITCHEN, (0, len(OFFICE) - len(KITCHEN))), OFFICE], axis=1)
    (tmp_path / "calls").mkdir()
    call = write(tmp_path / "calls" / "call.wav", sides, RATE)
    out = tmp_path / "out"
    result, _ = run(call.parent, "-o", out, "-f", "txt", "--channels", "split")
    assert result.exit_code == 0
    assert (out / "call#1.txt").read_text().strip() == texts[0]
    assert (out / "call#2.txt").read_text().strip() == texts[1]
    again, _ = run(call.parent, "-o", out, "-f", "txt", "--channels", "split")
    assert "2 skipped" in again.stderr
    other, _ = run(call.parent, "-o", out)
    assert other.exit_code == 2
    _, records = run(call, "--channels", "2")
    assert [record["pred_text"] for record in records.values()] == [texts[1]]
    split = fastadasp.transcribe(call, channels="split")
    assert [record.pred_text for record in split] == list(texts)
