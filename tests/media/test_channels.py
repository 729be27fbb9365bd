"""Channels that cancel each other out are heard all the same; one alone where it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.media.apart import count_channels_apart
from core.media.blocks import mono
from core.media.decode import decode
from core.media.listening import Listening
from core.media.split import by_channel
from core.records import Recording

from .reading import read
from .sounds import Samples, hertz_of, rms, speech, tone, write, write_av

NOISE = 0.005 * np.random.default_rng(0).standard_normal((96_000, 2)).astype(np.float32)
VOICE = speech(6)


def heard(path: Path, channels: str = "mix") -> tuple[Samples, str, list[str]]:
    said: list[str] = []
    sound, error = read(path, said.append, Listening(channels=channels))
    return sound, error, said


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3", "m4a"])
@pytest.mark.parametrize("weight", [-1.0, -0.8, -1.25])
def test_antiphase_channels_do_not_cancel_out(kind: str, weight: float, tmp_path: Path) -> None:
    stereo = np.stack([VOICE, VOICE * np.float32(weight)], axis=1) / 2
    if kind == "m4a":
        path = stereo_av(tmp_path / "a.m4a", stereo)
    else:
        path = write(tmp_path / f"a.{kind}", stereo)
    sound, error, said = heard(path)
    assert (error, said) == ("", ["antiphase_channels"])
    assert rms(sound[2000:90_000]) >= 0.9 * rms(VOICE[2000:90_000]) / 2
    assert hertz_of(sound) == pytest.approx(440, abs=3)


def stereo_av(path: Path, stereo: Samples) -> Path:
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16_000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(stereo.T), "fltp", "stereo")
        frame.sample_rate = 16_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_antiphase_in_noise_and_from_the_middle_on(tmp_path: Path) -> None:
    stereo = np.stack([VOICE, VOICE], axis=1) + NOISE
    stereo[50_000:, 1] *= -1
    sound, error, said = heard(write(tmp_path / "a.wav", stereo, subtype="FLOAT"))
    assert (error, said) == ("", ["antiphase_channels"])
    assert np.array_equal(sound[:49_600], mono(stereo.T[:, :49_600]))
    assert min(rms(sound[51_200:] - stereo[51_200:, number]) for number in (0, 1)) < 0.01


@pytest.mark.parametrize(
    "stereo",
    [
        np.stack([VOICE, VOICE], axis=1),
        np.stack([VOICE, 0 * VOICE], axis=1),
        np.stack([VOICE, tone(6, hertz=600)], axis=1),
        np.stack([VOICE, VOICE, -VOICE, 0.1 * VOICE], axis=1),
        NOISE,
        np.stack([VOICE] + [0 * VOICE] * 7, axis=1),
    ],
    ids=["same", "one-sided", "two", "some", "noise", "one-of-eight"],
)
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_other_channels_are_averaged_as_ever(stereo: Samples, subtype: str, tmp_path: Path) -> None:
    import soundfile

    path = write(tmp_path / "a.wav", stereo, subtype=subtype)
    exact = soundfile.read(path, dtype="float32")[0].mean(axis=1, dtype=np.float32)
    sound, error, said = heard(path)
    assert (error, said) == ("", [])
    assert np.array_equal(sound, exact)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3"])
def test_one_channel_alone(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a.{kind}", np.stack([VOICE, tone(6, hertz=700)], axis=1))
    for number, hertz in (("1", 440), ("2", 700)):
        sound, error, _ = heard(path, number)
        assert error == ""
        assert hertz_of(sound[2000:-2000]) == pytest.approx(hertz, abs=3)
    assert heard(path, "3") == (
        pytest.approx([]),
        "no channel 3: it has 2; leave out --channels",
        [],
    )


def test_a_channel_of_a_video_that_starts_late_and_turns_mono(tmp_path: Path) -> None:
    path = write_av(tmp_path / "a.mp4", tone(2), 16_000, "aac", "mp4", video_seconds=13, delay=11.0)
    assert heard(path, "2")[1].startswith("no channel 2")
    assert len(heard(path, "1")[0]) / 16_000 == pytest.approx(13, abs=0.2)
    one = stereo_av(tmp_path / "1.aac", np.stack([VOICE, VOICE], axis=1))
    two = write(tmp_path / "2.aac", tone(3, hertz=700))
    one.write_bytes(one.read_bytes() + two.read_bytes())
    sound, error, _ = heard(one, "2")
    assert error == ""
    assert hertz_of(sound[-30_000:-3000]) == pytest.approx(700, abs=3)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_the_best_channel_is_the_one_that_speaks(at: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    channels = 0.2 * rng.standard_normal((4, 96_000)).astype(np.float32)  # louder, but steady
    channels[at] = 0.3 * VOICE
    sound, error, _ = heard(write(tmp_path / "a.wav", channels.T, subtype="FLOAT"), "best")
    assert error == ""
    assert sound == pytest.approx(0.3 * VOICE, abs=1e-6)


def test_best_of_a_mono_file_is_that(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", VOICE)
    assert np.array_equal(heard(path, "best")[0], np.concatenate(list(decode(path))))


@pytest.mark.usefixtures("fresh_decoders")
def test_each_channel_a_recording_of_its_own(tmp_path: Path) -> None:
    stereo = write(tmp_path / "call.wav", np.stack([VOICE, tone(6, hertz=700)], axis=1))
    plain = write(tmp_path / "plain.wav", VOICE)
    (tmp_path / "bad.wav").write_bytes(b"no sound at all")
    found = [
        Recording("a/call.wav", stereo),
        Recording("plain.wav", plain),
        Recording("bad.wav", tmp_path / "bad.wav"),
        Recording("gone.wav", tmp_path / "gone.wav", error="no such file"),
    ]
    split = list(by_channel(found, "auto"))
    assert [(one.id, one.channel) for one in split] == [
        ("a/call#1.wav", 1),
        ("a/call#2.wav", 2),
        ("plain.wav", None),
        ("bad.wav", None),
        ("gone.wav", None),
    ]
    assert count_channels_apart(stereo, Listening("1")) == 2
