from __future__ import annotations

import torch
from torch import Tensor

from ..transforms import mel_filters


def fbank(
    waveform: Tensor,
    num_mel_bins: int,
    frame_length: float,
    frame_shift: float,
    sample_frequency: float,
    window_type: str,
) -> Tensor:
    """Log mel energies of the whole frames: (1, samples) -> (frames, mels)."""
    assert window_type == "hamming"
    size, hop = (round(ms * sample_frequency / 1000) for ms in (frame_length, frame_shift))
    frames = waveform[0].unfold(0, size, hop)
    frames = (frames - frames.mean(1, keepdim=True)) * torch.hamming_window(size)
    spectrum = torch.fft.rfft(frames, n=512).abs() ** 2
    filters = mel_filters(257, num_mel_bins, int(sample_frequency))
    return (spectrum @ filters).clamp_min(1e-10).log()
