"""What the two readers share: the size of a block, the way to mono, the words of an error."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..records import Waveform

NativeBlock = tuple[int, Waveform]  # (Hz, mono samples of shape (n,))

BLOCK_SECONDS = 10
BLOCK_VALUES = 1 << 22  # samples x channels in one block: a damaged header must not fill the memory


def mono(planes: npt.NDArray[Any]) -> Waveform:
    """Mean of channels of a (channels, n) array; integers are scaled to [-1, 1)."""
    mean: npt.NDArray[Any] = (
        planes[0] if len(planes) == 1 else planes.mean(axis=0, dtype=np.float32)
    )
    if planes.dtype.kind == "u":
        mean = (mean.astype(np.float32) - 128) / 128
    elif planes.dtype.kind == "i":
        mean = mean.astype(np.float32) / np.float32(2 ** (8 * planes.dtype.itemsize - 1))
    return np.ascontiguousarray(mean, dtype=np.float32)


def one_line(error: Exception) -> str:
    """The library's own words for an error, without its numbers and line breaks."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
