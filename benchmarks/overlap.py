"""Does the model wait for recordings? Its share of the wall time of a run over a folder.

`python -m benchmarks.overlap` transcribes copies of the short examples (or `--folder DIR`) by the
code of a run, with one thread for the model, so that decoding, speech detection and feature
extraction have the second core. `--long MINUTES` takes one recording of that length instead.

What is counted: `wall_s` from the moment when the model is loaded and no recording has been opened
yet, to the last record; `model_s`, the part of it inside the encoder, prefill and decoding; `busy`,
their ratio; `waited_s`, the part in which the model's thread waited for recordings. The rest is
what that thread does besides: prompts, records, the sink. A model slowed down by the readers would
seem busy, so `thread_cpu_s` tells how long its thread really computed: with one thread on an idle
machine it is hardly less than `model_s`. Ends in one JSON line.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.memory import write_speech
from core import pipeline
from core.config import RunConfig
from core.flags import resolve
from core.media.discover import discover
from core.results.store import MemorySink
from core.stages import Rooms, Stopwatch

EXAMPLES = Path(__file__).parent.parent / "examples" / "audio"
SHORT = ("kitchen.wav", "market.flac", "station.mp3", "garden.ogg", "harbour.flac")


class Watched(Rooms):
    """The real rooms, with a stopwatch on the way of the segments to the engine."""

    def __init__(self) -> None:
        """Nothing has been waited for."""
        self.waiting, self.ready_at = Stopwatch(), 0.0

    def start(self, config: RunConfig) -> tuple[Any, Any]:
        """Load the model; what its thread computes counts from here on."""
        lm, engine = super().start(config)
        plain: Any = engine
        transcribe = plain.transcribe
        plain.transcribe = lambda segments: transcribe(self.waiting.timed(segments))
        self.ready_at = time.thread_time()
        return lm, engine


def measure(folder: Path, threads: int, flags: dict[str, Any]) -> dict[str, Any]:
    """Transcribe a folder and add up where the time went."""
    torch.set_num_threads(threads)
    sink, rooms = MemorySink(), Watched()
    config = resolve(**flags)
    found = list(discover([str(folder)]))
    report = pipeline.run(config, found, sink, on_event=_tell, stages=rooms)
    computed = time.thread_time() - rooms.ready_at
    spent = [record.latency for record in sink.records.values()]
    return {
        "recordings": report.ok,
        "failed": report.failed + report.partial,
        "audio_s": round(report.audio_s, 1),
        "wall_s": round(report.wall_s, 2),
        "model_s": round(report.model_s, 2),
        "busy": round(report.model_s / report.wall_s, 4),
        "waited_s": round(rooms.waiting.seconds, 2),
        "thread_cpu_s": round(computed, 2),
        "decode_files_s": round(sum(one.load_audio_s for one in spent), 2),
        "segment_and_features_s": round(sum(one.segment_s for one in spent), 2),
        "x_real_time": round(report.audio_s / report.wall_s, 2),
    }


def _tell(event: pipeline.Event) -> None:
    if event.kind == "record":
        print(".", end="", file=sys.stderr, flush=True)  # noqa: T201


def main(
    files: Annotated[int, typer.Option(help="Copies of the short examples.")] = 200,
    folder: Annotated[Path | None, typer.Option(help="In their place.")] = None,
    long: Annotated[float, typer.Option(help="Minutes of one recording, in their place.")] = 0.0,
    threads: Annotated[int, typer.Option(help="Of the model.")] = 1,
    reduce: Annotated[float, typer.Option(help="Cut of prefill FLOPs.")] = 0.2,
    model: Annotated[str, typer.Option(help="Id or folder.")] = "embedded",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Measure how busy the model is."""
    flags = {"reduce": reduce, "model": model, "device": device}
    with tempfile.TemporaryDirectory() as made:
        if long:
            write_speech(Path(made) / "long.wav", long * 60)
        for number in range(0 if folder or long else files):
            name = SHORT[number % len(SHORT)]
            shutil.copyfile(EXAMPLES / name, Path(made) / f"{number:04d}-{name}")
        found = measure(folder or Path(made), threads, flags)
    typer.echo(json.dumps({**found, "threads": threads, **flags}))


if __name__ == "__main__":
    typer.run(main)
