"""Recordings longer than the encoder's window, in one prompt."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from core.config import ReductionConfig
from core.engine import Engine
from core.engine.windows import encode, hear, windows
from core.models.base import SpeechLM
from core.records import Segment
from tests.engine.made import config, segments


def test_the_tokens_of_all_windows_stand_in_a_row(lm: SpeechLM) -> None:
    long, short = segments(5.0, 0.7)
    found, flops = encode(lm, [long, short], scored=True)
    parts = [lm.encode([window], True) for window in windows(lm, long.samples)]
    assert [len(window) for window in windows(lm, long.samples)] == [32_000, 32_000, 16_000]
    for name in ("tokens", "received", "own"):
        expected = torch.cat([getattr(part, name)[0] for part in parts])
        torch.testing.assert_close(getattr(found, name)[0], expected)
    torch.testing.assert_close(found.tokens[1], lm.encode([short.samples]).tokens[0])
    assert flops[0] == 3 * flops[1]


def test_features_made_beforehand_change_nothing(lm: SpeechLM) -> None:
    plain = segments(5.0, 0.7, 1.9)
    ahead = [replace(piece, features=hear(lm, piece.samples)) for piece in plain]
    with Engine(lm, config()) as engine:
        texts = [[found.text for found in engine.run(pieces)] for pieces in (plain, ahead)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("beams", [1, 3])
def test_a_long_recording_is_reduced_as_one_prompt(lm: SpeechLM, beams: int) -> None:
    with Engine(lm, config(0.5, segment="whole", num_beams=beams)) as engine:
        (found,) = engine.run(segments(9.0))
    assert found.error is None
    cost = found.cost
    assert cost.audio_in == 225
    assert 1 - cost.prefill_flops / cost.prefill_full_flops == pytest.approx(0.5, abs=0.01)
    assert not any(name.startswith("beyond") for name in found.warnings)


def test_all_windows_of_all_methods(lm: SpeechLM) -> None:
    reduction = ReductionConfig("sa-map", "input", 0.3, "keep", 0.0)
    with Engine(lm, config(reduction=reduction)) as engine:
        assert all(found.error is None for found in engine.run(segments(4.5, 1.0)))


@pytest.mark.parametrize(
    ("most", "expected"), [(math.inf, [16, 6]), (16.0, [8, 8, 6]), (1.0, 22 * [1])]
)
def test_few_windows_are_encoded_at_a_time(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch, most: float, expected: list[int]
) -> None:
    plain, sizes = lm.encode, []

    def counted(waves: list[object], scored: bool = False) -> object:
        sizes.append(len(waves))
        return plain(waves, scored)

    monkeypatch.setattr("core.engine.windows.CPU_PORTION", most)
    monkeypatch.setattr(lm, "encode", counted)
    encode(lm, segments(40.0, 3.0), scored=False)
    assert sizes == expected


def test_what_is_too_long_for_the_context_is_said(lm: SpeechLM) -> None:
    with Engine(lm, config(segment="whole")) as engine:
        long, longer = engine.run(segments(45.0, 241.0))
    total = long.cost.prompt_tokens + 3
    assert long.error is None
    assert f"beyond_context:{total}" in long.warnings
    assert longer.error is not None
    assert "use --segment vad" in longer.error


def test_the_look_ahead_is_bounded_in_seconds_too(lm: SpeechLM) -> None:
    from core.engine.batching import Waiting

    taken = []

    def source() -> object:
        for piece in segments(*[0.1] * 60):
            taken.append(piece.index)
            yield replace_segment(engine, piece, 200.0)

    engine = Engine(lm, config())
    waiting = Waiting(source(), 16)  # type: ignore[arg-type]
    waiting.take(4, lambda group: True)
    assert len(taken) == 6


def replace_segment(engine: Engine, piece: Segment, seconds: float) -> object:
    """A job of so many seconds, without their samples."""
    job = engine.runner.job(piece)
    job.segment = replace(piece, sample_rate=max(1, round(len(piece.samples) / seconds)))
    return job
