"""Rooms with real ears and no model: files are decoded and cut, every piece is answered alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

from core.config import RunConfig
from core.records import Hypothesis, Segment
from core.stages import Rooms, Transcriber


class Parrot:
    """Says `word` to every piece."""

    def transcribe(self, segments: Iterator[Segment]) -> Iterator[Hypothesis]:
        for piece in segments:
            yield Hypothesis(piece.recording_id, piece.index, piece.start, piece.end, "word")


class Hearing(Rooms):
    """The real stages, but for the model.

    Args:
        engine: answers the pieces; None = a parrot.
        chunk_seconds: length of piece that the model is said to do best.
    """

    def __init__(self, engine: Transcriber | None = None, chunk_seconds: float | None = None):
        self._engine, self._chunk_seconds = engine or Parrot(), chunk_seconds

    def start(self, config: RunConfig) -> tuple[Any, Any]:
        model = SimpleNamespace(
            facts=SimpleNamespace(
                sample_rate=16_000, max_seconds=30.0, chunk_seconds=self._chunk_seconds
            ),
            features=lambda waveform: waveform,
            revision="r1",
            decoder_shape=SimpleNamespace(layers=32),
            device="cpu",
            dtype="torch.float32",
        )
        return model, nullcontext(self._engine)
