"""Does a full machine pay? Continuous batching against static batches and plain transformers.

`python -m benchmarks.continuous MANIFEST` answers every recording of the manifest that fits the
model's window as one piece, on four sides that run in turn, in one process, after a warm-up: plain
`generate` of transformers, one recording after the other, and by 16 in the manifest's order; this
engine by 16 in that order, each batch encoded, prefilled and decoded to its end as one; and this
engine with continuous batching, as a run does it. Times are medians over the rounds. Ends in one
JSON line, which also says which texts of the two engine sides differ; the full model is asked about
them as in `benchmarks.batches`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from statistics import median
from typing import Annotated, Any
from unittest.mock import patch

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.batches import gap, plain, read
from core.config import ReductionConfig, RunConfig
from core.engine import Engine, windows
from core.models import load_model
from core.models.base import Request, SpeechLM
from core.records import Segment
from core.reduction import reducing

Texts = list[str]
Side = Callable[[], Texts]
PLAIN, PLAIN_STATIC = "transformers", "transformers, static"
STATIC, CONTINUOUS = "static", "continuous"


def plain_side(lm: SpeechLM, config: RunConfig, segments: Sequence[Segment], size: int = 1) -> Side:
    """`generate` of the untouched model, so many recordings at a time."""
    return lambda: list(plain(lm, config, segments, size))


def static_side(lm: SpeechLM, config: RunConfig, segments: Sequence[Segment], size: int) -> Side:
    """Batches in the order given, each as one to its end."""
    runner = Engine(lm, config).runner

    def answered(batch: Sequence[Segment]) -> Iterator[str]:
        jobs = [runner.job(segment) for segment in batch]
        yield from (found.text for found in runner.search(runner.start(jobs), jobs))

    def run() -> Texts:
        batches = (segments[first : first + size] for first in range(0, len(segments), size))
        with reducing(lm.decoder), patch.object(windows, "CPU_PORTION", inf):
            return [text for batch in batches for text in answered(batch)]

    return run


def continuous_side(lm: SpeechLM, config: RunConfig, segments: Sequence[Segment]) -> Side:
    """All of them as one stream."""
    engine = Engine(lm, config)

    def run() -> Texts:
        with engine:
            return [found.text for found in engine.run(segments)]

    return run


def measure(sides: dict[str, Side], rounds: int) -> tuple[dict[str, list[float]], dict[str, Texts]]:
    """Seconds of every round, and the texts of each side."""
    texts = {name: run() for name, run in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            begin = time.perf_counter()
            run()  # every text has come back from the device
            seconds[name].append(time.perf_counter() - begin)
    return seconds, texts


def summary(seconds: dict[str, list[float]], texts: dict[str, Texts]) -> dict[str, Any]:
    """Medians of each side, and of its ratios to plain transformers within a round."""
    return {
        name: {
            "recordings_per_s": round(len(texts[name]) / median(times), 3),
            "seconds": round(median(times), 4),
            "spread": round(max(times) - min(times), 4),
            "faster": round(median(a / b for a, b in zip(seconds[PLAIN], times, strict=True)), 3),
            "same_texts": texts[name] == texts[PLAIN],
        }
        for name, times in seconds.items()
    }


def differences(
    lm: SpeechLM, config: RunConfig, segments: Sequence[Segment], texts: dict[str, Texts]
) -> list[dict[str, Any]]:
    """Where the two engine sides part, and what the full model thought of it."""
    request = Request(config.task, target_language=config.target_language)
    return [
        {
            "recording": segment.recording_id,
            STATIC: one,
            CONTINUOUS: other,
            "gap": gap(lm, request, segment, one, other),
        }
        for segment, one, other in zip(segments, texts[STATIC], texts[CONTINUOUS], strict=True)
        if one != other
    ]


def show(found: dict[str, Any]) -> None:
    """The table, on stderr."""
    columns = ("recordings_per_s", "seconds", "spread", "faster", "same_texts")
    table = Table("side", *columns)
    for name, row in found.items():
        table.add_row(name, *(str(row[column]) for column in columns))
    Console(stderr=True).print(table)


def main(
    manifest: Annotated[Path, typer.Argument(help="JSON lines with audio_filepath.")],
    task: Annotated[str, typer.Option(help="asr or st.")] = "asr",
    model: Annotated[str, typer.Option(help="Id or folder.")] = "embedded",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    reduce: Annotated[float, typer.Option(help="Cut of prefill FLOPs of both engine sides.")] = 0.0,
    batch: Annotated[int, typer.Option(help="Recordings of a static batch.")] = 16,
    rows: Annotated[int, typer.Option(help="Rows of the continuous side; 0 = auto.")] = 16,
    repeat: Annotated[int, typer.Option(help="How often the manifest is gone through.")] = 1,
    rounds: Annotated[int, typer.Option(help="Measured rounds.")] = 3,
) -> None:
    """Measure recordings per second on all four sides."""
    settings = {name: value for name, value in locals().items() if name != "manifest"}
    lm = load_model(model, device=device, dtype=dtype)
    fitting = [one for one in read(manifest) if one.duration <= lm.facts.max_seconds]
    segments = [replace(one, index=n) for n, one in enumerate(fitting * repeat)]
    reduction = ReductionConfig("fastadasp", "constant", reduce, "keep", 0.0, 0)
    static, continuous = (
        RunConfig(task, reduction, target_language="de" if task == "st" else None, batch_size=size)
        for size in (batch, rows or None)
    )
    sides = {
        PLAIN: plain_side(lm, static, segments),
        PLAIN_STATIC: plain_side(lm, static, segments, batch),
        STATIC: static_side(lm, static, segments, batch),
        CONTINUOUS: continuous_side(lm, continuous, segments),
    }
    seconds, texts = measure(sides, rounds)
    found, parted = summary(seconds, texts), differences(lm, static, segments, texts)
    show(found)
    settings |= {"device": str(lm.device), "dtype": str(lm.dtype).removeprefix("torch.")}
    result = {"manifest": manifest.as_posix(), **settings, "threads": torch.get_num_threads()}
    result |= {"recordings": len(segments), "sides": found, "identical": not parted}
    typer.echo(json.dumps({**result, "differences": parted}))


if __name__ == "__main__":
    typer.run(main)
