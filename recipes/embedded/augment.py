"""Rooms, channels and noise for clean speech. Knows nothing of text; never moves a sound in time.

All of it is linear and done in the frequency domain, once per recording.
"""

import numpy as np
from numpy.typing import NDArray

from .speech import SAMPLE_RATE, Samples

ANY_LEVEL_DB = (-18.0, -1.0)
"""Loudest sample of a recording whose loudness nobody decided on."""

_TELEPHONE_HZ = 3_700.0


def augment(samples: Samples, rng: np.random.Generator, level_db: float) -> Samples:
    """Return a copy in a random room, over a random channel, with random noise, at a level.

    Three in ten recordings get a room, two in ten lose what lies above the telephone band, three
    in four get noise at 8 to 40 dB.
    """
    size = 1 << (len(samples) + SAMPLE_RATE // 3).bit_length()
    spectrum = np.fft.rfft(samples, size)
    if rng.random() < 0.3:
        spectrum *= np.fft.rfft(_room(rng), size)
    spectrum *= _channel(rng, len(spectrum))
    sound = np.fft.irfft(spectrum, size)[: len(samples)].astype(np.float32)
    if rng.random() < 0.75:
        sound = add_noise(sound, float(rng.uniform(8, 40)), rng)
    return set_level(sound, level_db)


def add_noise(samples: Samples, snr_db: float, rng: np.random.Generator) -> Samples:
    """Add noise with a random spectral tilt, `snr_db` below the mean power of the recording."""
    white = np.fft.rfft(rng.standard_normal(len(samples)))
    tilt = np.arange(1, len(white) + 1) ** -rng.uniform(0, 0.6)
    noise = np.fft.irfft(white * tilt, len(samples))
    power = np.mean(samples**2) / np.mean(noise**2) * 10 ** (-snr_db / 10)
    noisy: Samples = (samples + noise * np.sqrt(power)).astype(np.float32)
    return noisy


def set_level(samples: Samples, peak_db: float) -> Samples:
    """Scale so that the loudest sample is `peak_db` below full scale (0 dB: clipping begins)."""
    peak = max(float(np.abs(samples).max()), 1e-4)
    return (samples * (10 ** (peak_db / 20) / peak)).astype(np.float32)


def silence(seconds: float) -> Samples:
    """Return `seconds` of zeros."""
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)


def _room(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return an impulse response: the direct sound and an exponentially decaying tail."""
    length = int(SAMPLE_RATE * rng.uniform(0.05, 0.3))
    fading = np.exp(-6 * np.arange(length) / length)
    tail: NDArray[np.float64] = rng.standard_normal(length) * fading
    tail *= rng.uniform(0.1, 0.5) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return tail


def _channel(rng: np.random.Generator, bins: int) -> NDArray[np.float64]:
    """Return a gain per frequency bin: a tilt up to +-6 dB, sometimes the telephone band."""
    frequency = np.linspace(0, SAMPLE_RATE / 2, bins)
    tilt_db = rng.uniform(-6, 6) * (frequency / (SAMPLE_RATE / 2) - 0.5)
    gain = 10 ** (tilt_db / 20)
    if rng.random() < 0.2:
        gain *= 1 / (1 + (frequency / _TELEPHONE_HZ) ** 24)
    return gain
