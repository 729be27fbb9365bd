"""Log-mel features of a recording at its own length: the frames of the standard 30 s path.

The Whisper front end pads every recording with zeros to 30 s and then takes the mel spectrogram.
Training on 30 s would waste nine tenths of the work, so this computes only the recording's frames.
"""

import numpy as np
from numpy.typing import NDArray
from transformers import WhisperFeatureExtractor

from .speech import Samples

N_MELS = 80
HOP = 160
"""Samples per mel frame: 100 frames/s. The encoder halves that, the pooler halves it again."""

_WINDOW = 400


def feature_extractor() -> WhisperFeatureExtractor:
    """Return the standard 30 s front end that the exported processor uses."""
    return WhisperFeatureExtractor(feature_size=N_MELS, return_attention_mask=True)


def log_mel(extractor: WhisperFeatureExtractor, samples: Samples) -> NDArray[np.float16]:
    """Return features (n_frames, N_MELS), n_frames = ceil(n_samples / HOP)."""
    n_frames = -(-len(samples) // HOP)
    # zeros behind the end, as in the 30 s path: the last frames look past it
    padded = np.pad(samples, (0, n_frames * HOP - len(samples) + _WINDOW + HOP))
    mel = extractor._torch_extract_fbank_features(padded)[:, :n_frames]
    return np.ascontiguousarray(mel.T.astype(np.float16))


def floor_of(mel: NDArray[np.floating]) -> float:
    """Return the value that the 30 s path gives to silence beside this recording.

    The front end clamps to 8 decades under the loudest bin and maps four decades to one unit.
    """
    return float(mel.max()) - 2.0


def encoder_lengths(n_frames: int) -> tuple[int, int]:
    """Return (encoder frames at 50 Hz, audio tokens at 25 Hz) for a number of mel frames."""
    halved = (n_frames - 1) // 2 + 1
    return halved, (halved - 2) // 2 + 1
