"""What the two readers share: the size of a block, the way to mono, the words of an error."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..records import Waveform

Planes = npt.NDArray[Any]  # (channels, n), as the codec delivers it
NativeBlock = tuple[int, Planes]  # (Hz, samples)
MonoBlock = tuple[int, Waveform]  # (Hz, samples of shape (n,))

BLOCK_SECONDS = 10
BLOCK_VALUES = 1 << 22  # samples x channels in one block: a damaged header must not fill the memory


def mono(planes: Planes) -> Waveform:
    """Mean of channels of a (channels, n) array; integers are scaled to [-1, 1)."""
    mean: npt.NDArray[Any] = (
        planes[0] if len(planes) == 1 else planes.mean(axis=0, dtype=np.float32)
    )
    return np.ascontiguousarray(scaled(mean, planes.dtype))


def scaled(samples: npt.NDArray[Any], kind: np.dtype[Any]) -> npt.NDArray[np.float32]:
    """Samples as float32, those in the scale of an integer `kind` in [-1, 1)."""
    floats: npt.NDArray[np.float32] = samples.astype(np.float32, copy=False)
    if kind.kind == "u":
        return (floats - np.float32(128)) / np.float32(128)
    return floats / np.float32(2 ** (8 * kind.itemsize - 1)) if kind.kind == "i" else floats


def one_line(error: Exception) -> str:
    """The library's own words for an error, without its numbers and line breaks."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
