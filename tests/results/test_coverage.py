"""Coverage: speech whose segment ended with text, by itself and not in a loop, over all speech."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.records import Hypothesis, Recording, Transcript
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
