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

ASKED = [(1, 0.0), (1, 0.3)]


def test_profile_compares_levels_in_one_process(lm: SpeechLM) -> None:
    asked = [(beams, level) for beams in (1, 2) for level in (0.0, 0.3)]
    rows = list(profile(lm, segments(1.9, 1.2), config(), asked, rounds=2))
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
    full, reduced = profile(lm, segments(1.9), config(), ASKED)
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


def test_rows_come_as_they_are_measured(lm: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float]] = []
    runs = 0
    transcribe = study._transcribe

    def counting(engine: Engine, pieces: Sequence[Segment]) -> list[Hypothesis]:
        nonlocal runs
        runs += 1
        return transcribe(engine, pieces)

    monkeypatch.setattr(study, "_transcribe", counting)
    asked = [(beams, level) for beams in (1, 2) for level in (0.0, 0.3)]
    rows = profile(lm, segments(0.5), config(), asked, 2, lambda *words: told.append(words))
    # a warm-up and two rounds of each of two levels: the last round completes row by row
    assert [(next(rows).num_beams, runs) for _ in asked] == [(1, 5), (1, 6), (2, 11), (2, 12)]
    assert next(rows, None) is None
    names, shares = zip(*told, strict=True)
    assert names[:3] == (
        "1 beam, 0%: warming up",
        "1 beam, 30%: warming up",
        "1 beam, 0%: round 1 of 2",
    )
    assert names[-1] == "2 beams, 30%: round 2 of 2"
    # two beams count twice
    assert shares[:2] == (0, pytest.approx(1 / 18))
    assert shares[-1] == pytest.approx(16 / 18)


@pytest.mark.parametrize("taken", [True, False])
def test_the_last_layer_is_charged_whole_where_it_ran_whole(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    monkeypatch.setattr(study, "measure_limits", lambda *where: Limits(1e9, 1e6))
    if not taken:
        monkeypatch.setattr("core.reduction.layers.shortens", lambda *about: False)
    _, reduced = profile(lm, segments(1.9), config(), ASKED, rounds=1)
    whole = reduced.prefill_flops / reduced.prefill_s / 1e9
    assert (reduced.of_flops < 0.95 * whole) == taken
    assert (reduced.of_flops == pytest.approx(whole)) != taken


def test_a_peak_that_stays_is_not_that_of_a_row(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    [row] = profile(lm, segments(0.5), config(), ASKED[:1], rounds=1)
    assert row.peak_bytes is None or row.peak_bytes > 0
    monkeypatch.setattr(study, "reset_peak", lambda device: False)
    [row] = profile(lm, segments(0.5), config(), ASKED[:1], rounds=1)
    assert row.peak_bytes is None


@pytest.mark.parametrize(
    ("warnings", "note"),
    [
        ((), None),
        (("reduction_capped:0.41",), None),
        (("max_tokens_reached",), "ran into the token cap: decode time is that of the cap"),
        (
            ("max_tokens_reached", "repetition"),
            "ran into the token cap (loops): decode time is that of the cap",
        ),
        (
            ("repetition_retried",),
            "loops, and was asked once more: decode time is that of both answers",
        ),
    ],
)
def test_a_row_says_whose_time_it_gives(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch, warnings: tuple[str, ...], note: str | None
) -> None:
    transcribe = study._transcribe

    def warning(engine: Engine, pieces: Sequence[Segment]) -> list[Hypothesis]:
        return [replace(one, warnings=warnings) for one in transcribe(engine, pieces)]

    monkeypatch.setattr(study, "_transcribe", warning)
    [row] = profile(lm, segments(0.5), config(), ASKED[:1], rounds=1)
    assert row.note == note


def test_profile_of_a_segment_that_fails_is_an_error(lm: SpeechLM) -> None:
    with pytest.raises(TranscriptionError, match="more than the 240 s"):
        list(profile(lm, segments(250.0), config(), [(1, 0.0)]))
