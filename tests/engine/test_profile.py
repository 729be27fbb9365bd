"""What `profile` says of a recording: levels in one process, beside the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from core.engine import Engine
from core.errors import TranscriptionError
from core.models.base import SpeechLM
from core.records import Hypothesis, Segment
from core.studies import profile as study
from core.studies.bench import Limits
from core.studies.profile import profile
from tests.engine.made import config, segments


def test_profile_compares_levels_in_one_process(lm: SpeechLM) -> None:
    rows = profile(lm, segments(1.9, 1.2), config(), [0.0, 0.3], beams=[1, 2], rounds=2)
    assert [(row.num_beams, row.reduce) for row in rows] == [(1, 0), (1, 0.3), (2, 0), (2, 0.3)]
    assert [row.reduction for row in rows] == pytest.approx([0, 0.3, 0, 0.3], abs=0.01)
    assert rows[0].same_text
    assert rows[0].prefill_flops > rows[1].prefill_flops
    assert rows[0].kv_bytes > rows[1].kv_bytes
    for row in rows:
        assert row.rtf == pytest.approx((row.encode_s + row.prefill_s + row.decode_s) / 3.1)
        assert row.tokens_per_s == pytest.approx(row.generated / row.decode_s)
        assert 0 < row.of_flops < 1
        assert row.of_bandwidth is None
    for full, reduced in (rows[:2], rows[2:]):
        ratios = [full.prefill_ratio, full.rtf_ratio, full.decode_speedup, full.kv_smaller]
        assert ratios == [1, 1, 1, 1]
        assert reduced.kv_smaller == pytest.approx(full.kv_bytes / reduced.kv_bytes)
        assert reduced.prefill_ratio != 1


def test_ratios_are_medians_over_the_rounds(lm: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds in which prefill takes 2, 2 and 2 s in full, and 1, 8 and 1 s reduced."""
    seconds = iter([2.0, 1.0, 2.0, 8.0, 2.0, 1.0])
    transcribe = study._transcribe
    monkeypatch.setattr(study, "measure_limits", lambda *where: Limits(1e9, 1e6))

    def timed(engine: Engine, pieces: Sequence[Segment]) -> list[Hypothesis]:
        [found] = transcribe(engine, pieces)
        taken = 0.0 if len(warm) < 2 else next(seconds)
        warm.append(taken)
        return [replace(found, cost=replace(found.cost, prefill_s=taken, decode_s=4 * taken))]

    warm: list[float] = []
    monkeypatch.setattr(study, "_transcribe", timed)
    full, reduced = profile(lm, segments(1.9), config(), [0.0, 0.3], rounds=3)
    assert (full.prefill_ratio, reduced.prefill_ratio) == (1, 0.5)
    assert reduced.decode_speedup == 2
    assert (full.prefill_s, reduced.prefill_s) == (2, 1)
    assert full.of_flops == pytest.approx(full.prefill_flops / 2 / 1e9)
    # the last layer works for one position of a reduced prompt
    assert 0.5 < reduced.of_flops / (reduced.prefill_flops / 1 / 1e9) < 0.95
    steps, weights = full.generated - 1, 4 * lm.decoder_shape.weights
    assert full.of_bandwidth is not None
    least = steps * weights / 8 / 1e6
    assert least < full.of_bandwidth < least + steps * full.kv_bytes / 8 / 1e6


def test_profile_of_a_segment_that_fails_is_an_error(lm: SpeechLM) -> None:
    with pytest.raises(TranscriptionError, match="more than the 240 s"):
        profile(lm, segments(250.0), config(), [0.0])
