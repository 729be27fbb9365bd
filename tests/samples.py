"""A record to start from, for tests that only care about some of its fields."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core.records import Failure, Flops, Latency, Memory, Source, Span, Tokens, Transcript

BASE = Transcript(
    schema_version=1,
    id="a.wav",
    audio_filepath="a.wav",
    status="ok",
    error=None,
    warnings=(),
    task="asr",
    language="en",
    target_language=None,
    question=None,
    model="fake",
    model_revision=None,
    version="0",
    versions={},
    preset="asr-safe",
    overrides={},
    method="fastadasp",
    schedule="constant",
    start_layer=0,
    threshold=None,
    positions="keep",
    text=None,
    pred_text="one two",
    label=None,
    segments=(Span(0.0, 1.5, "one"), Span(2.0, 3.25, "two")),
    coverage=1.0,
    duration=4.0,
    time=2.0,
    rtf=0.5,
    rtfx=2.0,
    rtfx_model=4.0,
    latency=Latency(0.5, 0.5, 0.25, 0.25, 0.5, 0.3),
    tokens=Tokens(10, 8, 6, 5, 10.0),
    flops=Flops(10, 100, 80, 50, 40, 0.2, 0.2, 0.19),
    memory=Memory(100, 80, None),
    device="cpu",
    dtype="float32",
    quantize=None,
    batch_size=1,
    num_beams=1,
    source=Source(4, 5, None),
    settings_hash="settings",
)


def record(name: str = "a.wav", **changes: Any) -> Transcript:
    """An ok record called `name`, with `changes`."""
    return replace(BASE, id=name, audio_filepath=name, **changes)


def failed(name: str = "a.wav", message: str = "cannot read it") -> Transcript:
    """A failed record."""
    return record(
        name, status="failed", error=Failure("MediaError", message), pred_text="", segments=()
    )
