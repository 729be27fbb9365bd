from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.media import apart, cutters, launch

from .decoders import HOSTILE, ROOT
from .pieces import LoudIsSpeech


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder; recordings need not hold sound, for nothing here opens them."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def loud_is_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutters, "SpeechProbabilities", LoudIsSpeech)


@pytest.fixture
def fresh_decoders() -> Iterator[None]:
    """No decoder of an earlier test, and none is left behind."""
    apart.end_all()
    yield
    apart.end_all()


@pytest.fixture
def hostile_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put the hostile decoder in the place of the real one."""

    def replace(stall: int = 60, more: str = "") -> None:
        script = tmp_path / "start.py"
        scratch = tmp_path / "scratch"
        script.write_text(HOSTILE.format(root=str(ROOT), scratch=scratch, stall=stall, more=more))
        monkeypatch.setattr(launch, "_START", script)

    return replace


@pytest.fixture
def hostile(hostile_start: Callable[..., None]) -> None:
    hostile_start()
