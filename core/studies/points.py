"""What an evaluation found: points with their cost and scores, in blocks; frozen, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import __version__
from ..records import Json, Seconds, Transcript
from ..results.files import replace_file
from ..results.scoring import Score

SCHEMA_VERSION = 1
_CAPPED = "reduction_capped"


@dataclass(frozen=True, slots=True)
class Spent:
    """What a set cost at one point; sums over its recordings, ratios of sums.

    Attributes:
        cut: share of the LM's prefill FLOPs that went, measured.
        total_cut: the same of encoder, prefill and decode together.
        kept: share of the audio tokens that leave the last layer.
        capped: share of the recordings too short for the cut that was asked for.
        prefill_full_flops, prefill_flops: 2 per multiply-add.
        kv_bytes_full, kv_bytes: of each recording's largest segment at the end of decoding.
        audio_s: seconds of audio.
        encode_s, prefill_s, decode_s: seconds of the model's work; what an earlier point of the
            evaluation has encoded takes none.
    """

    cut: float
    total_cut: float
    kept: float
    capped: float
    prefill_full_flops: int
    prefill_flops: int
    kv_bytes_full: int
    kv_bytes: int
    audio_s: Seconds
    encode_s: Seconds
    prefill_s: Seconds
    decode_s: Seconds

    @property
    def kv_cut(self) -> float:
        """Share of the KV bytes that went, those of generated tokens counted in."""
        return _cut(self.kv_bytes, self.kv_bytes_full)


@dataclass(frozen=True, slots=True)
class Point:
    """One setting on one set and task.

    Attributes:
        preset: that the settings started from, and `overrides` the flags on top.
        method, schedule, positions, start_layer: how it was reduced; None for the full model.
        asked: cut that was asked for, of prefill FLOPs or, with `cuts_cache`, of KV bytes.
        spent: what it cost.
        scores: of every measure of the task.
        failed: recordings that failed or were done in part; what they lack counts as empty.
        cuts_cache: whether the method cuts the KV cache behind a full prefill.
    """

    preset: str
    overrides: Json
    method: str | None
    schedule: str | None
    positions: str | None
    start_layer: int | None
    asked: float
    spent: Spent
    scores: tuple[Score, ...]
    failed: tuple[str, ...] = ()
    cuts_cache: bool = False


@dataclass(frozen=True, slots=True)
class BlockResult:
    """A set and a task with all its points, the full model first.

    Attributes:
        of: the set's name.
        manifest: where it lies.
        task: asr | st | er | sv | sqa | ac.
        language, target_language: codes, None = not known.
        segment: vad | fixed | whole.
        recordings: how many were scored.
        left_out: recordings without a reference.
        points: the full model first.
        refused: settings that this model or method cannot have, and why.
    """

    of: str
    manifest: str
    task: str
    language: str | None
    target_language: str | None
    segment: str
    recordings: int
    left_out: int
    points: tuple[Point, ...]
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that `fastadasp eval` found.

    Attributes:
        model: as the user called it.
        revision: what fixes its weights, None if unknown.
        device, dtype: where and in what it ran.
        quantize: 8bit | 4bit, the weights of the decoder's layers; None = as they are.
        num_beams: beams of the search.
        draws, seed: of the intervals.
        blocks: one for each set and task.
    """

    model: str
    revision: str | None
    device: str
    dtype: str
    quantize: str | None
    num_beams: int
    draws: int
    seed: int
    blocks: tuple[BlockResult, ...]

    @property
    def failed(self) -> bool:
        """Whether any recording failed anywhere."""
        return any(point.failed for block in self.blocks for point in block.points)

    def to_json(self) -> Json:
        """A plain dict; scores by the name of their measure."""
        data = {"schema_version": SCHEMA_VERSION, "version": __version__, **asdict(self)}
        data["blocks"] = [_block(block) for block in self.blocks]
        return data


def write(found: Evaluation, folder: Path) -> None:
    """Write `eval.json` into a folder, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found.to_json(), ensure_ascii=False, indent=1) + "\n"
    replace_file(folder / "eval.json", text.encode())


def spent(records: Sequence[Transcript]) -> Spent:
    """The cost of a set, out of its records."""
    full = sum(one.flops.prefill_full for one in records)
    reduced = sum(one.flops.prefill for one in records)
    encoder = sum(one.flops.encoder for one in records)
    decode_full = sum(one.flops.decode_full for one in records)
    decode = sum(one.flops.decode for one in records)
    heard = sum(one.tokens.audio_in for one in records)
    capped = sum(any(w.startswith(_CAPPED) for w in one.warnings) for one in records)
    return Spent(
        cut=_cut(reduced, full),
        total_cut=_cut(encoder + reduced + decode, encoder + full + decode_full),
        kept=round(sum(one.tokens.audio_kept for one in records) / heard, 6) if heard else 1.0,
        capped=capped / len(records) if records else 0.0,
        prefill_full_flops=full,
        prefill_flops=reduced,
        kv_bytes_full=sum(one.memory.kv_bytes_full for one in records),
        kv_bytes=sum(one.memory.kv_bytes for one in records),
        audio_s=round(sum(one.duration or 0.0 for one in records), 3),
        encode_s=round(sum(one.latency.encode_s for one in records), 6),
        prefill_s=round(sum(one.latency.prefill_s for one in records), 6),
        decode_s=round(sum(one.latency.decode_s for one in records), 6),
    )


def _cut(reduced: int, full: int) -> float:
    return round(1 - reduced / full, 6) if full else 0.0


def _block(block: BlockResult) -> Json:
    data = asdict(block)
    measures = [score.measure for score in block.points[0].scores]
    data["measures"] = {measure.name: asdict(measure) for measure in measures}
    for point, found in zip(data["points"], block.points, strict=True):
        point["scores"] = {score.measure.name: _score(score) for score in found.scores}
    return data


def _score(score: Score) -> Json:
    data = asdict(score.estimate)
    data["difference"] = None if score.difference is None else asdict(score.difference)
    return data
