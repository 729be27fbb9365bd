from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import core.pipeline
from fastadasp_cli.main import app
from tests.fakes import FakeStages

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands set variables for the libraries; they must not leak into other tests."""
    monkeypatch.setattr("warnings.filterwarnings", lambda *_, **__: None)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> FakeStages:
    """The rooms that commands of this test walk through."""
    rooms = FakeStages()
    monkeypatch.setattr(core.pipeline, "Rooms", lambda: rooms)
    return rooms


@pytest.fixture
def cli(stages: FakeStages) -> Callable[..., Result]:
    """Run a command in this process."""

    def invoke(*words: object, **more: Any) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words], **more)

    return invoke


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """A folder of three recordings."""
    folder = tmp_path / "talks"
    (folder / "day2").mkdir(parents=True)
    (folder / "a.wav").write_text("one\ntwo")
    (folder / "b.wav").write_text("three")
    (folder / "day2" / "c.mp3").write_text("four")
    return folder


def start(*words: object, **more: Any) -> subprocess.Popen[str]:
    """Start a command as a process of its own, with fake rooms."""
    command = [sys.executable, "-m", "tests.cli.fake_main", *map(str, words)]
    usual: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        # a test run started with & hands on an ignored SIGINT
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    }
    return subprocess.Popen(command, cwd=ROOT, **{**usual, **more})
