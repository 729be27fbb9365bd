"""Sound files made in code: good ones in every format, and ways to spoil them."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soundfile

Samples = npt.NDArray[np.float32]

# extension -> (codec, container) for what libsndfile cannot write
AV_FORMATS = {
    "aac": ("aac", "adts"),
    "avi": ("libmp3lame", "avi"),
    "m4a": ("aac", "ipod"),
    "mkv": ("aac", "matroska"),
    "mov": ("aac", "mov"),
    "mp4": ("aac", "mp4"),
    "opus": ("libopus", "ogg"),
    "webm": ("libopus", "webm"),
    "wma": ("wmav2", "asf"),
}
SF_FORMATS = ("wav", "flac", "mp3", "ogg", "aiff", "caf", "au", "w64", "rf64")
FORMATS = (*SF_FORMATS, *AV_FORMATS)


def tone(seconds: float, rate: int = 16_000, hertz: float = 440.0) -> Samples:
    """A sine of amplitude 0.3, shape (n,)."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def hertz_of(samples: Samples, rate: int = 16_000) -> float:
    """The loudest frequency."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * rate / len(samples)


def rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


def write(path: Path, samples: Samples, rate: int = 16_000, subtype: str | None = None) -> Path:
    """Write (n,) or (n, channels) samples in the format that the extension names."""
    kind = path.suffix[1:]
    if kind in AV_FORMATS:
        return write_av(path, samples, rate, *AV_FORMATS[kind])
    kind = {"ogg": "OGG", "aiff": "AIFF"}.get(kind, kind.upper())
    soundfile.write(str(path), samples, rate, format=kind, subtype=subtype)
    return path


def write_av(
    path: Path,
    samples: Samples,
    rate: int,
    codec: str,
    container: str,
    *,
    options: dict[str, str] | None = None,
    video_seconds: float = 0.0,
    delay: float = 0.0,
    title: str = "",
) -> Path:
    """Encode with FFmpeg; `delay` starts the sound later than the video."""
    with av.open(str(path), "w", format=container, options=options or {}) as out:
        out.metadata["title"] = title
        if samples.size:
            sound = out.add_stream(codec, rate=rate, layout="mono")
            sound.bit_rate = 128_000
        if video_seconds:
            video = out.add_stream("mpeg4", rate=25)
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
        if samples.size:
            _encode_sound(out, sound, samples, rate, round(delay * rate))
        if video_seconds:
            for number in range(round(video_seconds * 25)):
                picture = av.VideoFrame(64, 64, "yuv420p")
                picture.pts = number
                out.mux(video.encode(picture))
            out.mux(video.encode(None))
    return path


def _encode_sound(out: Any, stream: Any, samples: Samples, rate: int, first: int) -> None:
    # the codec's own sample format is asked for after it is open; float planar serves most
    convert = av.AudioResampler(format=stream.codec_context.format or "fltp", layout="mono")
    for at in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, at : at + 1024], "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, first + at, Fraction(1, rate)
        for ready in convert.resample(frame):
            out.mux(stream.encode(ready))
    out.mux(stream.encode(None))


def write_tracks(path: Path, *tracks: Samples, rate: int = 16_000) -> Path:
    """Several audio tracks in one matroska or mp4 file."""
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("aac", rate=rate, layout="mono") for _ in tracks]
        for stream, samples in zip(streams, tracks, strict=True):
            _encode_sound(out, stream, samples, rate, 0)
    return path


def speech(seconds: float, rate: int = 16_000, hertz: float = 440.0) -> Samples:
    """A tone that comes and goes five times in two seconds, as syllables do."""
    time = np.arange(round(seconds * rate)) / rate
    loud = np.sin(2 * np.pi * 2.5 * time) > 0
    return (tone(seconds, rate, hertz) * (0.01 + 0.99 * loud)).astype(np.float32)


def cut(path: Path, share: float = 0.5) -> Path:
    """Keep the first part of a file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def garble(path: Path, start: float = 0.45, end: float = 0.47) -> Path:
    """Overwrite a stretch of a file (shares of its bytes) with noise."""
    data = bytearray(path.read_bytes())
    noise = random.Random(0)
    for at in range(int(len(data) * start), int(len(data) * end)):
        data[at] = noise.randrange(256)
    path.write_bytes(data)
    return path
