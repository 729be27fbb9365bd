"""The voice detector against the package's own frame-by-frame network, and on real speech."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soxr

from core.errors import StartError
from core.media import vad
from core.media.decode import decode
from core.media.segment import segment
from core.media.vad import SpeechProbabilities
from core.records import Waveform

from .sounds import tone

ROOT = Path(__file__).parents[2]


def babble(seconds: float) -> Waveform:
    """A buzz with moving formants and pauses: the detector wavers on it, which is what we want."""
    rng = np.random.default_rng(0)
    time = np.arange(int(seconds * 16_000)) / 16_000
    pitch = 120 * (1 + 0.15 * np.sin(2 * np.pi * 0.7 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / 16_000
    knots = np.arange(0, seconds + 0.2, 0.2)
    out = np.zeros_like(time)
    for low, high in ((270, 730), (840, 2290), (2240, 3010)):
        formant = np.interp(time, knots, rng.uniform(low, high, len(knots)))
        for harmonic in range(1, 30):
            weight = 1 / (1 + ((harmonic * pitch - formant) / 100) ** 2)
            out += weight * np.sin(harmonic * phase)
    out *= np.sin(2 * np.pi * 2 * time) > -0.3
    return (0.4 * out / np.abs(out).max()).astype(np.float32)


def frame_by_frame(samples: Waveform) -> list[float]:
    """The oracle: the streaming network, one call a frame, as its authors use it."""
    package = find_spec("silero_vad")
    assert package is not None and package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "data" / "silero_vad.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    state, context = np.zeros((2, 1, 128), np.float32), np.zeros((1, 64), np.float32)
    probabilities = []
    for at in range(0, len(samples), 512):
        frame = np.zeros((1, 512), np.float32)
        frame[0, : len(samples[at : at + 512])] = samples[at : at + 512]
        inputs = {"input": np.hstack((context, frame)), "state": state, "sr": np.array(16_000)}
        out, state = session.run(None, inputs)
        context = frame[:, -64:]
        probabilities.append(float(out[0, 0]))
    return probabilities


def detect(samples: Waveform, size: int = 160_000, rate: int = 16_000) -> list[float]:
    detector = SpeechProbabilities(rate)
    found = [
        probability
        for at in range(0, len(samples), size)
        for probability in detector.push(samples[at : at + size])
    ]
    return found + detector.finish()


def test_probabilities_are_those_of_the_streaming_network() -> None:
    samples = babble(19.99)
    second = np.zeros(32 * 512, np.float32)
    expected = frame_by_frame(np.concatenate((second, samples)))[32:]
    assert max(expected) > 0.7 and min(expected) < 0.1
    assert detect(samples) == pytest.approx(expected, abs=1e-3)


def test_block_sizes_change_nothing() -> None:
    samples = babble(20.0)
    expected = detect(samples)
    for size in (300, 7_777, 131_072, 500_000):
        assert detect(samples, size) == expected


def test_another_rate_is_resampled() -> None:
    samples = babble(10.0)
    double = soxr.resample(samples, 16_000, 32_000)
    found, expected = np.array(detect(double, 33_333, 32_000)), np.array(detect(samples))
    assert len(found) == len(expected)
    assert np.corrcoef(found, expected)[0, 1] > 0.95


def test_threads_do_not_disturb_each_other() -> None:
    inputs = [babble(9.0), tone(9.0), babble(5.0), np.zeros(90_000, np.float32)] * 3
    expected = [detect(samples) for samples in inputs]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detect, inputs)) == expected


def test_neither_a_tone_nor_noise_is_speech() -> None:
    noise = np.random.default_rng(0).standard_normal(160_000).astype(np.float32) * 0.05
    for samples in (noise, tone(10.0)):
        assert np.mean(np.array(detect(samples)) > 0.5) < 0.05


def test_torch_stays_out() -> None:
    code = (
        "import sys, numpy; from core.media.vad import SpeechProbabilities;"
        "SpeechProbabilities(16000).push(numpy.zeros(200_000, 'float32'));"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    vad._session.cache_clear()
    monkeypatch.setattr(vad, "find_spec", lambda name: None)
    with pytest.raises(StartError, match="pip install"):
        SpeechProbabilities(16_000)
    monkeypatch.undo()
    vad._session.cache_clear()


def real_speech() -> list[Path]:
    examples = sorted((ROOT / "examples" / "audio").glob("*.*"))
    corpus = ROOT.parent / "shared" / "data" / "tests"
    names = ("jfk.flac", "ru.wav", "aishell_zh.wav", "formats/p001.mp3")
    sounds = (".wav", ".flac", ".mp3", ".m4a", ".ogg")
    short = [p for p in examples if p.suffix in sounds and p.stat().st_size < 300_000]
    return short + [corpus / name for name in names if (corpus / name).exists()]


def loud_seconds(samples: Waveform, than: Waveform) -> float:
    """How much of a recording comes within 20 dB of the loud parts of another."""

    def levels(sound: Waveform) -> Waveform:
        frames = sound[: len(sound) // 800 * 800].reshape(-1, 800)
        return np.asarray(np.sqrt(np.square(frames).mean(axis=1)))

    return float(np.sum(levels(samples) > 0.1 * np.percentile(levels(than), 90))) * 0.05


@pytest.mark.parametrize("path", real_speech(), ids=lambda path: path.name)
def test_real_speech_is_found_and_cut_within_the_window(path: Path) -> None:
    samples = np.concatenate(list(decode(path)))
    whole = segment([samples], path.name)
    assert len(list(whole)) >= 1
    assert 0.3 * whole.audio_seconds < whole.speech_seconds <= whole.segment_seconds
    for window, target in ((30.0, 8.0), (5.0, 5.0), (2.0, 1.0)):
        segmenter = segment([samples], path.name, window=window, target=target)
        pieces = list(segmenter)
        assert all(piece.duration <= window for piece in pieces)
        assert segmenter.speech_seconds == pytest.approx(whole.speech_seconds, abs=0.2)
        rest = samples.copy()
        for piece in pieces:
            first = round(piece.start * 16_000)
            rest[first : first + len(piece.samples)] = 0
        assert loud_seconds(rest, than=samples) <= 0.2


def test_its_runtime_counts_nobody_even_where_it_was_imported_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[bool] = []
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: told.append(True))
    vad._session.__wrapped__()
    assert told
