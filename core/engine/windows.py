"""A segment as its model hears it: in windows of the encoder, whose audio tokens stand in a row.

A segment under the model's window is one of them. A longer one (`--segment whole`) is cut every
`max_seconds`; the decoder reads the tokens of all its windows as one prompt.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..models.base import SpeechLM
from ..models.facts import Encoded
from ..records import Seconds, Segment, Waveform

Encode = Callable[[SpeechLM, Sequence[Segment], bool], tuple[Encoded, list[int]]]
"""Takes segments, and whether their attention is wanted; see `encode`."""

TOGETHER = 16
"""Windows that are encoded at a time, unless there are more segments than that."""

CPU_PORTION: Seconds = 24.0
"""Of audio, each row as long as the longest, that a CPU encodes, or prefills, at a time."""

_AT_LEAST: Seconds = 240.0


def windows(lm: SpeechLM, samples: Waveform) -> list[Waveform]:
    """The parts that the encoder takes one by one."""
    size = round(lm.facts.max_seconds * lm.facts.sample_rate)
    return [samples[at : at + size] for at in range(0, max(1, len(samples)), size)]


def audio_tokens(lm: SpeechLM, seconds: Seconds) -> int:
    """Audio tokens of a segment before it is encoded: those of all its windows."""
    window = lm.facts.max_seconds
    whole, rest = divmod(seconds, window)
    tail = lm.audio_tokens(rest) if rest or not whole else 0
    return int(whole) * lm.audio_tokens(window) + tail


def hear(lm: SpeechLM, samples: Waveform) -> tuple[Any, ...]:
    """Features of each window; needs no device and may run in any thread."""
    return tuple(lm.features(window) for window in windows(lm, samples))


def longest_prompt(lm: SpeechLM) -> Seconds:
    """Seconds of audio in one prompt: what the positions hold that it was trained on, or 240.

    Beyond its positions a model still runs, which is enough to measure what it costs; one that is
    bounded by them keeps half of them for words and answer.
    """
    held = positions(lm) / lm.facts.tokens_per_second
    return held / 2 if lm.bounded else max(_AT_LEAST, held)


def positions(lm: SpeechLM) -> int:
    """Places of a prompt and its answer that the decoder was trained on; 0 = it does not say."""
    config = lm.model.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or 0)


def runs(
    seconds: Sequence[Seconds], device: torch.device, count: int = sys.maxsize
) -> Iterator[slice]:
    """Neighbours that go through a device at a time.

    A row is padded to the longest beside it, and what overflows a CPU's caches is slow: there a few
    rows are as good as many, and long ones better alone.

    Args:
        seconds: of audio in each row, at least one.
        device: where they go.
        count: most rows at a time.
    """
    most = CPU_PORTION if device.type == "cpu" else math.inf
    first, longest = 0, 0.0
    for number, one in enumerate(seconds):
        longest, rows = max(longest, one), number - first
        if rows and (rows == count or (rows + 1) * longest > most):
            yield slice(first, number)
            first, longest = number, one
    yield slice(first, len(seconds))


def encode(lm: SpeechLM, segments: Sequence[Segment], scored: bool) -> tuple[Encoded, list[int]]:
    """Audio tokens of each segment, and FLOPs of each, padding included."""
    heard = [segment.features or windows(lm, segment.samples) for segment in segments]
    parts = [window for one in heard for window in one]
    seconds = [
        min(lm.facts.max_seconds, segment.duration - number * lm.facts.max_seconds)
        for segment, one in zip(segments, heard, strict=True)
        for number in range(len(one))
    ]
    portions = runs(seconds, lm.device, max(TOGETHER, len(segments)))
    made = [lm.encode(parts[portion], scored) for portion in portions]
    tokens = _joined([row for one in made for row in one.tokens], heard)
    flops = [spent for one in made for spent in one.flops]
    ends = _ends(heard)
    spent = [sum(flops[first:last]) for first, last in ends]
    if any(one.received is None or one.own is None for one in made):
        return Encoded(tokens, spent), spent
    received, own = (
        _joined([row for one in made for row in getattr(one, name)], heard)
        for name in ("received", "own")
    )
    return Encoded(tokens, spent, received, own), spent


def _joined(rows: Sequence[Tensor], heard: Sequence[Sequence[Any]]) -> list[Tensor]:
    return [torch.cat(list(rows[first:last])) for first, last in _ends(heard)]


def _ends(heard: Sequence[Sequence[Any]]) -> list[tuple[int, int]]:
    """First window of each segment, and one past its last."""
    last = [sum(len(one) for one in heard[: n + 1]) for n in range(len(heard))]
    return list(zip([0, *last], last, strict=False))
