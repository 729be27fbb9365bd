from __future__ import annotations

from dataclasses import replace
from functools import reduce

import pytest

from core.records import Flops, Memory, Report, Tokens
from core.results.report import add, exit_code, summary
from tests.samples import failed, record


def test_rates_are_sums_over_sums() -> None:
    short = record("b.wav", duration=1.0)
    report = reduce(add, [record(), short, failed("c.wav")], Report())
    assert (report.ok, report.partial, report.failed) == (2, 0, 1)
    assert report.audio_s == 4.0 + 1.0  # failing is not fast
    assert report.model_s == 3.0
    assert (report.prefill_full_flops, report.prefill_flops) == (300, 240)
    assert report.failures == (("c.wav", "cannot read it"),)


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (Report(), 0),
        (Report(ok=1, skipped=2), 0),
        (Report(ok=1, failed=1), 1),
        (Report(partial=1), 1),
    ],
)
def test_exit_codes_tell_the_truth(report: Report, code: int) -> None:
    assert exit_code(report) == code


def test_the_summary_names_what_matters() -> None:
    report = replace(add(add(Report(), record()), failed("c.wav")), wall_s=2.0, skipped=3)
    text = "\n".join(summary(report))
    assert "1 ok, 1 failed, 3 skipped" in text
    assert "4.0 s of audio in 2.0 s (2.0x real time)" in text
    assert "20.0%" in text
    assert "cannot read it" not in text  # it was told when it happened


def test_nothing_done_is_said() -> None:
    assert list(summary(Report(skipped=2))) == ["0 ok, 2 skipped"]


def test_of_what_is_partly_done_as_much_counts_as_was_covered() -> None:
    partial = record(status="partial", coverage=0.25)
    assert add(Report(), partial).audio_s == 1.0
    assert add(Report(), record(status="partial", coverage=None)).audio_s == 4.0
    # two tasks of one recording, one of which failed at once
    assert add(Report(), record(), failed()).audio_s == 2.0
    assert not any(
        "real time" in text for text in summary(replace(add(Report(), failed()), wall_s=2))
    )


def test_the_summary_of_a_cut_cache_says_what_was_cut() -> None:
    """Of three times as many tokens twice as large a share; prefill is not what it is about."""
    cut = record(memory=Memory(100, 80, None, 0.4, 0.4), flops=Flops(0, 100, 104))
    more = replace(cut, tokens=Tokens(30), memory=replace(cut.memory, reduction=0.2))
    [_, told] = summary(add(add(Report(), cut), more))
    assert told == "KV bytes of the prompts cut by 25.0%"
    beside = list(summary(add(add(Report(), cut), record())))
    assert beside[1:] == ["prefill FLOPs cut by 20.0%", "KV bytes of the prompts cut by 40.0%"]
