"""Text quality against reduction on a manifest: word errors or BLEU at each level and schedule.

`python -m benchmarks.quality MANIFEST [--task st]` transcribes every recording of the manifest as
one piece, through the same engine as `fastadasp run`, and prints a table and one JSON line. WER
and its 95 % interval (bootstrap over recordings) by jiwer, BLEU by sacrebleu, on raw text.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import jiwer
import sacrebleu
import soundfile
import typer
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from core.config import ReductionConfig, RunConfig
from core.engine import Engine
from core.models import load_model
from core.models.base import SpeechLM
from core.records import Segment


@dataclass(frozen=True, slots=True)
class Point:
    """One setting: what was asked and reached, and the score with its 95 % interval.

    `score` is the word error rate (asr) or BLEU (st); `sentences` the share of recordings whose
    text is exactly the reference.
    """

    schedule: str
    positions: str
    start_layer: int
    asked: float
    reduction: float
    score: float
    low: float
    high: float
    sentences: float


def read(manifest: Path, key: str) -> tuple[list[Segment], list[str]]:
    """Recordings as segments, and their references."""
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    segments = []
    for index, row in enumerate(rows):
        samples, rate = soundfile.read(manifest.parent / row["audio_filepath"], dtype="float32")
        segments.append(Segment(row["audio_filepath"], index, 0.0, samples, rate))
    return segments, [row[key] for row in rows]


def score(task: str, references: Sequence[str], texts: Sequence[str]) -> float:
    """Word error rate of asr, BLEU of st."""
    if task == "asr":
        return float(jiwer.wer(list(references), list(texts)))
    return float(sacrebleu.corpus_bleu(list(texts), [list(references)]).score)


def interval(
    task: str, references: Sequence[str], texts: Sequence[str], draws: int = 200
) -> tuple[float, float]:
    """2.5 % and 97.5 % quantiles of the score over resampled recordings."""
    draw, pairs = random.Random(0), list(zip(references, texts, strict=True))
    found = []
    for _ in range(draws):
        chosen = draw.choices(pairs, k=len(pairs))
        found.append(score(task, [pair[0] for pair in chosen], [pair[1] for pair in chosen]))
    found.sort()
    return found[round(0.025 * draws)], found[round(0.975 * draws) - 1]


def measure(
    lm: SpeechLM, task: str, segments: Sequence[Segment], references: Sequence[str], setting: str
) -> Point:
    """Transcribe everything at one setting, written `schedule:positions:start:level`."""
    schedule, positions, start, level = setting.split(":")
    reduction = ReductionConfig("fastadasp", schedule, float(level), positions, 0.0, int(start))
    target = "de" if task == "st" else None
    config = RunConfig(task, reduction, target_language=target, batch_size=16)
    texts, full, reduced = [""] * len(segments), 0, 0
    with Engine(lm, config) as engine:
        for batch in engine.batches(segments):
            for found in engine.run(batch):
                texts[found.index] = found.text
                full += found.cost.prefill_full_flops
                reduced += found.cost.prefill_flops
    low, high = interval(task, references, texts)
    exact = sum(a == b for a, b in zip(references, texts, strict=True)) / len(texts)
    return Point(
        schedule,
        positions,
        int(start),
        float(level),
        1 - reduced / full,
        score(task, references, texts),
        low,
        high,
        exact,
    )


def main(
    manifest: Annotated[Path, typer.Argument(help="JSON lines: audio_filepath and reference.")],
    task: Annotated[str, typer.Option(help="asr | st.")] = "asr",
    model: Annotated[str, typer.Option(help="Id or folder.")] = "embedded",
    level: Annotated[list[float] | None, typer.Option(help="Cuts of prefill FLOPs.")] = None,
    schedule: Annotated[list[str] | None, typer.Option(help="Schedules.")] = None,
    positions: Annotated[list[str] | None, typer.Option(help="keep, reindex.")] = None,
    start: Annotated[list[int] | None, typer.Option(help="First layers.")] = None,
    limit: Annotated[int, typer.Option(help="Only the first recordings; 0 = all.")] = 0,
) -> None:
    """Measure word errors or BLEU against the cut of prefill FLOPs."""
    segments, references = read(manifest, "text" if task == "asr" else "translation")
    segments, references = segments[: limit or None], references[: limit or None]
    lm = load_model(model)
    settings = ["constant:keep:0:0"] + [
        f"{kind}:{rule}:{first}:{cut}"
        for kind in schedule or ["constant", "decay", "once"]
        for rule in positions or ["keep", "reindex"]
        for first in start or [0]
        for cut in level or [0.2, 0.5]
    ]
    points = [measure(lm, task, segments, references, setting) for setting in tqdm(settings)]
    table = Table("schedule", "positions", "start", "asked", "cut", task, "95 %", "exact")
    for point in points:
        table.add_row(
            point.schedule,
            point.positions,
            str(point.start_layer),
            f"{point.asked:.2f}",
            f"{point.reduction:.3f}",
            f"{point.score:.4f}",
            f"{point.low:.4f} - {point.high:.4f}",
            f"{point.sentences:.3f}",
        )
    Console().print(table)
    rows = [asdict(point) for point in points]
    typer.echo(json.dumps({"manifest": manifest.name, "n": len(segments), "rows": rows}))


if __name__ == "__main__":
    typer.run(main)
