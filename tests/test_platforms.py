"""What only Unix has is not needed: not to import the project, and not for a run."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.like_windows import MODULES

ROOT = Path(__file__).parents[1]
SOUND = ROOT / "examples" / "audio" / "garden.ogg"
OURS = [
    *ROOT.glob("*.py"),
    *(
        path
        for name in ("core", "fastadasp_cli", "presets", "recipes", "benchmarks")
        for path in (ROOT / name).rglob("*.py")
    ),
]


def like_windows(*words: object, **more: Any) -> subprocess.CompletedProcess[Any]:
    command = [sys.executable, "-m", "tests.like_windows", *map(str, words)]
    env = {**os.environ, "USERNAME": "somebody", "LOGNAME": "somebody"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=False, **more)


def test_no_module_of_unix_is_imported_at_the_top() -> None:
    assert len(OURS) > 200
    assert [path for path in OURS if imported_at_the_top(path) & set(MODULES)] == []


def imported_at_the_top(path: Path) -> set[str | None]:
    return {
        name
        for node in ast.parse(path.read_bytes()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None), *(one.name for one in node.names)]
    }


def test_a_run_does_without_what_windows_lacks() -> None:
    done = like_windows("run", SOUND)
    assert done.returncode == 0, done.stderr.decode()
    record = json.loads(done.stdout)
    assert (record["status"], record["memory"]["peak_bytes"]) == ("ok", None)
    assert "princess" in record["pred_text"]
    assert record["memory"]["kv_bytes"] > 0


def test_a_decoder_does_without_what_windows_lacks() -> None:
    part = {"track": "auto", "channels": "mix", "offset": None, "duration": None}
    asked = json.dumps({"path": str(SOUND), "wanted": "sound", "rate": 16_000, **part})
    done = like_windows("serve", input=f"{asked}\n".encode())
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout[-5:] == b"D\0\0\0\0"
    assert len(done.stdout) > 5 * 16_000 * 4


def test_tables_have_a_dash_for_memory_that_is_not_told() -> None:
    done = like_windows("profile", SOUND, "--reduce", "0")
    assert done.returncode == 0, done.stderr.decode()
    head, row = done.stdout.decode().splitlines()[1:]
    assert row[head.index("peak MB") :].split() == ["-", "yes"]
    words = ("--shape", "tiny", "--seconds", "2", "--tokens", "2", "--rounds", "1", "--reduce", "0")
    done = like_windows("bench", *words, "--num-beams", "1", "--against", "none")
    assert done.returncode == 0, done.stderr.decode()
    head, row = done.stdout.decode().splitlines()[1:]
    assert row[head.index("+MB") :].split()[0] == "-"


def test_a_limit_that_cannot_be_held_is_refused() -> None:
    done = like_windows("run", SOUND, "--max-memory", "4G")
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"does not say how much memory" in done.stderr
