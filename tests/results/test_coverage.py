"""Coverage: speech whose segment ended with text, by itself and not in a loop, over all speech."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.records import Cost, Failure, Hypothesis, Recording, Transcript
from core.results.assemble import Heard, assemble
from tests.samples import record

HEARD = Heard(Recording("a", Path("a")), audio_s=100.0)


def answer(index: int, speech: float | None, text: str = "word", **more: object) -> Hypothesis:
    start = 10.0 * index
    stretches = None if speech is None else ((0.5, 0.5 + speech),)
    return Hypothesis("a", index, start, start + 10, text, speech=stretches, **more)  # type: ignore[arg-type]


def made(*answers: Hypothesis) -> Transcript:
    return assemble(record(), HEARD, answers)


def test_it_counts_speech_not_seconds() -> None:
    found = made(answer(0, 9.0), answer(1, 1.0, ""))
    assert (found.coverage, found.status, found.warnings) == (0.9, "ok", ())


@pytest.mark.parametrize(
    "lost",
    [{"text": ""}, {"finished": False}, {"finished": False, "error": "no memory", "text": ""}],
)
def test_what_is_empty_cut_off_looping_or_failed_is_not_covered(lost: dict[str, object]) -> None:
    found = made(answer(0, 4.0), answer(1, 6.0, **lost))  # type: ignore[arg-type]
    assert found.coverage == 0.4
    assert "low_coverage:0.4" in found.warnings
    assert found.status == ("partial" if "error" in lost else "ok")


@pytest.mark.parametrize(
    ("covered", "status", "warned"),
    [(60, "ok", False), (59, "ok", True), (25, "ok", True), (24, "failed", True)],
)
def test_below_the_limits_it_warns_and_fails(covered: int, status: str, warned: bool) -> None:
    found = made(answer(0, covered), answer(1, 100 - covered, finished=False))
    assert found.status == status
    assert any(name.startswith("low_coverage") for name in found.warnings) == warned
    assert (found.error is not None) == (status == "failed")
    if found.error:
        assert "24% of the speech" in found.error.message
    # what there is of a text is kept all the same
    assert found.pred_text == "word word"


def test_a_recording_without_speech_is_well() -> None:
    assert (made().coverage, made().status) == (None, "ok")
    assert made(answer(0, 0.0, "")).coverage is None


def test_a_recording_whose_first_piece_failed_has_no_first_token() -> None:
    late = Cost(first_token_s=0.5, decode_s=1.0)
    found = made(answer(0, 10.0, "", error="no memory"), answer(1, 10.0, cost=late))
    assert found.latency.first_token_s is None
    assert made(answer(0, 10.0, cost=late)).latency.first_token_s == 0.5


def test_sound_without_speech_is_said() -> None:
    found = made()
    assert (found.status, found.coverage, found.warnings) == ("ok", None, ("no_speech_found",))
    empty = assemble(record(), replace(HEARD, audio_s=0.0), [])
    broken = assemble(record(), replace(HEARD, failure=Failure("MediaError", "breaks off")), [])
    assert empty.warnings == broken.warnings == ()
    assert "no_speech_found" not in made(answer(0, 0.0, "")).warnings


def test_rates_are_of_what_was_transcribed() -> None:
    spent = Cost(decode_s=10.0)
    whole = made(answer(0, 10.0, cost=spent), answer(1, 10.0, cost=spent))
    assert (whole.rtf, whole.rtfx, whole.rtfx_model) == (0.2, 5.0, 5.0)
    half = made(answer(0, 10.0, cost=spent), answer(1, 10.0, "", error="x", finished=False))
    assert (half.status, half.rtf, half.rtfx) == ("partial", 0.2, 5.0)
    none = made(answer(0, 10.0, "", error="no memory", cost=Cost(prefill_s=0.001)))
    assert (none.status, none.rtf, none.rtfx, none.rtfx_model) == ("failed", None, None, None)
    assert none.duration == 100.0
