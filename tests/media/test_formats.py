"""Every container comes out as mono float32 at the rate asked for, and sounds as it went in."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.media.blocks import BLOCK_SECONDS
from core.media.decode import decode, probe_duration
from core.media.discover import discover

from .sounds import FORMATS, Samples, hertz_of, rms, tone, write, write_av

LOSSLESS = {"wav", "flac", "aiff", "caf", "au", "w64", "rf64"}


def sound_of(path: Path, rate: int = 16_000) -> Samples:
    return np.concatenate([np.zeros(0, np.float32), *decode(path, rate)])


@pytest.mark.parametrize("kind", FORMATS)
def test_round_trip_keeps_length_pitch_and_loudness(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a.{kind}", tone(4, 48_000), 48_000)
    sound = sound_of(path)
    tolerance = 2 if kind in LOSSLESS or kind in ("ogg", "mp3") else 1600  # priming, padding
    assert sound.dtype == np.float32
    assert abs(len(sound) - 4 * 16_000) <= tolerance
    middle = sound[16_000:-16_000]
    assert hertz_of(middle) == pytest.approx(440, abs=0.5)
    assert rms(middle) == pytest.approx(0.3 / np.sqrt(2), rel=0.08)  # lame takes 5 %


@pytest.mark.parametrize("kind", [k for k in FORMATS if k not in ("aac", "avi")])
def test_probe_tells_the_duration(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a.{kind}", tone(3, 48_000), 48_000)
    assert probe_duration(path) == pytest.approx(3, abs=0.06)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 32_000, 44_100, 96_000])
@pytest.mark.parametrize("seconds", [0.01, 1.234, 23.0])
def test_no_sample_is_lost_in_the_resampler(rate: int, seconds: float, tmp_path: Path) -> None:
    samples = tone(seconds, rate)
    path = write(tmp_path / "a.wav", samples, rate)
    assert abs(len(sound_of(path)) - round(len(samples) * 16_000 / rate)) <= 1


def test_the_same_rate_is_passed_through_exactly(tmp_path: Path) -> None:
    samples = tone(1.5)
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    assert np.array_equal(sound_of(path), samples)


def test_an_event_keeps_its_place_through_the_resampler(tmp_path: Path) -> None:
    samples = np.zeros(44_100 * 25, np.float32)
    samples[44_100 * 21 :] = tone(4, 44_100)
    sound = sound_of(write(tmp_path / "a.flac", samples, 44_100))
    onset = int(np.argmax(np.abs(sound) > 0.05))
    assert onset == pytest.approx(21 * 16_000, abs=20)


@pytest.mark.parametrize("kind", ["wav", "flac"])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "FLOAT", "MS_ADPCM"])
def test_every_sample_type_is_scaled_to_one(kind: str, subtype: str, tmp_path: Path) -> None:
    if subtype not in soundfile.available_subtypes(kind.upper()):
        pytest.skip(f"{kind} has no {subtype}")
    path = write(tmp_path / f"a.{kind}", tone(2), subtype=subtype)
    sound = sound_of(path)
    assert rms(sound[1000:30_000]) == pytest.approx(0.3 / np.sqrt(2), rel=0.03)
    assert abs(float(sound.mean())) < 0.005


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_sample_types_inside_a_video_container(codec: str, tmp_path: Path) -> None:
    sound = sound_of(write_av(tmp_path / "a.mkv", tone(2), 16_000, codec, "matroska"))
    assert sound[1000:30_000] == pytest.approx(tone(2)[1000:30_000], abs=0.006)
    assert abs(float(sound.mean())) < 0.005


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "caf"])
def test_channels_are_averaged(kind: str, tmp_path: Path) -> None:
    loud = tone(2)
    channels = np.stack([loud] + [np.zeros_like(loud)] * 7, axis=1)
    sound = sound_of(write(tmp_path / f"a.{kind}", channels))
    assert rms(sound[1000:30_000]) == pytest.approx(0.3 / np.sqrt(2) / 8, rel=0.05)


@pytest.mark.parametrize("kind", ["wav", "m4a", "flac"])
def test_blocks_are_small(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a.{kind}", tone(25))
    sizes = [len(block) for block in decode(path)]
    assert len(sizes) >= 3
    assert max(sizes) <= 1.1 * BLOCK_SECONDS * 16_000


def test_many_channels_at_a_high_rate_come_in_smaller_blocks(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.zeros((96_000 * 8, 8), np.float32), 96_000)
    assert max(len(block) for block in decode(path)) < 6 * 16_000


@pytest.mark.parametrize("kind", ["flac", "opus", "m4a", "wav", "mp3"])
@pytest.mark.parametrize("claimed", ["wav", "mp3", "raw", "txt"])
def test_the_content_counts_and_not_the_name(kind: str, claimed: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a.{kind}", tone(2, 48_000), 48_000)
    path = path.rename(path.with_suffix(f".{claimed}"))
    assert hertz_of(sound_of(path)[1000:30_000]) == pytest.approx(440, abs=1)


@pytest.mark.parametrize("kind", ["wav", "m4a"])
@pytest.mark.parametrize(
    "name", ["with space 'and' \"quotes\"", "-dash", "12:30", "Привет 世界", "a%20b#c?", "é\udcff"]
)
def test_odd_names_are_opened(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.rename(write(Path(f"plain.{kind}"), tone(1)), os.fsencode(f"{name}.{kind}"))
    assert len(sound_of(Path(f"{name}.{kind}"))) >= 16_000


def test_non_finite_and_absurd_samples_become_silence(tmp_path: Path) -> None:
    samples = tone(1)
    samples[100:104] = [np.nan, np.inf, -np.inf, 1e30]
    sound = sound_of(write(tmp_path / "a.wav", samples, subtype="FLOAT"))
    assert list(sound[100:104]) == [0, 0, 0, 0]
    assert np.array_equal(sound[104:], samples[104:])


@pytest.mark.parametrize("size", [0, 1, 2])
@pytest.mark.parametrize("kind", ["wav", "au", "aiff"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_no_or_hardly_any_samples_are_no_error(
    size: int, kind: str, rate: int, tmp_path: Path
) -> None:
    path = write(tmp_path / f"a.{kind}", np.zeros(size, np.float32), rate)
    assert len(sound_of(path)) <= 2


def test_a_wav_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(2))
    whole = path.read_bytes()
    place = whole.index(b"data") + 4
    for size in (0, 0x7FFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFDB):  # as recorders and pipes leave it
        path.write_bytes(whole[:place] + struct.pack("<I", size) + whole[place + 4 :])
        assert len(sound_of(path)) == 32_000


def test_the_sound_of_a_video_is_taken(tmp_path: Path) -> None:
    path = write_av(tmp_path / "a.mp4", tone(3), 16_000, "aac", "mp4", video_seconds=3)
    assert hertz_of(sound_of(path)[4000:40_000]) == pytest.approx(440, abs=1)


def test_sound_that_starts_after_the_picture_keeps_its_time(tmp_path: Path) -> None:
    path = write_av(tmp_path / "a.mp4", tone(2), 16_000, "aac", "mp4", video_seconds=13, delay=11.0)
    said: list[str] = []
    sound = np.concatenate(list(decode(path, warn=said.append)))
    assert int(np.argmax(np.abs(sound) > 0.1)) == pytest.approx(11 * 16_000, abs=800)
    assert said[0].endswith("s without sound data, filled with silence")


def test_files_put_together_are_read_as_one(tmp_path: Path) -> None:
    for kind in ("mp3", "flac", "opus", "aac"):
        path = write(tmp_path / f"a.{kind}", tone(2, 48_000), 48_000)
        path.write_bytes(path.read_bytes() * 2)
        assert len(sound_of(path)) == pytest.approx(64_000, abs=3200), kind


def test_a_rate_that_changes_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", tone(1))
    native = [(8_000, tone(2, 8_000)), (44_100, tone(2, 44_100)), (16_000, tone(2))]
    blocks = [(rate, samples[None]) for rate, samples in native]
    monkeypatch.setattr("core.media.decode.read_pcm", lambda part: iter(blocks))
    sound = sound_of(path)
    assert len(sound) == pytest.approx(6 * 16_000, abs=3)
    for second in (1, 3, 5):
        middle = sound[second * 16_000 - 8_000 : second * 16_000 + 8_000]
        assert hertz_of(middle) == pytest.approx(440, abs=1)


def test_tags_around_an_mp3_are_no_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3", tone(2))
    tag = b"ID3\x04\x00\x00\x00\x00\x02\x00" + b"\0" * 256  # 2 * 128 bytes
    tail = b"APETAGEX" + bytes(range(256)) + b"TAG" + b"x" * 125
    path.write_bytes(tag + path.read_bytes() + tail)
    assert len(sound_of(path)) == pytest.approx(32_000, abs=1200)


def test_tags_in_an_old_code_page_do_no_harm(tmp_path: Path) -> None:
    path = write_av(tmp_path / "a.mkv", tone(1), 16_000, "aac", "matroska", title="caf##")
    path.write_bytes(path.read_bytes().replace(b"caf##", b"caf\xe9 "))
    assert len(sound_of(path)) == pytest.approx(16_000, abs=1100)


def test_a_live_recording_without_declared_length_is_no_damage(tmp_path: Path) -> None:
    path = write_av(
        tmp_path / "a.webm", tone(2, 48_000), 48_000, "libopus", "webm", options={"live": "1"}
    )
    assert len(sound_of(path)) == pytest.approx(32_000, abs=400)


def test_another_rate_can_be_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(2))
    assert hertz_of(sound_of(path, 24_000), 24_000) == pytest.approx(440, abs=1)


def test_what_phones_and_broadcasters_write_is_found_and_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.gsm", tone(2, 8_000), 8_000, format="RAW", subtype="GSM610")
    os.rename(write(tmp_path / "a.wav", tone(2)), tmp_path / "b.bwf")
    os.rename(write(tmp_path / "a.ogg", tone(2)), tmp_path / "c.ogx")
    (tmp_path / "d.ra").write_bytes(b".ra\xfd")
    found = list(discover([str(tmp_path)]))
    assert [one.id for one in found] == ["a.gsm", "b.bwf", "c.ogx", "d.ra"]
    for one in found[:3]:
        assert hertz_of(sound_of(one.path)[1000:30_000]) == pytest.approx(440, abs=1)
