"""Commands are started where recordings of strangers lie; what else lies there is not run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import ROOT

SPEECH = ROOT / "examples" / "audio" / "kitchen.wav"
COMMAND = Path(sys.executable).with_name("fastadasp")
TRAPS = (
    *("json.py", "soxr.py", "numpy/__init__.py", "av.py", "soundfile.py", "transformers.py"),
    *("multiprocessing/__init__.py", "torchaudio.py", "core/__init__.py", "sitecustomize.py"),
)
MEASURED = {"time", "rtf", "rtfx", "rtfx_model", "latency", "memory", "source", "tokens"}
"""Keys whose values differ from run to run, and the copy's own time of change."""


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A folder with a recording, and modules that leave a mark when they are imported."""
    folder = tmp_path / "downloads"
    for name in TRAPS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"open({str(tmp_path / 'MARK-')!r} + __name__, 'w').close()\n")
    shutil.copy(SPEECH, folder)
    return folder


def said(folder: Path, *words: str) -> str:
    """What a command answers that is started in a folder."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def settled(text: str) -> dict[str, Any]:
    record = json.loads(text)
    tokens = {key: count for key, count in record["tokens"].items() if key != "per_second"}
    return {key: value for key, value in record.items() if key not in MEASURED} | tokens


def marks(trapped: Path) -> list[str]:
    return sorted(path.name for path in trapped.parent.glob("MARK*"))


def test_the_traps_are_real(trapped: Path) -> None:
    said(trapped, sys.executable, "-c", "import soxr, json")
    assert marks(trapped) == ["MARK-json", "MARK-soxr"]


@pytest.mark.slow
@pytest.mark.parametrize("start", [[str(COMMAND)], [sys.executable, "-m", "fastadasp_cli"]])
def test_a_run(start: list[str], trapped: Path, tmp_path: Path) -> None:
    words = (*start, "run", "kitchen.wav", "--reduce", "0", "-q")
    clean = tmp_path / "clean"
    clean.mkdir()
    shutil.copy(SPEECH, clean)
    record = settled(said(trapped, *words))
    assert marks(trapped) == []
    assert (record["status"], record["warnings"]) == ("ok", [])
    assert record["pred_text"]
    assert record == settled(said(clean, *words))


def test_doctor(trapped: Path) -> None:
    found = json.loads(said(trapped, str(COMMAND), "doctor", "--json"))
    assert marks(trapped) == []
    assert not [one for one in found if one["state"] == "bad"]


@pytest.mark.slow
def test_a_process_that_measures_memory(trapped: Path) -> None:
    words = ("--shape", "tiny", "--seconds", "1", "--tokens", "2", "--rounds", "1", "--against")
    said(trapped, str(COMMAND), "bench", *words, "none", "--num-beams", "1", "--reduce", "0")
    assert marks(trapped) == []


def test_the_help_says_what_is_code(trapped: Path) -> None:
    text = " ".join(said(trapped, str(COMMAND), "run", "--help").replace("│", " ").split())
    assert "A file from a stranger is code" in text
    assert "FILE.py:Name, which is code and is run" in text
