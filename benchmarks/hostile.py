"""Recordings made to hurt a decoder: mutated headers of twelve containers, and headers that lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from random import Random
from struct import pack
from tempfile import TemporaryDirectory

import av
import numpy as np

from tests.media.sounds import AV_FORMATS, Samples, tone, write, write_av

CONTAINERS = (
    *("wav", "aiff", "flac", "mp3", "ogg", "m4a", "mkv", "avi"),
    *("w64", "caf", "webm", "aac"),
)
HEADER = 1024
"""Bytes at a file's beginning that most mutations hit; an m4a is hit all over, its index is last"""
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 10**12)


def seeds() -> dict[str, bytes]:
    """A second of noise in every container."""
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    samples = tone(1) + 0.1 * noise
    with TemporaryDirectory() as folder:
        return {kind: _sound(Path(folder) / f"a.{kind}", samples) for kind in CONTAINERS}


def _sound(path: Path, samples: Samples) -> bytes:
    codec = AV_FORMATS.get(path.suffix[1:])
    if codec is None:
        return write(path, samples).read_bytes()
    # without this the muxers write random numbers; libsndfile does in an ogg, whatever is asked
    return write_av(path, samples, 16_000, *codec, options={"fflags": "bitexact"}).read_bytes()


def corpus(number: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """(name, content) of `number` mutated files, the containers by turns."""
    rng, originals = Random(seed), seeds()
    for index in range(number):
        kind = CONTAINERS[index % len(CONTAINERS)]
        data = bytearray(originals[kind])
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            where = len(data) if kind == "m4a" or rng.random() < 0.2 else HEADER
            rng.choice(_MUTATIONS)(data, rng, max(1, min(where, len(data))))
        yield f"{index:05d}.{kind}", bytes(data)


def _flip(data: bytearray, rng: Random, reach: int) -> None:
    data[rng.randrange(reach)] ^= 1 << rng.randrange(8)


def _noise(data: bytearray, rng: Random, reach: int) -> None:
    at = rng.randrange(reach)
    size = rng.randint(1, 32)
    data[at : at + size] = rng.randbytes(size)


def _extreme(data: bytearray, rng: Random, reach: int) -> None:
    size, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
    value = rng.choice(_EXTREMES) % 256**size
    at = rng.randrange(reach)
    data[at : at + size] = value.to_bytes(size, "little" if order == "little" else "big")


def _drop(data: bytearray, rng: Random, reach: int) -> None:
    at = rng.randrange(reach)
    del data[at : at + rng.randint(1, 64)]
    data.extend(bytes(1))


def _repeat(data: bytearray, rng: Random, reach: int) -> None:
    at = rng.randrange(reach)
    data[at:at] = data[at : at + rng.randint(1, 256)]


def _cut(data: bytearray, rng: Random, reach: int) -> None:
    del data[max(12, rng.randrange(len(data))) :]


_MUTATIONS: tuple[Callable[[bytearray, Random, int], None], ...] = (
    _flip,
    _noise,
    _extreme,
    _extreme,
    _extreme,
    _drop,
    _repeat,
    _cut,
)


def liars() -> Iterator[tuple[str, bytes]]:
    """Files of about a kilobyte that claim 10^12 samples, by each container's own field."""
    huge, sound = 10**12, bytes(1000)
    wav = pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16)
    sizes = pack("<4sIQQQI", b"ds64", 28, 2 * huge, 2 * huge, huge, 0)
    yield (
        "liar-rf64.wav",
        pack("<4sI4s", b"RF64", 0xFFFF_FFFF, b"WAVE")
        + sizes
        + wav
        + pack("<4sI", b"data", 0xFFFF_FFFF)
        + sound,
    )
    yield (
        "liar-riff.wav",
        pack("<4sI4s", b"RIFF", 0x7FFF_0000, b"WAVE")
        + wav
        + pack("<4sI", b"data", 0x7FFF_0000)
        + sound,
    )
    yield "liar.au", pack(">4sIIIII", b".snd", 24, 0xFFFF_FF00, 3, 16_000, 1) + sound
    desc = pack(">4sqd4sIIIII", b"desc", 32, 16_000.0, b"lpcm", 0, 2, 1, 1, 16)
    yield (
        "liar.caf",
        pack(">4sHH", b"caff", 1, 0) + desc + pack(">4sqI", b"data", 2 * huge, 0) + sound,
    )
    yield "liar.flac", _flac_of(2**36 - 1) + seeds()["flac"][42:1024]
    mkv = bytearray(seeds()["mkv"])
    duration = mkv.find(b"\x44\x89\x88") + 3  # a double of milliseconds
    mkv[duration : duration + 8] = pack(">d", huge / 16)
    yield "liar.mkv", bytes(mkv)
    yield "liar-gap.mkv", _sparse_mkv()
    yield from _late_mp4s(seeds()["m4a"])


def _flac_of(samples: int) -> bytes:
    """A flac's head whose STREAMINFO claims so many samples, the most that its field holds."""
    rate_channels_bits = 16_000 << 44 | 0 << 41 | 15 << 36 | samples
    return (
        b"fLaC"
        + bytes([0x80, 0, 0, 34])
        + pack(">HH", 4096, 4096)
        + bytes(6)
        + rate_channels_bits.to_bytes(8, "big")
        + bytes(16)
    )


def _sparse_mkv(gap_s: int = 1_000_000) -> bytes:
    """Half a second of sound, days without any, and half a second more: each header is true."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.mkv"
        with av.open(str(path), "w", format="matroska") as out:
            stream = out.add_stream("pcm_s16le", rate=16_000, layout="mono")
            for number, at in enumerate((0, gap_s * 16_000)):
                sound = (1000 * tone(0.5, hertz=440 + number)).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(sound[None], "s16", "mono")
                frame.sample_rate, frame.pts, frame.time_base = 16_000, at, Fraction(1, 16_000)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        return path.read_bytes()


def _late_mp4s(m4a: bytes) -> Iterator[tuple[str, bytes]]:
    """MP4 files whose durations, sample counts, frame lengths or sizes are as large as they go."""
    most = pack(">I", 0x7FFF_FFFF)
    durations = (("mvhd", 16, most), ("mdhd", 16, most), ("tkhd", 20, most))
    for box, offset, value in (*durations, ("stts", 8, most), ("stsz", 8, most)):
        yield f"liar-{box}.m4a", _with_fields(m4a, (box, offset, value))
    # frames of a thousand seconds each, all of which the header vouches for
    yield "liar-sparse.m4a", _with_fields(m4a, *durations, ("stts", 12, pack(">I", 0xFF_FFFF)))


def _with_fields(m4a: bytes, *fields: tuple[str, int, bytes]) -> bytes:
    data = bytearray(m4a)
    for box, offset, value in fields:
        at = data.find(box.encode()) + 4 + offset
        data[at : at + len(value)] = value
    return bytes(data)
