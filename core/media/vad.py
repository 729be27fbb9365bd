"""Silero's voice detector through onnxruntime alone: no torch in the workers that read audio.

The weights lie in the `silero_vad` package, which is found but never imported (its import would
bring torch and set it to one thread).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import StartError
from ..records import Waveform

if TYPE_CHECKING:
    import soxr

FRAME_SECONDS = 0.032

_RATE = 16_000
_FRAME = 512  # samples that one probability is about
_CONTEXT = 64  # samples before them that the model sees too
_CALL = 256  # frames in one call: fixed, so that the result does not depend on the blocks' sizes
_WARM_UP = 32  # frames of silence heard first: a cold network misses speech that begins at once
_WEIGHTS = "silero_vad_16k_sequence.onnx"


class SpeechProbabilities:
    """Probability of speech of each 32 ms of one recording, block after block.

    Holds the state of one recording; the network itself is shared and safe to use from several
    threads at once.
    """

    def __init__(self, sample_rate: int) -> None:
        """Begin a recording whose blocks have `sample_rate` Hz."""
        self._session = _session()
        self._resampler = None if sample_rate == _RATE else _to_16k(sample_rate)
        self._held = np.zeros(0, np.float32)
        self._context = np.zeros((1, _CONTEXT), np.float32)
        self._state = {name: np.zeros((1, 1, 128), np.float32) for name in ("h", "c")}
        self._run(np.zeros(_WARM_UP * _FRAME, np.float32))

    def push(self, block: Waveform) -> list[float]:
        """Probabilities of the frames that this block completes; they may lag some seconds."""
        if self._resampler is not None:
            block = self._resampler.resample_chunk(block, last=False)
        self._held = np.concatenate((self._held, block))
        size = _CALL * _FRAME
        whole = len(self._held) // size * size
        ready, self._held = self._held[:whole], self._held[whole:]
        return [p for at in range(0, whole, size) for p in self._run(ready[at : at + size])]

    def finish(self) -> list[float]:
        """Probabilities of what is left; the last frame is filled up with silence."""
        if self._resampler is not None:
            tail = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            self._held = np.concatenate((self._held, tail))
        held, self._held = self._held, np.zeros(0, np.float32)
        if not len(held):
            return []
        return self._run(np.pad(held, (0, -len(held) % _FRAME)))

    def _run(self, samples: Waveform) -> list[float]:
        frames = samples.reshape(-1, _FRAME)
        contexts = np.concatenate((self._context, frames[:-1, -_CONTEXT:]))
        self._context = frames[-1:, -_CONTEXT:].copy()  # a view would keep all the samples
        inputs = {"input": np.concatenate((contexts, frames), axis=1), **self._state}
        probabilities: npt.NDArray[np.float32]
        probabilities, hidden, cell = self._session.run(["speech_probs", "hn", "cn"], inputs)
        self._state = {"h": hidden, "c": cell}
        return [float(p) for p in probabilities.reshape(-1)]


def _to_16k(sample_rate: int) -> soxr.ResampleStream:
    import soxr

    return soxr.ResampleStream(sample_rate, _RATE, 1, dtype="float32", quality="HQ")


@lru_cache(maxsize=1)
def _session() -> Any:
    import onnxruntime

    # imported before us, it has not seen the variable that `core` sets
    onnxruntime.disable_telemetry_events()
    package = find_spec("silero_vad")
    folders = (package and package.submodule_search_locations) or []
    for folder in folders:
        weights = Path(folder) / "data" / _WEIGHTS
        if weights.is_file():
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 3  # errors only
            providers = ["CPUExecutionProvider"]
            return onnxruntime.InferenceSession(str(weights), options, providers=providers)
    raise StartError("the voice detector is missing: pip install 'silero-vad>=6.2.3'")
