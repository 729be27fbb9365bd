"""From what was heard and what the model answered to the record of one recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ..records import (
    CUT_SHORT,
    Cost,
    Failure,
    Flops,
    Hypothesis,
    Latency,
    Memory,
    Recording,
    Seconds,
    Source,
    Span,
    Status,
    Tokens,
    Transcript,
)
from .labels import LABELS, longest_label

WARNED_BELOW, FAILED_BELOW = 0.6, 0.25
"""Coverage below which a recording gets a warning, and below which it counts as failed."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What reading one recording gave.

    Attributes:
        recording: which one.
        source: its file.
        audio_s: seconds that could be decoded.
        load_s, segment_s: time taken by decoding and by cutting.
        failure: why it could not be read, or not to its end.
        warnings: names of things that are odd but no loss.
        shared_with: the other tasks that it was read for, each of which bears a part of the cost.
    """

    recording: Recording
    source: Source = field(default_factory=Source)
    audio_s: Seconds = 0.0
    load_s: Seconds = 0.0
    segment_s: Seconds = 0.0
    failure: Failure | None = None
    warnings: tuple[str, ...] = ()
    shared_with: tuple[str, ...] = ()


def assemble(template: Transcript, heard: Heard, hypotheses: Iterable[Hypothesis]) -> Transcript:
    """The record of one recording.

    Args:
        template: a record with the fields that are the same for the whole run.
        heard: what reading it gave.
        hypotheses: the answers to its segments, in any order.
    """
    answers = sorted(hypotheses, key=lambda answer: answer.index)
    done = [answer for answer in answers if answer.error is None]
    coverage = _coverage(answers)
    failure = heard.failure or _failed_segments(answers) or _unheard(coverage)
    shared = tuple(f"shared_with:{task}" for task in heard.shared_with)
    spans = tuple(map(_span, done))
    record = replace(
        template,
        id=heard.recording.id,
        audio_filepath=heard.recording.path.as_posix(),
        status=_status(failure, done, coverage),
        error=failure,
        warnings=_merged(
            (
                *(*template.warnings, *heard.warnings, *shared),
                *(*_quiet(heard, answers), *_thin(coverage)),
                *(warning for answer in answers for warning in answer.warnings),
            )
        ),
        text=heard.recording.text,
        pred_text=" ".join(span.text for span in spans if span.text),
        label=longest_label(template.task, spans) if template.task in LABELS else None,
        segments=spans,
        coverage=coverage,
        batch_size=max((answer.batch_size for answer in answers), default=None),
        source=_read(heard),
        offset=heard.recording.offset,
    )
    return _with_costs(record, heard, [answer.cost for answer in answers])


def in_equal_parts(answers: Sequence[Hypothesis]) -> list[Hypothesis]:
    """The same answers, where those of one sound bear its encoding in equal parts.

    It was encoded once for all tasks that cut it so, at the cost of the first; what all of them
    cost together stays.
    """
    together: dict[tuple[Seconds, Seconds], list[Hypothesis]] = {}
    for answer in answers:
        together.setdefault((answer.start, answer.end), []).append(answer)
    return [one for group in together.values() for one in _parts(group)]


def _parts(group: Sequence[Hypothesis]) -> Iterator[Hypothesis]:
    seconds = sum(one.cost.encode_s for one in group) / len(group)
    flops, rest = divmod(sum(one.cost.encoder_flops for one in group), len(group))
    for number, one in enumerate(group):
        cost = replace(one.cost, encode_s=seconds, encoder_flops=flops + (number < rest))
        yield replace(one, cost=cost)


def transcribed(record: Transcript) -> Seconds:
    """Seconds of a recording that there is a text for, or that were found to need none."""
    share = {"ok": 1.0, "partial": 1.0 if record.coverage is None else record.coverage}
    return (record.duration or 0.0) * share.get(record.status, 0.0)


def _span(answer: Hypothesis) -> Span:
    at, speech = answer.start, answer.speech
    if speech is not None:
        speech = tuple((round(at + start, 3), round(at + end, 3)) for start, end in speech)
    return Span(round(at, 3), round(answer.end, 3), answer.text, speech)


def _read(heard: Heard) -> Source:
    """A file whose whole length a manifest gave was read as a whole."""
    cut = any(warning.startswith(CUT_SHORT) for warning in heard.warnings)
    if heard.recording.offset is not None or heard.failure or cut:
        return heard.source
    return replace(heard.source, duration=None, length=round(heard.audio_s, 6))


def _status(failure: Failure | None, done: Sequence[Hypothesis], coverage: float | None) -> Status:
    if failure is None:
        return "ok"
    covered = coverage is None or coverage >= FAILED_BELOW
    return "partial" if done and covered else "failed"


def _failed_segments(answers: Sequence[Hypothesis]) -> Failure | None:
    failed = [answer for answer in answers if answer.error is not None]
    if not failed:
        return None
    first = failed[0]
    return Failure(
        "TranscriptionError",
        f"{len(failed)} of {len(answers)} segments failed, the first at {first.start:.1f} s: "
        f"{first.error}",
    )


def _merged(warnings: Iterable[str]) -> tuple[str, ...]:
    """Each warning once; one that carries a number after a colon keeps its highest."""
    highest: dict[str, float] = {}
    plain: set[str] = set()
    for warning in warnings:
        name, _, value = warning.partition(":")
        try:
            highest[name] = max(float(value), highest.get(name, float("-inf")))
        except ValueError:
            plain.add(warning)
    return tuple(sorted(plain | {f"{name}:{value:g}" for name, value in highest.items()}))


def _coverage(answers: Sequence[Hypothesis]) -> float | None:
    """Share of the speech whose segment ended well; None when there was no speech."""
    speech = sum(answer.speech_s for answer in answers)
    if not speech:
        return None
    well = (one for one in answers if one.text and one.finished and one.error is None)
    return round(sum(answer.speech_s for answer in well) / speech, 4)


def _quiet(heard: Heard, answers: Sequence[Hypothesis]) -> tuple[str, ...]:
    """A warning where there was sound and none of it was taken for speech: it may have been."""
    return ("no_speech_found",) if heard.audio_s and not answers and not heard.failure else ()


def _unheard(coverage: float | None) -> Failure | None:
    if coverage is None or coverage >= FAILED_BELOW:
        return None
    return Failure(
        "TranscriptionError",
        f"only {coverage:.0%} of the speech got a text that ended by itself: listen to it; "
        "--reduce 0, another --chunk-length or a higher --max-new-tokens may help",
    )


def _thin(coverage: float | None) -> tuple[str, ...]:
    low = coverage is not None and coverage < WARNED_BELOW
    return (f"low_coverage:{coverage:g}",) if low else ()


def _with_costs(record: Transcript, heard: Heard, costs: Sequence[Cost]) -> Transcript:
    parts = 1 + len(heard.shared_with)
    latency = Latency(
        load_audio_s=round(heard.load_s / parts, 6),
        segment_s=round(heard.segment_s / parts, 6),
        encode_s=round(sum(cost.encode_s for cost in costs), 6),
        prefill_s=round(sum(cost.prefill_s for cost in costs), 6),
        decode_s=round(sum(cost.decode_s for cost in costs), 6),
        first_token_s=(round(costs[0].first_token_s, 6) or None) if costs else None,
    )
    model = latency.encode_s + latency.prefill_s + latency.decode_s
    time = latency.load_audio_s + latency.segment_s + model
    record = replace(record, duration=round(heard.audio_s, 3) or None)
    done = transcribed(record) or None
    return replace(
        record,
        time=round(time, 6),
        rtf=_ratio(time, done),
        rtfx=_ratio(done, time),
        rtfx_model=_ratio(done, model),
        latency=latency,
        tokens=_tokens(costs, latency.decode_s),
        flops=_flops(costs, record.flops.reduction_target),
        memory=_memory(costs, record.memory.reduction_target),
    )


def _tokens(costs: Sequence[Cost], decode_s: Seconds) -> Tokens:
    generated = sum(cost.generated for cost in costs)
    return Tokens(
        prompt=sum(cost.prompt_tokens for cost in costs),
        audio_in=sum(cost.audio_in for cost in costs),
        audio_kept=sum(cost.audio_kept for cost in costs),
        generated=generated,
        per_second=_ratio(generated, decode_s),
    )


def _flops(costs: Sequence[Cost], target: float) -> Flops:
    encoder = sum(cost.encoder_flops for cost in costs)
    full = sum(cost.prefill_full_flops for cost in costs)
    reduced = sum(cost.prefill_flops for cost in costs)
    decode_full = sum(cost.decode_full_flops for cost in costs)
    decode = sum(cost.decode_flops for cost in costs)
    whole = _ratio(encoder + reduced + decode, encoder + full + decode_full)
    prefill = _ratio(reduced, full)
    return Flops(
        encoder=encoder,
        prefill_full=full,
        prefill=reduced,
        decode_full=decode_full,
        decode=decode,
        reduction_target=target,
        reduction=None if prefill is None else round(1 - prefill, 6),
        total_reduction=None if whole is None else round(1 - whole, 6),
    )


def _memory(costs: Sequence[Cost], target: float) -> Memory:
    if not costs:
        return Memory(reduction_target=target)
    largest = max(costs, key=lambda cost: cost.kv_bytes_full)
    held = _ratio(
        sum(cost.prompt_kv_bytes for cost in costs),
        sum(cost.prompt_kv_bytes_full for cost in costs),
    )
    return Memory(
        kv_bytes_full=largest.kv_bytes_full,
        kv_bytes=largest.kv_bytes,
        peak_bytes=max(cost.peak_bytes or 0 for cost in costs) or None,
        reduction_target=target,
        reduction=None if held is None else round(1 - held, 6),
    )


def _ratio(over: float | None, under: float | None) -> float | None:
    return round(over / under, 6) if over is not None and under else None
