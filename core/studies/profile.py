"""What one recording costs at several levels of reduction, full against reduced, side by side.

All levels with as many beams are run in turn, several rounds in one process, and the median of
each stage is taken: what the machine does meanwhile hits all of them alike. Ratios are taken within
a round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from statistics import median

from ..config import RunConfig
from ..engine import Engine
from ..engine.hypotheses import LOOP
from ..engine.peak import reset_peak
from ..errors import TranscriptionError
from ..flops import last_layer_saving
from ..models.base import SpeechLM
from ..records import Cost, Hypothesis, Json, Seconds, Segment
from .bench.limits import Limits, measure_limits
from .progress import Progress, Steps, beams_of

Round = Sequence[Hypothesis]

_CAPPED = "max_tokens_reached"
_STAGES = ("encode_s", "prefill_s", "decode_s")


@dataclass(frozen=True, slots=True)
class CostRow:
    """Cost of the whole recording at one level; times are medians over the rounds.

    Attributes:
        reduce: cut asked for, of prefill FLOPs or, by methods that cut the cache, of KV bytes.
        reduction: cut of prefill FLOPs reached, by the cost model.
        kv_reduction: cut of the prompts' KV bytes reached.
        num_beams: beams of the search.
        rtf: encode + prefill + decode seconds per second of audio.
        encode_s, prefill_s, first_token_s, decode_s: seconds; the first token's counts from the
            beginning of its batch, the longest is given.
        tokens_per_s: generated tokens per second of decoding.
        generated: tokens.
        audio_in, audio_kept: audio tokens of the prompt, and those that entered the last layer.
        prefill_flops, decode_flops, encoder_flops: summed over segments.
        kv_bytes: KV cache at the end of decoding, of the segment that has most.
        peak_bytes: most memory held meanwhile by the process or, on CUDA, the device; None where
            the system cannot count it anew for each run.
        prefill_ratio, rtf_ratio: over the first level with as many beams.
        decode_speedup, kv_smaller: the first level with as many beams over this one.
        of_flops: prefill FLOPs per second over this machine's best; those of the last layer are
            left out where it was run for the last position only.
        of_bandwidth: bytes that the decode steps must read (weights once and one copy of keys and
            values a step) per second over this machine's best; None where several segments share
            the steps.
        same_text: whether the text is that of the first level with as many beams.
        note: what the times are those of, if not of an answer that ended by itself; else None.
    """

    reduce: float
    reduction: float
    kv_reduction: float
    num_beams: int
    rtf: float
    encode_s: Seconds
    prefill_s: Seconds
    first_token_s: Seconds
    decode_s: Seconds
    tokens_per_s: float
    generated: int
    audio_in: int
    audio_kept: int
    encoder_flops: int
    prefill_flops: int
    decode_flops: int
    kv_bytes: int
    peak_bytes: int | None
    prefill_ratio: float
    rtf_ratio: float
    decode_speedup: float
    kv_smaller: float
    of_flops: float
    of_bandwidth: float | None
    same_text: bool
    note: str | None

    def to_json(self) -> Json:
        """A plain dict."""
        return asdict(self)


def profile(
    lm: SpeechLM,
    segments: Sequence[Segment],
    config: RunConfig,
    asked: Sequence[tuple[int, float]],
    rounds: int = 3,
    progress: Progress = lambda words, done: None,
) -> Iterator[CostRow]:
    """Cost table of one recording, row by row: each comes as soon as it has been measured.

    Args:
        lm: the loaded model.
        segments: of the recording.
        config: the run's settings; level and beams are replaced.
        asked: of each row the number of beams, and the cut of prefill FLOPs or of KV bytes; the
            first of as many beams is what the others are compared with.
        rounds: measured rounds, after one that warms up.
        progress: told of every run through the recording.

    Raises:
        UsageError: a level that this model cannot have.
        TranscriptionError: a segment cannot be transcribed.
    """
    engines = [Engine(lm, _at(config, level, width)) for width, level in asked]
    steps = Steps(progress, (rounds + 1) * sum(width for width, _ in asked))
    limits = measure_limits(lm.device, lm.dtype)
    for _, alike in groupby(engines, lambda engine: engine.config.num_beams):
        yield from _side_by_side(list(alike), segments, rounds, limits, steps)


def _side_by_side(
    engines: Sequence[Engine],
    segments: Sequence[Segment],
    rounds: int,
    limits: Limits,
    steps: Steps,
) -> Iterator[CostRow]:
    """Rows of engines with as many beams; the last round completes one after the other."""

    def begin(what: str, engine: Engine) -> None:
        width = engine.config.num_beams
        steps.begin(f"{beams_of(width)}, {engine.target:.0%}: {what}", width)

    shortened, found = list[bool](), list[list[Round]]()
    for engine in engines:
        begin("warming up", engine)
        shortened.append(_warm(engine, segments))
        found.append([])
    for number in range(rounds):
        for engine, runs, short in zip(engines, found, shortened, strict=True):
            begin(f"round {number + 1} of {rounds}", engine)
            runs.append(_measured(engine, segments))
            if number == rounds - 1:
                saved = _saved(engine, segments, runs[0]) if short else 0
                yield _row(engine, runs, found[0], saved, limits)


def _at(config: RunConfig, level: float, beams: int) -> RunConfig:
    reduction = replace(config.reduction, reduce=level)
    return replace(config, reduction=reduction, num_beams=beams)


def _transcribe(engine: Engine, segments: Sequence[Segment]) -> list[Hypothesis]:
    with engine:
        found = list(engine.transcribe(segments))
    for piece in found:
        if piece.error:
            raise TranscriptionError(f"at {piece.start:.1f} s: {piece.error}")
    return sorted(found, key=lambda piece: piece.index)


def _measured(engine: Engine, segments: Sequence[Segment]) -> Round:
    """One run; its peak is that of the run, or not known."""
    counted = reset_peak(engine.lm.device)
    found = _transcribe(engine, segments)
    if counted:
        return found
    return [replace(piece, cost=replace(piece.cost, peak_bytes=None)) for piece in found]


def _warm(engine: Engine, segments: Sequence[Segment]) -> bool:
    """Run the longest segment; whether its prefill ran the last layer for one position only."""
    longest = max(segments, key=lambda segment: segment.duration)
    layer, widths = engine.lm.decoder.layers[-1], list[int]()
    if not engine.target or not hasattr(layer, "mlp"):
        _transcribe(engine, [longest])
        return False
    hook = layer.mlp.register_forward_pre_hook(
        lambda _, args: widths.extend(states.shape[-2] for states in args[:1])
    )
    try:
        _transcribe(engine, [longest])
    finally:
        hook.remove()
    return widths[:1] == [1]


def _row(
    engine: Engine, runs: Sequence[Round], first: Sequence[Round], saved: int, limits: Limits
) -> CostRow:
    """Sum up the runs of one level; `saved` FLOPs of its prefill are counted and not spent."""
    pieces = [piece.cost for piece in runs[0]]
    seconds = sum(piece.end - piece.start for piece in runs[0])
    encode, prefill, decode = (median(_spent(run, stage) for run in runs) for stage in _STAGES)
    full = sum(piece.prefill_full_flops for piece in pieces)
    reduced = sum(piece.prefill_flops for piece in pieces)
    whole = sum(piece.prompt_kv_bytes_full for piece in pieces)
    held = sum(piece.prompt_kv_bytes for piece in pieces)
    generated = sum(piece.generated for piece in pieces)
    read = _least_bytes(engine, pieces[0]) if len(pieces) == 1 else None
    return CostRow(
        reduce=engine.target,
        reduction=1 - reduced / full if full else 0.0,
        kv_reduction=1 - held / whole if whole else 0.0,
        num_beams=engine.config.num_beams,
        rtf=(encode + prefill + decode) / seconds if seconds else 0.0,
        encode_s=encode,
        prefill_s=prefill,
        first_token_s=median(max(piece.cost.first_token_s for piece in run) for run in runs),
        decode_s=decode,
        tokens_per_s=generated / decode if decode else 0.0,
        generated=generated,
        audio_in=sum(piece.audio_in for piece in pieces),
        audio_kept=sum(piece.audio_kept for piece in pieces),
        encoder_flops=sum(piece.encoder_flops for piece in pieces),
        prefill_flops=reduced,
        decode_flops=sum(piece.decode_flops for piece in pieces),
        kv_bytes=_kv_bytes(runs[0]),
        peak_bytes=_peak(runs),
        of_flops=(reduced - saved) / prefill / limits.flops,
        of_bandwidth=None if read is None else read / decode / limits.bandwidth,
        same_text=_texts(runs[0]) == _texts(first[0]),
        note=_note(runs[0]),
        **_ratios(runs, first),
    )


def _ratios(runs: Sequence[Round], first: Sequence[Round]) -> dict[str, float]:
    """Medians over the rounds of what compares a run with that of the first level."""

    def beside(ratio: Callable[[Round, Round], float]) -> float:
        return median(ratio(*pair) for pair in zip(runs, first, strict=True))

    return {
        "prefill_ratio": beside(lambda a, b: _spent(a, "prefill_s") / _spent(b, "prefill_s")),
        "rtf_ratio": beside(lambda a, b: _spent(a, *_STAGES) / _spent(b, *_STAGES)),
        "decode_speedup": beside(lambda a, b: _spent(b, "decode_s") / _spent(a, "decode_s")),
        "kv_smaller": _kv_bytes(first[0]) / _kv_bytes(runs[0]),
    }


def _note(run: Round) -> str | None:
    said = [name for piece in run for name in piece.warnings]
    looped = any(name.startswith(LOOP) for name in said)
    if _CAPPED in said:
        return f"ran into the token cap{' (loops)' * looped}: decode time is that of the cap"
    return "loops, and was asked once more: decode time is that of both answers" if looped else None


def _spent(run: Round, *stages: str) -> Seconds:
    return float(sum(getattr(piece.cost, stage) for piece in run for stage in stages))


def _saved(engine: Engine, segments: Sequence[Segment], run: Round) -> int:
    """FLOPs that the last layer is charged for, of prompts for whose last position it ran only."""
    shape, how, saved = engine.lm.decoder_shape, engine.reducer, 0
    for segment, piece in zip(sorted(segments, key=lambda one: one.index), run, strict=True):
        prompt = replace(engine.runner.job(segment).prompt, audio=piece.cost.audio_in)
        kept = how.solve(prompt, how.target).kept
        if kept[-1] < prompt.audio:
            saved += last_layer_saving(shape, prompt, kept, how.scoring)
    return saved


def _least_bytes(engine: Engine, cost: Cost) -> int:
    """Bytes that the decode steps of a single segment must read."""
    values = engine.lm.decoder_shape.weights * engine.lm.dtype.itemsize
    return (cost.generated - 1) * (values + (cost.prompt_kv_bytes + cost.kv_bytes) // 2)


def _kv_bytes(run: Round) -> int:
    return max(piece.cost.kv_bytes for piece in run)


def _texts(run: Round) -> list[str]:
    return [piece.text for piece in run]


def _peak(runs: Sequence[Round]) -> int | None:
    peaks = [[piece.cost.peak_bytes for piece in run] for run in runs]
    known = [max(one for one in run if one is not None) for run in peaks if None not in run]
    return int(median(known)) if len(known) == len(runs) else None
