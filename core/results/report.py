"""What a run did, folded record by record; rates are sums over sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..records import Report, Transcript


def add(report: Report, record: Transcript) -> Report:
    """The report with one more record in it."""
    latency, flops = record.latency, record.flops
    failures = report.failures
    if record.error is not None:
        failures = (*failures, (record.id, record.error.message))
    counted: dict[str, Any] = {record.status: getattr(report, record.status) + 1}
    return replace(
        report,
        **counted,
        audio_s=report.audio_s + (record.duration or 0.0),
        model_s=report.model_s + latency.encode_s + latency.prefill_s + latency.decode_s,
        prefill_full_flops=report.prefill_full_flops + flops.prefill_full,
        prefill_flops=report.prefill_flops + flops.prefill,
        failures=failures,
    )


def exit_code(report: Report) -> int:
    """0 when every recording is done, 1 when one failed or is only partly done."""
    return 1 if report.failed or report.partial else 0


def summary(report: Report) -> Iterator[str]:
    """The run in a few lines for people: counts, speed, saving."""
    names = ("ok", "partial", "failed", "skipped")
    counts = ((getattr(report, name), name) for name in names)
    yield ", ".join(f"{n} {name}" for n, name in counts if n or name == "ok")
    if report.audio_s and report.wall_s:
        speed = f"{report.audio_s / report.wall_s:.1f}x real time"
        yield f"{_clock(report.audio_s)} of audio in {_clock(report.wall_s)} ({speed})"
    if report.prefill_full_flops:
        cut = 1 - report.prefill_flops / report.prefill_full_flops
        yield f"prefill FLOPs cut by {cut:.1%}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest:.0f} s" if minutes else f"{rest:.1f} s"
