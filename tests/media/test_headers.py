"""Headers are claims: what a file holds is read, whatever its header says of it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.media.decode import decode, probe_duration
from core.media.parts import parts_of
from core.media.pcm import pcm_duration
from core.media.stretch import Part

from .reading import read
from .sounds import Samples, cut, garble, hertz_of, tone, write, write_av

# where each container says how many bytes of samples follow: a name, bytes behind it, how, and
# what counts too
SIZES = {
    "wav": (b"data", 0, "<I", 0),
    "aiff": (b"SSND", 0, ">I", 8),
    "caf": (b"data", 0, ">Q", 4),
    "w64": (b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", 0, "<Q", 24),
    "rf64": (b"ds64", 12, "<Q", 0),
    "au": (b".snd", 4, ">I", 0),
}
UNKNOWN = {"wav": 0xFFFF_FFFF, "aiff": 0, "caf": 2**63 - 1, "w64": 0, "rf64": 0, "au": 2**32 - 1}
EXACT = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


def claim(path: Path, size: int) -> None:
    """Let a header say that so many bytes of samples follow."""
    name, behind, kind, more = SIZES[path.suffix[1:]]
    data = bytearray(path.read_bytes())
    at = data.index(name) + len(name) + behind
    most = 2 ** (8 * struct.calcsize(kind))
    data[at : at + struct.calcsize(kind)] = struct.pack(kind, (size + more) % most)
    path.write_bytes(data)


def pcm(path: Path, seconds: float, hertz: float = 440.0) -> Samples:
    """Write 16-bit sound; what is read back of it."""
    write(path, tone(seconds, hertz=hertz), subtype="PCM_16")
    return read(path)[0]


@pytest.mark.parametrize("kind", SIZES)
@EXACT
@given(share=st.floats(0.0, 0.99), seconds=st.floats(0.5, 3.0))
def test_sound_behind_a_stale_header_is_read(
    kind: str, share: float, seconds: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("stale") / f"a.{kind}"
    whole = pcm(path, seconds)
    claim(path, int(len(whole) * share) * 2)
    sound, error = read(path)
    assert error == ""
    assert np.array_equal(sound, whole)
    assert probe_duration(path) == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize("kind", SIZES)
def test_sound_of_unknown_length_is_read_to_its_end(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    whole = pcm(path, 2)
    claim(path, UNKNOWN[kind] - SIZES[kind][3])
    sound, error = read(path)
    assert error == ""
    assert np.array_equal(sound, whole)


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]
)
@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_a_stale_header_of_any_sample_type(subtype: str, endian: str, tmp_path: Path) -> None:
    import soundfile

    path = tmp_path / "a.wav"  # RIFX, where big-endian
    stereo = np.stack([tone(1), tone(1, hertz=600)], axis=1)
    soundfile.write(path, stereo, 16_000, subtype=subtype, endian=endian)
    whole = read(path)[0]
    assert hertz_of(whole[:8000]) == pytest.approx(440, abs=3)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I" if endian == "LITTLE" else ">I", 1000)
    path.write_bytes(data)
    sound, error = read(path)
    assert error == ""
    assert np.array_equal(sound, whole)


def test_a_stale_header_of_compressed_sound(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(4), subtype="MS_ADPCM")
    whole = read(path)[0]
    claim(path, 8192)
    sound, error = read(path)
    assert error == ""
    assert len(sound) == pytest.approx(len(whole), abs=1000)


@pytest.mark.parametrize("kind", SIZES)
@EXACT
@given(share=st.floats(0.1, 0.9))
def test_what_is_cut_is_still_seen(
    kind: str, share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cut") / f"a.{kind}"
    whole = pcm(path, 3)
    sound, error = read(cut(path, share))
    assert error.startswith(f"breaks off at {len(sound) / 16_000:.1f} s")
    assert np.array_equal(sound, whole[: len(sound)])


@pytest.mark.parametrize(
    "more",
    [
        b"LIST" + struct.pack("<I", 2000) + b"INFOISFT" + bytes(range(256)) * 8,
        b"odd!" + struct.pack("<I", 1000) + bytes(range(250)) * 4,
        b"TAG" + b"a title" + bytes(range(118)),
        b"ID3\x04" + bytes(range(256)) * 16,
        bytes(70_000),
        b"<?xml version='1.0'?><sound>made with care</sound>\n" * 40,
    ],
    ids=["list", "odd", "id3v1", "id3v2", "zeros", "text"],
)
@pytest.mark.parametrize("samples", [32_000, 32_001])
def test_what_follows_the_sound_and_is_none_is_no_sound(
    more: bytes, samples: int, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.wav", tone(samples / 16_000), subtype="PCM_U8")
    path.write_bytes(path.read_bytes() + more)
    sound, error = read(path)
    assert (len(sound), error) == (samples, "")


def test_packed_bytes_behind_the_sound_are_told_and_not_heard(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(2))
    path.write_bytes(path.read_bytes() + np.random.default_rng(0).bytes(100_000))
    said: list[str] = []
    sound, error = read(path, said.append)
    assert (len(sound), error) == (32_000, "")
    assert said == ["100000 bytes behind its sound are none, passed over"]


@pytest.mark.parametrize("claimed", [0, 0xFFFF_FFFF, (4 << 30) + 3_000_000, 44_100])
def test_more_than_4_gib_is_read_to_its_end(claimed: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1), subtype="PCM_16")
    claim(path, claimed % 2**32)
    sound, head = path.read_bytes()[44:], path.read_bytes()[:44]
    size = (4 << 30) + 3_000_000
    with path.open("wb") as file:  # a hole between sound and sound, which takes no room
        file.write(head + sound)
        file.seek(44 + size - len(sound))
        file.write(sound)
    (part,) = parts_of(path, lambda text: None)
    assert part == Part(path, 0, 44 + size, on=True)
    assert pcm_duration(part) == size / 32_000


def joined(*kinds: str) -> Callable[..., object]:
    return pytest.mark.parametrize("kind", kinds)


@joined(
    "wav",
    "aiff",
    "caf",
    "au",
    "w64",
    "rf64",
    "flac",
    "ogg",
    "opus",
    "webm",
    "mkv",
    "m4a",
    "mov",
    "wma",
)
@EXACT
@given(lengths=st.lists(st.floats(0.5, 2.5), min_size=2, max_size=3))
def test_files_put_together_are_heard_one_after_the_other(
    kind: str, lengths: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("joined")
    paths = [
        write(folder / f"{number}.{kind}", tone(seconds, hertz=440 + 100 * number))
        for number, seconds in enumerate(lengths)
    ]
    apart = [read(path)[0] for path in paths]
    together = folder / f"all.{kind}"
    together.write_bytes(b"".join(path.read_bytes() for path in paths))
    sound, error = read(together)
    assert error == ""
    assert len(sound) == pytest.approx(sum(map(len, apart)), abs=2)
    # of opus, which is always 48 kHz, one resampler hears all of them
    tolerance = 0.05 if kind in ("opus", "webm") else 0.0
    size = min(len(sound), sum(map(len, apart)))
    assert np.abs(sound[:size] - np.concatenate(apart)[:size]).max() <= tolerance


@joined("aac", "mp3", "avi", "ts", "flac", "ogg", "mkv", "wav", "m4a")
@pytest.mark.parametrize("rates", [(16_000, 44_100), (44_100, 16_000), (48_000, 8_000)])
def test_rates_and_channels_may_change_on_the_way(
    kind: str, rates: tuple[int, int], tmp_path: Path
) -> None:
    parts = []
    for number, rate in enumerate(rates):
        path = tmp_path / f"{number}.{kind}"
        sound = tone(3, rate, hertz=440 + 200 * number)
        if kind == "ts":
            write_av(path, sound, rate, "aac", "mpegts")
        else:
            write(path, sound, rate)
        parts.append(path.read_bytes())
    together = tmp_path / f"all.{kind}"
    together.write_bytes(b"".join(parts))
    sound, error = read(together)
    assert error == ""
    assert len(sound) / 16_000 == pytest.approx(6, abs=0.4)
    assert hertz_of(sound[8000:40_000]) == pytest.approx(440, abs=2)
    assert hertz_of(sound[-40_000:-8000]) == pytest.approx(640, abs=2)


@pytest.mark.parametrize("died", [0, 0xFFFF_FFFF, 0x7FFF_FFFF])
def test_a_recorder_that_starts_anew_in_its_own_file(died: int, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.wav" for number in range(3)]
    apart = [pcm(path, 1.5, 440 + 100 * number) for number, path in enumerate(paths)]
    for path in paths:
        claim(path, died)
    together = tmp_path / "all.wav"
    together.write_bytes(b"".join(path.read_bytes() for path in paths))
    sound, error = read(together)
    assert error == ""
    assert np.array_equal(sound, np.concatenate(apart))


@joined("wav", "ogg", "flac", "mkv")
def test_a_part_that_is_cut_is_told_when_all_is_heard(kind: str, tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(160_000).astype(np.float32)
    first = cut(write(tmp_path / f"a.{kind}", tone(10) + noise), 0.6)
    second = write(tmp_path / f"b.{kind}", tone(3, hertz=660))
    together = tmp_path / f"all.{kind}"
    together.write_bytes(first.read_bytes() + second.read_bytes())
    sound, error = read(together)
    assert "breaks off" in error or "damaged" in error
    assert len(sound) / 16_000 > 7
    assert hertz_of(sound[-30_000:]) == pytest.approx(660, abs=2)


def split(path: Path, folder: Path, seconds: int) -> list[Path]:
    """The parts of a file as FFmpeg splits it: each goes on counting where the last ended."""
    import av

    kind = path.suffix
    with (
        av.open(str(path)) as source,
        av.open(
            str(folder / f"p%02d{kind}"),
            "w",
            format="segment",
            options={"segment_time": str(seconds)},
        ) as out,
    ):
        inner = source.streams.audio[0]
        stream = out.add_stream_from_template(inner)
        for packet in source.demux(inner):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return sorted(folder.glob(f"p*{kind}"))


@joined("webm", "mkv", "mp4", "mov", "ogg", "flac", "mp3", "ts", "wav", "avi", "wma")
@pytest.mark.parametrize("length", [25.0, 33.3])
def test_the_parts_of_a_split_file_are_whole(kind: str, length: float, tmp_path: Path) -> None:
    rate = 48_000 if kind == "webm" else 16_000
    path = tmp_path / f"a.{kind}"
    if kind == "ts":
        write_av(path, tone(length, rate), rate, "aac", "mpegts")
    else:
        write(path, tone(length, rate), rate)
    (tmp_path / "parts").mkdir()
    found = split(path, tmp_path / "parts", 10)
    assert len(found) >= 3
    heard = [read(part) for part in found]
    assert [error for _, error in heard] == [""] * len(found)
    assert sum(len(sound) for sound, _ in heard) / 16_000 == pytest.approx(length, abs=0.5)


@joined("webm", "mkv", "flac")
def test_a_cut_part_of_a_split_file_is_seen(kind: str, tmp_path: Path) -> None:
    rate = 48_000 if kind == "webm" else 16_000
    noise = 0.1 * np.random.default_rng(0).standard_normal(35 * rate).astype(np.float32)
    path = write(tmp_path / f"a.{kind}", tone(35, rate) + noise, rate)
    (tmp_path / "parts").mkdir()
    last = split(path, tmp_path / "parts", 10)[-1]
    whole = read(last)[0]
    sound, error = read(cut(last, 0.5))
    assert error.startswith("breaks off")
    assert 0 < len(sound) < len(whole)


@pytest.mark.parametrize("factor", [0.2, 7.0])
@joined("m4a", "mkv")
def test_a_duration_that_is_wrong_is_no_damage(kind: str, factor: float, tmp_path: Path) -> None:
    path = write(tmp_path / f"a.{kind}", tone(8))
    whole = read(path)[0]
    data = bytearray(path.read_bytes())
    if kind == "m4a":
        for box, offset in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20)):
            at = data.index(box) + 4 + offset
            value = int(int.from_bytes(data[at : at + 4]) * factor)
            data[at : at + 4] = value.to_bytes(4)
    else:
        at = data.index(b"\x44\x89\x88") + 3
        (value,) = struct.unpack(">d", data[at : at + 8])
        data[at : at + 8] = struct.pack(">d", value * factor)
    path.write_bytes(data)
    sound, error = read(path)
    assert error == ""
    assert np.array_equal(sound, whole)


@pytest.mark.parametrize("length", np.linspace(0.4, 27, 24).tolist())
def test_the_padding_of_an_mp3_is_no_damage(length: float, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3", tone(length, 8_000), 8_000)
    sound, error = read(path)
    assert error == ""
    assert len(sound) / 16_000 == pytest.approx(length, abs=0.15)
    if length > 5:
        assert read(cut(path, 0.8))[1].startswith("breaks off")


def test_a_broken_second_file_costs_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1))
    path.write_bytes(
        path.read_bytes() + b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\x00\x00\x00" + bytes(600)
    )
    sound, error = read(path)
    assert len(sound) == 16_000
    assert error


def test_blocks_of_a_part_are_those_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.m4a", tone(3))
    plain = np.concatenate(list(decode(path)))
    moved = tmp_path / "b.m4a"
    moved.write_bytes(path.read_bytes() * 2)
    first, second = parts_of(moved, lambda text: None)
    assert (first.start, first.end, second.end) == (0, second.start, moved.stat().st_size)
    assert np.array_equal(np.concatenate(list(decode(moved))), np.concatenate([plain, plain]))


@joined("ogg", "opus", "aac", "ac3", "ts", "amr")
@pytest.mark.parametrize(
    "more", [bytes(200_000), b"TAG" + b"a title".ljust(125, b"\0")], ids=["zeros", "id3v1"]
)
def test_padding_behind_a_stream_is_no_damage(kind: str, more: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    codecs = {
        "ac3": ("ac3", "ac3", 48_000),
        "ts": ("aac", "mpegts", 16_000),
        "amr": ("libopencore_amrnb", "amr", 8_000),
    }
    if kind in codecs:
        codec, container, rate = codecs[kind]
        write_av(path, tone(4, rate), rate, codec, container)
    else:
        write(path, tone(4))
    whole, error = read(path)
    assert error == ""
    path.write_bytes(path.read_bytes() + more)
    sound, error = read(path)
    assert error == ""
    assert np.array_equal(sound, whole)


def test_a_flac_that_lost_its_first_frame_is_damaged(tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    whole = bytearray(write(tmp_path / "a.flac", tone(1) + noise).read_bytes())
    first, last = 4, False
    while not last:  # blocks of metadata
        last = bool(whole[first] & 0x80)
        first += 4 + int.from_bytes(whole[first + 1 : first + 4])
    lost = 0
    for offset in range(0, 400, 20):
        data = whole.copy()
        data[first + offset : first + offset + 2] = b"\x00\x7f"
        (tmp_path / "a.flac").write_bytes(data)
        sound, error = read(tmp_path / "a.flac")
        assert error or len(sound) == 16_000
        lost += len(sound) < 16_000
    assert lost


def test_a_cut_flac_of_digital_silence_is_seen(tmp_path: Path) -> None:
    data = write(tmp_path / "a.flac", np.zeros(320_000, np.float32)).read_bytes()
    seen = 0
    for size in range(400, len(data) - 20, 7):
        (tmp_path / "a.flac").write_bytes(data[:size])
        seen += bool(read(tmp_path / "a.flac")[1])
    # a frame takes a dozen bytes here: one cut in so many is between two, and looks like a split
    assert seen > 0.8 * len(range(400, len(data) - 20, 7))


def test_a_wrong_duration_does_not_hide_what_is_lost(tmp_path: Path) -> None:
    path = write_av(tmp_path / "a.mkv", tone(20), 16_000, "pcm_s16le", "matroska")
    whole = read(path)[0]
    sound, error = read(garble(path, 0.7, 1.0))
    assert len(sound) < len(whole) - 16_000
    assert error


@pytest.mark.parametrize(
    ("kind", "one", "two"),
    [
        ("mkv", ("aac", 16_000), ("libopus", 48_000)),
        ("mkv", ("flac", 16_000), ("aac", 44_100)),
        ("ogg", ("libopus", 48_000), ("flac", 16_000)),
        ("ogg", ("flac", 44_100), ("libopus", 48_000)),
    ],
)
def test_codecs_may_change_on_the_way(
    kind: str, one: tuple[str, int], two: tuple[str, int], tmp_path: Path
) -> None:
    container = {"mkv": "matroska", "ogg": "ogg"}[kind]
    parts = [
        write_av(
            tmp_path / f"{number}.{kind}", tone(2, rate, 440 + 200 * number), rate, codec, container
        )
        for number, (codec, rate) in enumerate((one, two))
    ]
    path = tmp_path / f"all.{kind}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    sound, error = read(path)
    assert error == ""
    assert hertz_of(sound[4000:28_000]) == pytest.approx(440, abs=2)
    assert hertz_of(sound[-28_000:-4000]) == pytest.approx(640, abs=2)
