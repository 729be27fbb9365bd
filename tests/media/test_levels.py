"""Sound is brought to where detector and model work, and what was done is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.errors import MediaError
from core.media import levels
from core.media.blocks import MonoBlock
from core.media.levels import Meter, levelled

from .reading import read
from .sounds import Samples, cut, rms, speech, tone, write

VOICE = speech(12)


def heard(path: Path) -> tuple[Samples, str, list[str]]:
    said: list[str] = []
    sound, error = read(path, said.append)
    return sound, error, said


def scaled(path: Path, factor: float, subtype: str = "FLOAT") -> Path:
    return write(path, times(factor).astype(np.float64), subtype=subtype)


def times(factor: float) -> Samples:
    return (VOICE.astype(np.float64) * factor).astype(np.float32)


@pytest.mark.parametrize("decibel", [-50, -60, -80, -95])
def test_quiet_sound_is_brought_up(decibel: float, tmp_path: Path) -> None:
    sound, error, said = heard(scaled(tmp_path / "a.wav", 10 ** (decibel / 20)))
    assert error == ""
    assert len(said) == 1 and said[0].startswith("quiet_sound:-")
    level = float(said[0].removeprefix("quiet_sound:").removesuffix("dB"))
    assert level == pytest.approx(decibel + 20 * np.log10(rms(tone(1))), abs=2)
    assert rms(sound[VOICE > 0.1]) == pytest.approx(10 ** (-25 / 20), rel=0.4)
    assert np.corrcoef(sound, VOICE)[0, 1] > 0.999


def test_quiet_sound_of_sixteen_bits(tmp_path: Path) -> None:
    sound, _, said = heard(scaled(tmp_path / "a.wav", 10 ** (-50 / 20), "PCM_16"))
    assert said == ["quiet_sound:-64dB"]
    assert np.corrcoef(sound, VOICE)[0, 1] > 0.99


@pytest.mark.parametrize("factor", [1.0, 0.1, 0.02, 3.0])
def test_usual_levels_are_left_alone(factor: float, tmp_path: Path) -> None:
    path = scaled(tmp_path / "a.wav", factor)
    sound, error, said = heard(path)
    assert (error, said) == ("", [])
    assert np.array_equal(sound, times(factor))


@pytest.mark.parametrize("level", [1e-3, 1e-5])
def test_steady_noise_is_left_alone(level: float, tmp_path: Path) -> None:
    noise = level * np.random.default_rng(0).standard_normal(320_000).astype(np.float32)
    sound, _, said = heard(write(tmp_path / "a.wav", noise, subtype="FLOAT"))
    assert said == []
    assert np.array_equal(sound, noise)


def test_silence_with_one_sentence_late_is_left_alone(tmp_path: Path) -> None:
    quiet = 1e-4 * np.random.default_rng(0).standard_normal(16_000 * 150).astype(np.float32)
    samples = np.concatenate([quiet, VOICE[:48_000], quiet])
    sound, _, said = heard(write(tmp_path / "a.wav", samples, subtype="FLOAT"))
    assert said == []
    assert np.array_equal(sound, samples)


def test_a_click_does_not_make_a_quiet_recording_loud(tmp_path: Path) -> None:
    samples = VOICE * np.float32(1e-3)
    samples[30_000:30_400] = 0.9
    sound, _, said = heard(write(tmp_path / "a.wav", samples, subtype="FLOAT"))
    assert said[0].startswith("quiet_sound")
    assert np.abs(sound).max() == 1.0
    assert rms(sound[VOICE > 0.1]) > 0.03


@pytest.mark.parametrize(("bits", "name"), [(15, "int16"), (23, "int24"), (31, "int32")])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_samples_in_the_scale_of_integers(
    bits: int, name: str, subtype: str, tmp_path: Path
) -> None:
    sound, error, said = heard(scaled(tmp_path / "a.wav", 2.0**bits, subtype))
    assert (error, said) == ("", [f"scale_{name}"])
    assert sound == pytest.approx(VOICE, abs=1e-6)


def test_quiet_sound_in_the_scale_of_integers(tmp_path: Path) -> None:
    sound, _, said = heard(scaled(tmp_path / "a.wav", 2.0**15 / 1000))
    assert sorted(one.split(":")[0] for one in said) == ["quiet_sound", "scale_int16"]
    assert np.corrcoef(sound, VOICE)[0, 1] > 0.999


def test_the_scale_of_integers_shows_late(tmp_path: Path) -> None:
    faint = 0.5 * np.random.default_rng(0).standard_normal(16_000 * 25).astype(np.float32)
    samples = np.concatenate([faint, VOICE * 2**15])
    sound, _, said = heard(write(tmp_path / "a.wav", samples, subtype="FLOAT"))
    assert said == ["scale_int16"]
    assert sound[-len(VOICE) :] == pytest.approx(VOICE, abs=1e-4)


def test_broken_samples_are_no_scale(tmp_path: Path) -> None:
    samples = VOICE.copy()
    samples[[10, 5_000, 100_000]] = [1e5, 1e12, np.nan]
    sound, _, said = heard(write(tmp_path / "a.wav", samples, subtype="FLOAT"))
    assert said == []
    assert np.array_equal(sound[5_001:100_000], VOICE[5_001:100_000])


def test_a_second_of_broken_samples_in_a_minute_is_no_scale(tmp_path: Path) -> None:
    samples = np.tile(VOICE, 6)
    for second in range(15):
        samples[second * 16_000] = 1e6
    sound, _, said = heard(write(tmp_path / "a.wav", samples, subtype="FLOAT"))
    assert said == []
    assert np.array_equal(sound[-len(VOICE) :], VOICE)


def test_a_cut_quiet_file_gives_its_first_part(tmp_path: Path) -> None:
    sound, error, said = heard(cut(scaled(tmp_path / "a.wav", 1e-3)))
    assert error.startswith("breaks off at 6.0 s")
    assert said[0].startswith("quiet_sound")
    assert len(sound) / 16_000 == pytest.approx(6, abs=0.1)


@pytest.mark.parametrize("decided", [0, 3])
def test_what_is_long_is_read_twice_and_kept_only_once(
    decided: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(levels, "_HELD", 320_000)
    blocks = [VOICE * np.float32(1e-3)] * 3 + [VOICE] * decided + [VOICE * np.float32(1e-3)]
    begun, ticks, said = [], [], list[str]()

    def reading(warn: object) -> Iterator[MonoBlock]:
        begun.append(warn)
        yield from ((16_000, block) for block in blocks)
        raise MediaError("the end")

    sound = []
    with pytest.raises(MediaError, match="the end"):
        sound.extend(levelled(reading, said.append, lambda: ticks.append(1)))
    assert len(begun) == 2 and len(ticks) == (4 if decided else len(blocks))
    assert len(sound) == len(blocks)
    louder = 1.0 if decided else pytest.approx(10 ** ((-25 + 74) / 20), rel=0.3)
    assert rms(sound[0][1]) / rms(blocks[0]) == louder
    assert len(said) == (0 if decided else 1)


def test_the_meter_takes_no_more_room_for_more_sound() -> None:
    meter = Meter()
    for _ in range(50):
        meter.add(16_000, VOICE)
    assert meter.seconds == pytest.approx(600)
    assert meter.loud() == pytest.approx(20 * np.log10(rms(tone(1))), abs=1.5)
    assert meter.spoken() == pytest.approx(300, rel=0.2)
    assert Meter().loud() == -130
