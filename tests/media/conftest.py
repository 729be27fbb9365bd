from pathlib import Path

import pytest

from core.media import cutters

from .pieces import LoudIsSpeech


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder; recordings need not hold sound, for nothing here opens them."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def loud_is_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutters, "SpeechProbabilities", LoudIsSpeech)
