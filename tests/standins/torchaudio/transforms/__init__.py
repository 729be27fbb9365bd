from __future__ import annotations

import torch
from torch import Tensor, nn


def mel_filters(bins: int, mels: int, rate: int) -> Tensor:
    """Triangles, evenly spaced on the mel scale: (bins, mels)."""
    top = 2595 * torch.log10(torch.tensor(1 + rate / 2 / 700))
    edges = 700 * (10 ** (torch.linspace(0, float(top), mels + 2) / 2595) - 1)
    hertz = torch.linspace(0, rate / 2, bins).unsqueeze(1)
    width = edges.diff()
    rising = (hertz - edges[:-2]) / width[:-1]
    falling = (edges[2:] - hertz) / width[1:]
    return torch.minimum(rising, falling).clamp_min(0)


class MelSpectrogram(nn.Module):
    """Power spectrum through mel filters: (..., samples) -> (..., mels, frames)."""

    def __init__(
        self, sample_rate: int, n_fft: int, win_length: int, hop_length: int, n_mels: int
    ) -> None:
        super().__init__()
        self.sizes = n_fft, hop_length, win_length
        self.window = nn.Buffer(torch.hann_window(win_length), persistent=False)
        filters = mel_filters(n_fft // 2 + 1, n_mels, sample_rate)
        self.filters = nn.Buffer(filters, persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Frames are centred."""
        spectrum = torch.stft(wave, *self.sizes, self.window, return_complex=True).abs() ** 2
        return (spectrum.mT @ self.filters).mT
