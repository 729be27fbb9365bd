"""Bad files end in one clear MediaError, after all that can be decoded."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.errors import MediaError
from core.media.decode import decode, probe_duration

from .sounds import Samples, cut, garble, hertz_of, tone, write, write_av

LENGTH = 10.0
# formats whose time stamps tell where a hole is; the others get shorter
TIMED = ("flac", "ogg", "opus", "m4a", "mkv")


def busy(rate: int) -> Samples:
    """A tone in noise: it does not compress away, so containers have many pages."""
    noise = np.random.default_rng(0).standard_normal(round(LENGTH * rate))
    return tone(LENGTH, rate) + (0.1 * noise).astype(np.float32)


def read(path: Path, warn: Callable[[str], None] | None = None) -> tuple[Samples, str]:
    """What came before the error, and the error's text ('' if none)."""
    blocks = [np.zeros(0, np.float32)]
    try:
        blocks.extend(decode(path, warn=warn))
    except MediaError as error:
        return np.concatenate(blocks), str(error)
    return np.concatenate(blocks), ""


@pytest.mark.parametrize(
    "kind",
    [
        "wav",
        "aiff",
        "caf",
        "au",
        "w64",
        "rf64",
        "flac",
        "mp3",
        "aac",
        "ogg",
        "opus",
        "webm",
        "mkv",
        "wma",
    ],
)
def test_a_cut_off_file_gives_its_first_part_and_says_where_it_ends(
    kind: str, tmp_path: Path
) -> None:
    rate = 48_000 if kind in ("opus", "webm") else 16_000
    sound, error = read(cut(write(tmp_path / f"a.{kind}", busy(rate), rate)))
    seconds = len(sound) / 16_000
    assert 3 < seconds < 5.5  # half the bytes; vorbis ends in pages of several seconds
    assert error.startswith(f"breaks off at {seconds:.1f} s")
    assert hertz_of(sound) == pytest.approx(440, abs=1)
    assert np.abs(sound[-1600:]).max() > 0.2  # no silence made up in place of the rest


def test_an_mp4_cut_behind_its_index_gives_its_first_part(tmp_path: Path) -> None:
    path = write_av(
        tmp_path / "a.m4a", tone(LENGTH), 16_000, "aac", "ipod", options={"movflags": "faststart"}
    )
    sound, error = read(cut(path))
    assert len(sound) / 16_000 == pytest.approx(5, abs=1)
    assert error.endswith("s of 10.0 s")


def test_a_little_missing_at_the_end_is_noticed_too(tmp_path: Path) -> None:
    for kind in ("wav", "flac"):
        path = write(tmp_path / f"a.{kind}", tone(LENGTH, 44_100), 44_100)
        assert "breaks off at 9." in read(cut(path, 0.97))[1], kind


def test_a_cut_wav_of_compressed_sound_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(LENGTH), subtype="MS_ADPCM")
    assert "breaks off at 5.0 s" in read(cut(path))[1]


def test_an_mp4_without_its_index_says_so(tmp_path: Path) -> None:
    sound, error = read(cut(write(tmp_path / "a.m4a", tone(LENGTH))))
    assert not len(sound)
    assert error == "breaks off before its index (moov): copy it again"


@pytest.mark.parametrize("kind", [*TIMED, "mp3", "aac"])
def test_damage_in_the_middle_is_passed_over_and_told(kind: str, tmp_path: Path) -> None:
    rate = 48_000 if kind == "opus" else 16_000
    said: list[str] = []
    sound, error = read(garble(write(tmp_path / f"a.{kind}", busy(rate), rate)), said.append)
    if kind == "opus":  # whose holes may be left-out silence
        assert error == "" and said[0].endswith("s without sound data, filled with silence")
    else:
        assert error.startswith("damaged: ") and not said
    assert len(sound) / 16_000 == pytest.approx(LENGTH, abs=0.1 if kind in TIMED else 1)
    assert hertz_of(sound[-48_000:]) == pytest.approx(440, abs=1)


def test_what_follows_the_damage_keeps_its_time(tmp_path: Path) -> None:
    for kind in TIMED:
        rate = 48_000 if kind == "opus" else 16_000
        samples = busy(rate)
        samples[rate * 8 :] = 0
        sound, _ = read(garble(write(tmp_path / f"a.{kind}", samples, rate), 0.3, 0.32))
        last = len(sound) - int(np.argmax(np.abs(sound[::-1]) > 0.1))
        assert last / 16_000 == pytest.approx(8, abs=0.15), kind


@pytest.mark.parametrize("kind", ["wav", "mp3", "m4a", "flac", "ogg"])
def test_what_is_no_sound_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, 50_000).astype(np.uint8).tobytes()
    path = tmp_path / f"a.{kind}"
    for content in (noise, b"Dear diary,\n" * 2000, b"short", b"\0" * 50_000, b"RIFF"):
        path.write_bytes(content)
        sound, error = read(path)
        assert not len(sound)
        assert error and "\n" not in error
        assert str(tmp_path) not in error
        assert probe_duration(path) is None


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["a.wav", "a.m3u8"])
def test_a_live_playlist_is_refused_instead_of_waited_for(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n")
    assert read(path)[1].startswith("not a readable audio or video file")


@pytest.mark.parametrize(("kind", "container"), [("mkv", "matroska"), ("m4a", "ipod")])
def test_an_unreadable_end_is_noticed(kind: str, container: str, tmp_path: Path) -> None:
    index_first = {"movflags": "faststart"} if kind == "m4a" else {}
    path = write_av(
        tmp_path / f"a.{kind}", busy(16_000), 16_000, "aac", container, options=index_first
    )
    sound, error = read(garble(path, 0.8, 1.0))
    assert error
    assert len(sound) / 16_000 > 7


def test_a_cut_mp3_behind_a_large_tag_is_noticed(tmp_path: Path) -> None:
    path = cut(write(tmp_path / "a.mp3", busy(16_000)))
    tag = b"ID3\x04\x00\x00\x00\x00\x20\x00" + bytes(4096)  # 0x20 << 7 bytes
    path.write_bytes(tag + path.read_bytes())
    assert read(path)[1].startswith("breaks off at 4.")


def test_a_video_without_sound_says_so(tmp_path: Path) -> None:
    nothing = np.zeros(0, np.float32)
    path = write_av(tmp_path / "a.mp4", nothing, 16_000, "aac", "mp4", video_seconds=1)
    assert read(path)[1] == "a video without an audio track"


def test_an_empty_file_a_folder_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.mp3").touch()
    assert read(tmp_path / "empty.mp3")[1] == "an empty file"
    assert read(tmp_path)[1] == "a folder, not a recording"
    assert read(tmp_path / "missing.wav")[1] == "no such file"
    assert read(Path("nul\0in the name"))[1]


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    assert read(tmp_path / "pipe.wav")[1].startswith("not a regular file")


def test_a_locked_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", tone(1))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # the tests may run as root, whom no mode stops
    monkeypatch.setattr("core.media.parts.Watched", refuse)
    assert read(path)[1] == "no permission to read it"


def test_a_file_that_cannot_be_read_any_more_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    path = write(tmp_path / "a.wav", tone(1))
    monkeypatch.setattr(Path, "open", gone)
    assert read(path)[1] == "cannot be read: Input/output error"


@pytest.mark.parametrize("rate", [3, 2_000_000, 0xFFFF_FFF0])
def test_an_impossible_header_does_not_fill_the_memory(rate: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1))
    data = bytearray(path.read_bytes())
    data[24:28] = rate.to_bytes(4, "little")  # the sample rate
    path.write_bytes(data)
    sound, error = read(path)
    assert not len(sound)
    assert error


def test_more_sound_than_a_file_can_hold_is_a_header_that_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.flac", tone(30))
    monkeypatch.setattr("core.media.decode._SECONDS_FREE", 15.0)
    monkeypatch.setattr("core.media.decode._SECONDS_PER_BYTE", 0.0)
    sound, error = read(path)
    assert 10 <= len(sound) / 16_000 <= 15
    assert error == "breaks off at 20 s: its header is damaged"
    monkeypatch.setattr("core.media.decode._LONGEST", 15.0)
    assert read(path)[1] == "breaks off at 20 s: more than 100 hours: cut it"


def test_the_libraries_keep_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for kind in ("mp3", "flac", "m4a", "ogg", "wav", "aac"):
        path = write(tmp_path / f"a.{kind}", tone(3))
        read(garble(path))
        read(cut(path))
    assert capfd.readouterr() == ("", "")


def test_a_decoder_that_is_left_alone_closes_its_file(tmp_path: Path) -> None:
    for kind in ("wav", "m4a"):
        path = write(tmp_path / f"a.{kind}", tone(12))
        open_before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        blocks = decode(path)
        next(blocks)
        blocks.close()  # type: ignore[attr-defined]
        if open_before:
            assert len(os.listdir("/proc/self/fd")) == open_before
