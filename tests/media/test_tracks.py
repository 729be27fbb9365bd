"""Of several audio tracks one is heard that says something, and the others are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.media.decode import count_channels
from core.media.listening import Listening

from .reading import read
from .sounds import Samples, cut, hertz_of, speech, tone, write, write_tracks

SILENT = np.zeros(160_000, np.float32)
HUM = tone(10, hertz=50) * 0.3
BEEP = np.concatenate([tone(0.3, hertz=1000), SILENT[:155_200]])


def heard(path: Path, track: str = "auto") -> tuple[Samples, str, list[str]]:
    said: list[str] = []
    sound, error = read(path, said.append, Listening(track))
    return sound, error, said


@pytest.mark.parametrize("kind", ["mkv", "mp4", "mov"])
@pytest.mark.parametrize("first", [SILENT, HUM, BEEP], ids=["silent", "hum", "beep"])
def test_where_the_first_track_is_silent_the_one_with_speech_is_heard(
    kind: str, first: Samples, tmp_path: Path
) -> None:
    path = write_tracks(tmp_path / f"a.{kind}", first, SILENT, speech(10, hertz=440))
    sound, error, said = heard(path)
    assert error == ""
    assert said == ["audio_tracks_left_out:1,2"]
    assert hertz_of(sound) == pytest.approx(440, abs=3)


def test_speech_in_the_default_track_is_heard_whatever_the_others_hold(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mkv", speech(70), speech(70, hertz=660) * 2)
    sound, error, said = heard(path)
    assert (error, said) == ("", ["audio_tracks_left_out:2"])
    assert hertz_of(sound) == pytest.approx(440, abs=3)
    assert len(sound) / 16_000 == pytest.approx(70, abs=0.1)


def test_all_tracks_silent_is_the_default_one(tmp_path: Path) -> None:
    sound, error, said = heard(write_tracks(tmp_path / "a.mkv", SILENT, SILENT))
    assert (error, said) == ("", ["audio_tracks_left_out:2"])
    assert len(sound) == pytest.approx(160_000, abs=1100)


def test_a_track_by_its_number(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.mkv", speech(5), speech(5, hertz=660))
    for number, hertz in (("1", 440), ("2", 660)):
        sound, error, said = heard(path, number)
        assert (error, said) == ("", [])
        assert hertz_of(sound) == pytest.approx(hertz, abs=3)
    assert heard(path, "3")[1] == "no audio track 3: it has 2; leave out --audio-track"


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_track_that_is_not_there(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a.{kind}", tone(1))
    assert heard(path, "2")[1] == "no audio track 2: it has 1; leave out --audio-track"
    assert heard(path, "1")[1] == heard(path, "all")[1] == ""


def test_all_tracks_are_mixed_as_long_as_the_longest(tmp_path: Path) -> None:
    tracks = speech(25), speech(12, hertz=660)
    path = write_tracks(tmp_path / "a.mkv", *tracks)
    sound, error, said = heard(path, "all")
    assert (error, said) == ("", [])
    assert len(sound) / 16_000 == pytest.approx(25, abs=0.1)
    apart = [heard(path, number)[0] for number in ("1", "2")]
    expected = np.zeros(max(map(len, apart)), np.float32)
    for one in apart:
        expected[: len(one)] += one / 2
    assert sound == pytest.approx(expected, abs=1e-6)


def test_a_cut_file_of_several_tracks_is_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noisy = [speech(30) + 0.05 * rng.standard_normal(480_000).astype(np.float32) for _ in "ab"]
    path = cut(write_tracks(tmp_path / "a.mkv", *noisy))
    for track in ("auto", "all", "2"):
        sound, error, _ = heard(path, track)
        assert error.startswith("breaks off at"), track
        assert len(sound) / 16_000 > 5


def test_channels_are_counted_of_the_track_that_is_heard(tmp_path: Path) -> None:
    wide = write(tmp_path / "a.wav", np.stack([tone(1)] * 6, axis=1))
    assert count_channels(wide, Listening()) == 6
    assert count_channels(write_tracks(tmp_path / "a.mkv", SILENT, speech(10)), Listening()) == 1
