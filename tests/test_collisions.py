"""Another project's `core` or `presets` in the way is said in one line."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python started in a folder that stands on the path before this project."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("core/__init__.py", ""),
        ("core/__init__.py", "raise RuntimeError('settings are not configured')"),
        ("core.py", "__version__ = '3'"),
        ("presets/__init__.py", ""),
    ],
)
def test_what_is_found_instead_is_named(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    found = tmp_path / file.removesuffix("/__init__.py")
    name = found.stem
    said = (
        f"fastadasp needs its own '{name}' ({ROOT / name}) and Python finds {found}:"
        " start it from another folder, or rename that one"
    )
    library = python(tmp_path, "-c", "import fastadasp")
    assert library.stderr.splitlines()[-1] == f"ImportError: {said}"
    assert "During handling" not in library.stderr
    command = python(tmp_path, "-m", "fastadasp_cli", "--version")
    assert (command.returncode, command.stdout) == (3, "")
    assert command.stderr == f"error: {said}\n"


def test_other_errors_are_their_own(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("")
    command = python(tmp_path, "-m", "fastadasp_cli", "--version")
    assert "fastadasp needs" not in command.stderr
    assert command.stderr.splitlines()[-1].startswith(("AttributeError", "ModuleNotFoundError"))
    (tmp_path / "typer.py").unlink()
    assert python(tmp_path, "-m", "fastadasp_cli", "--version").stdout.startswith("fastadasp ")


def test_the_script_begins_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"fastadasp": "fastadasp_cli.start:main"}
