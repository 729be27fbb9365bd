"""Commands that look at a recording leave opening it to the decoding process."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from core.errors import StartError
from core.records import Recording
from core.stages import Pieces, Rooms
from core.studies.sets import seconds
from tests.cli.conftest import ROOT

SPEECH = ROOT / "examples" / "audio" / "kitchen.wav"
SPOKEN = ROOT / "examples" / "audio" / "station.mp3"


@pytest.fixture(autouse=True)
def nothing_is_opened_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg and libsndfile are out of reach of this process, which its decoder is not."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a recording was opened in the main process")

    monkeypatch.setattr(av, "open", refuse)
    monkeypatch.setattr(soundfile.SoundFile, "__init__", refuse)


def test_profile_of_lengths(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    lm = SimpleNamespace(
        facts=SimpleNamespace(sample_rate=8_000), revision=None, device="cpu", dtype="float32"
    )
    monkeypatch.setattr(Rooms, "load", lambda self, config: lm)
    monkeypatch.setattr(
        "core.studies.profile.profile",
        lambda lm, segments, *_, **__: heard.extend(segments) or iter(()),
    )
    result = cli("profile", SPEECH, "--seconds", "2", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["audio_s"] == 2
    assert [len(one.samples) for one in heard] == [16_000]
    assert np.abs(heard[0].samples).max() > 0.01


def test_a_checked_model_hears_a_recording(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = SimpleNamespace(sample_rate=16_000, max_seconds=30.0, chunk_seconds=None)

    def checkup(lm: Any, piece: Any) -> None:
        raise StartError(f"heard {piece.duration:.0f} s")

    monkeypatch.setattr("core.models.load_model", lambda *_, **__: SimpleNamespace(facts=facts))
    monkeypatch.setattr("core.engine.checkup.checkup", checkup)
    result = cli("models", "check", "embedded", "--audio", SPOKEN)
    assert result.stderr == "error: heard 2 s\n"


@pytest.mark.parametrize("path", [SPEECH, SPOKEN])
def test_the_length_of_a_recording_to_evaluate(path: Path) -> None:
    assert seconds(Recording("a", path)) == pytest.approx(3.5, abs=1.5)
    assert seconds(Recording("a", Path(__file__))) == 0


@pytest.mark.parametrize("path", [SPEECH, SPOKEN])
def test_what_all_other_commands_read_with(path: Path) -> None:
    from core.media.segment import Cutting

    pieces = Pieces(Recording("a", path), {Cutting("whole"): ()}, lambda: None, lambda wave: ())
    [piece] = pieces
    assert piece.duration > 2


def test_seconds_are_those_of_the_part_that_a_manifest_names(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(SPEECH.read_bytes())
    whole = seconds(Recording("a", path))
    assert seconds(Recording("a", path, offset=1.0)) == pytest.approx(whole - 1)
    assert seconds(Recording("a", path, offset=1.0, duration=0.5)) == 0.5
