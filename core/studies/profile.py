"""What one recording costs at several levels of reduction, full against reduced, side by side.

Every level and beam count is run in turn, several rounds in one process, and the median of each
stage is taken: what the machine does meanwhile hits all of them alike. Ratios are taken within a
round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median

from ..config import RunConfig
from ..engine import Engine
from ..engine.cost import reset_peak
from ..errors import TranscriptionError
from ..flops import last_layer_saving
from ..models.base import SpeechLM
from ..records import Cost, Hypothesis, Json, Seconds, Segment
from .bench.limits import Limits, measure_limits

Round = Sequence[Hypothesis]

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
        peak_bytes: most memory held meanwhile by the process or, on CUDA, the device.
        prefill_ratio, rtf_ratio: over the first level with as many beams.
        decode_speedup, kv_smaller: the first level with as many beams over this one.
        of_flops: prefill FLOPs per second over this machine's best.
        of_bandwidth: bytes that the decode steps must read (weights once and one copy of keys and
            values a step) per second over this machine's best; None where several segments share
            the steps.
        same_text: whether the text is that of the first level with as many beams.
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
    peak_bytes: int
    prefill_ratio: float
    rtf_ratio: float
    decode_speedup: float
    kv_smaller: float
    of_flops: float
    of_bandwidth: float | None
    same_text: bool

    def to_json(self) -> Json:
        """A plain dict."""
        return asdict(self)


def profile(
    lm: SpeechLM,
    segments: Sequence[Segment],
    config: RunConfig,
    levels: Sequence[float],
    beams: Sequence[int] = (1,),
    rounds: int = 3,
) -> list[CostRow]:
    """Cost table of one recording.

    Args:
        lm: the loaded model.
        segments: of the recording.
        config: the run's settings; level and beams are replaced.
        levels: cuts of prefill FLOPs, or of KV bytes.
        beams: numbers of beams.
        rounds: measured rounds, after one that warms up.

    Raises:
        TranscriptionError: a segment cannot be transcribed.
    """
    limits = measure_limits(lm.device, lm.dtype)
    engines = [Engine(lm, _at(config, level, width)) for width in beams for level in levels]
    for engine in engines:
        _transcribe(engine, segments[:1])
    found: list[list[Round]] = [[] for _ in engines]
    for _ in range(rounds):
        for engine, runs in zip(engines, found, strict=True):
            reset_peak(lm.device)
            runs.append(_transcribe(engine, segments))
    firsts: dict[int, list[Round]] = {}
    return [
        _row(engine, segments, runs, firsts.setdefault(engine.config.num_beams, runs), limits)
        for engine, runs in zip(engines, found, strict=True)
    ]


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


def _row(
    engine: Engine,
    segments: Sequence[Segment],
    runs: Sequence[Round],
    first: Sequence[Round],
    limits: Limits,
) -> CostRow:
    pieces = [piece.cost for piece in runs[0]]
    seconds = sum(piece.end - piece.start for piece in runs[0])
    encode, prefill, decode = (median(_spent(run, stage) for run in runs) for stage in _STAGES)

    def beside(ratio: Callable[[Round, Round], float]) -> float:
        return median(ratio(*pair) for pair in zip(runs, first, strict=True))

    full = sum(piece.prefill_full_flops for piece in pieces)
    reduced = sum(piece.prefill_flops for piece in pieces)
    whole = sum(piece.prompt_kv_bytes_full for piece in pieces)
    held = sum(piece.prompt_kv_bytes for piece in pieces)
    generated = sum(piece.generated for piece in pieces)
    saved = _saved(engine, segments) if reduced < full else 0
    read = _least_bytes(engine, pieces[0]) if len(pieces) == 1 else None
    return CostRow(
        reduce=engine.target,
        reduction=1 - reduced / full if full else 0.0,
        kv_reduction=1 - held / whole if whole else 0.0,
        num_beams=engine.config.num_beams,
        rtf=(encode + prefill + decode) / seconds if seconds else 0.0,
        encode_s=encode,
        prefill_s=prefill,
        first_token_s=median(_largest(_first_tokens(run)) for run in runs),
        decode_s=decode,
        tokens_per_s=generated / decode if decode else 0.0,
        generated=generated,
        audio_in=sum(piece.audio_in for piece in pieces),
        audio_kept=sum(piece.audio_kept for piece in pieces),
        encoder_flops=sum(piece.encoder_flops for piece in pieces),
        prefill_flops=reduced,
        decode_flops=sum(piece.decode_flops for piece in pieces),
        kv_bytes=_kv_bytes(runs[0]),
        peak_bytes=int(median(max(piece.cost.peak_bytes for piece in run) for run in runs)),
        prefill_ratio=beside(
            lambda mine, other: _spent(mine, "prefill_s") / _spent(other, "prefill_s")
        ),
        rtf_ratio=beside(lambda mine, other: _spent(mine, *_STAGES) / _spent(other, *_STAGES)),
        decode_speedup=beside(
            lambda mine, other: _spent(other, "decode_s") / _spent(mine, "decode_s")
        ),
        kv_smaller=_kv_bytes(first[0]) / _kv_bytes(runs[0]),
        of_flops=(reduced - saved) / prefill / limits.flops,
        of_bandwidth=None if read is None else read / decode / limits.bandwidth,
        same_text=_texts(runs[0]) == _texts(first[0]),
    )


def _spent(run: Round, *stages: str) -> Seconds:
    return float(sum(getattr(piece.cost, stage) for piece in run for stage in stages))


def _saved(engine: Engine, segments: Sequence[Segment]) -> int:
    """FLOPs of the last layer that are counted and not spent."""
    jobs = [engine.runner.job(segment) for segment in segments]
    shape, scoring = engine.lm.decoder_shape, engine.reducer.scoring
    return sum(last_layer_saving(shape, job.prompt, job.budget.kept, scoring) for job in jobs)


def _least_bytes(engine: Engine, cost: Cost) -> int:
    """Bytes that the decode steps of a single segment must read."""
    values = engine.lm.decoder_shape.weights * engine.lm.dtype.itemsize
    return (cost.generated - 1) * (values + (cost.prompt_kv_bytes + cost.kv_bytes) // 2)


def _kv_bytes(run: Round) -> int:
    return max(piece.cost.kv_bytes for piece in run)


def _texts(run: Round) -> list[str]:
    return [piece.text for piece in run]


def _first_tokens(run: Round) -> Iterator[Seconds]:
    return (piece.cost.first_token_s for piece in run)


def _largest(values: Iterator[float]) -> float:
    return max(values, default=0.0)
