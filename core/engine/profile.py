"""What one recording costs at several levels of reduction, full against reduced, side by side.

Every level and beam count is run in turn, several rounds in one process, and the median of each
stage is taken: what the machine does meanwhile hits all of them alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median

from ..config import RunConfig
from ..errors import TranscriptionError
from ..models.base import SpeechLM
from ..records import Hypothesis, Json, Seconds, Segment
from .cost import reset_peak
from .engine import Engine


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
        audio_in, audio_kept: audio tokens before and after the last layer.
        prefill_flops, decode_flops, encoder_flops: summed over segments.
        kv_bytes: KV cache at the end of decoding, of the segment that has most.
        peak_bytes: most memory held meanwhile by the process or, on CUDA, the device.
        same_text: whether the text is that of the lowest level with as many beams.
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
    engines = [Engine(lm, _at(config, level, width)) for width in beams for level in levels]
    for engine in engines:
        _transcribe(engine, segments[:1])
    found: list[list[list[Hypothesis]]] = [[] for _ in engines]
    for _ in range(rounds):
        for engine, runs in zip(engines, found, strict=True):
            reset_peak(lm.device)
            runs.append(_transcribe(engine, segments))
    texts: dict[int, list[str]] = {}
    rows = []
    for engine, runs in zip(engines, found, strict=True):
        text = [piece.text for piece in runs[0]]
        same = texts.setdefault(engine.config.num_beams, text) == text
        rows.append(_row(engine, runs, same))
    return rows


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


def _row(engine: Engine, runs: Sequence[Sequence[Hypothesis]], same_text: bool) -> CostRow:
    pieces = [piece.cost for piece in runs[0]]
    seconds = sum(piece.end - piece.start for piece in runs[0])
    encode, prefill, decode = (
        median(sum(getattr(piece.cost, stage) for piece in run) for run in runs)
        for stage in ("encode_s", "prefill_s", "decode_s")
    )
    full = sum(piece.prefill_full_flops for piece in pieces)
    reduced = sum(piece.prefill_flops for piece in pieces)
    whole = sum(piece.prompt_kv_bytes_full for piece in pieces)
    held = sum(piece.prompt_kv_bytes for piece in pieces)
    generated = sum(piece.generated for piece in pieces)
    return CostRow(
        reduce=engine.target,
        reduction=1 - reduced / full if full else 0.0,
        kv_reduction=1 - held / whole if whole else 0.0,
        num_beams=engine.config.num_beams,
        rtf=(encode + prefill + decode) / seconds if seconds else 0.0,
        encode_s=encode,
        prefill_s=prefill,
        first_token_s=median(_largest(_firsts(run)) for run in runs),
        decode_s=decode,
        tokens_per_s=generated / decode if decode else 0.0,
        generated=generated,
        audio_in=sum(piece.audio_in for piece in pieces),
        audio_kept=sum(piece.audio_kept for piece in pieces),
        encoder_flops=sum(piece.encoder_flops for piece in pieces),
        prefill_flops=reduced,
        decode_flops=sum(piece.decode_flops for piece in pieces),
        kv_bytes=int(_largest(piece.kv_bytes for piece in pieces)),
        peak_bytes=int(median(max(piece.cost.peak_bytes for piece in run) for run in runs)),
        same_text=same_text,
    )


def _firsts(run: Sequence[Hypothesis]) -> Iterator[Seconds]:
    return (piece.cost.first_token_s for piece in run)


def _largest(values: Iterator[float]) -> float:
    return max(values, default=0.0)
