"""What a run did, folded record by record; rates are sums over sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from ..records import Report, Transcript
from .assemble import transcribed

_BY_LOSS = ("ok", "partial", "failed")


def add(report: Report, *records: Transcript) -> Report:
    """The report with one more recording in it.

    Args:
        report: so far.
        records: of the recording, one a task; it is ok when all of them are.
    """
    status = max((record.status for record in records), key=_BY_LOSS.index)
    said = [(_named(record, records), record.error) for record in records]
    times = [record.latency for record in records]
    caches = [record for record in records if record.memory.reduction_target]
    prompts = [record for record in records if record not in caches]
    counted: dict[str, Any] = {status: getattr(report, status) + 1}
    return replace(
        report,
        **counted,
        audio_s=report.audio_s + fmean(transcribed(record) for record in records),
        model_s=report.model_s + sum(one.encode_s + one.prefill_s + one.decode_s for one in times),
        prefill_full_flops=report.prefill_full_flops
        + sum(one.flops.prefill_full for one in prompts),
        prefill_flops=report.prefill_flops + sum(one.flops.prefill for one in prompts),
        prompt_tokens=report.prompt_tokens + sum(one.tokens.prompt for one in caches),
        held_tokens=report.held_tokens + sum(map(_held, caches)),
        failures=(*report.failures, *((name, error.message) for name, error in said if error)),
    )


def _held(record: Transcript) -> float:
    """Tokens of the prompts whose keys and values were kept: all of one size."""
    return record.tokens.prompt * (1 - (record.memory.reduction or 0.0))


def _named(record: Transcript, records: Sequence[Transcript]) -> str:
    return f"{record.id} ({record.task})" if len(records) > 1 else record.id


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
    if report.prompt_tokens:
        cut = 1 - report.held_tokens / report.prompt_tokens
        yield f"KV bytes of the prompts cut by {cut:.1%}"


def numbers(dtype: str, quantize: str | None) -> str:
    """In which numbers a model ran, in a few words."""
    return f"{dtype}, {quantize} weights" if quantize else dtype


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest:.0f} s" if minutes else f"{rest:.1f} s"
