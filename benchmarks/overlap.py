"""Does the model wait for recordings? Its share of the wall time of a run over a folder.

`python -m benchmarks.overlap` transcribes copies of the short examples (or `--folder DIR`) by the
code of a run, with one thread for the model, so that decoding, speech detection and feature
extraction have the second core. `busy` is encoder + prefill + decoding over the wall time from
the moment when the model is ready; `reading` is what the reading threads spent in that time. Ends
in one JSON line.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from core import pipeline
from core.flags import resolve
from core.media.discover import discover
from core.results.store import MemorySink

EXAMPLES = Path(__file__).parent.parent / "examples" / "audio"
SHORT = ("kitchen.wav", "market.flac", "station.mp3", "garden.ogg", "harbour.flac")


def measure(folder: Path, threads: int, flags: dict[str, Any]) -> dict[str, Any]:
    """Transcribe a folder and add up where the time went."""
    torch.set_num_threads(threads)
    sink = MemorySink()
    config = resolve(**flags)
    report = pipeline.run(config, list(discover([str(folder)])), sink, on_event=_tell)
    spent = [record.latency for record in sink.records.values()]
    return {
        "recordings": report.ok,
        "failed": report.failed + report.partial,
        "audio_s": round(report.audio_s, 1),
        "wall_s": round(report.wall_s, 2),
        "model_s": round(report.model_s, 2),
        "busy": round(report.model_s / report.wall_s, 4),
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
    threads: Annotated[int, typer.Option(help="Of the model.")] = 1,
    reduce: Annotated[float, typer.Option(help="Cut of prefill FLOPs.")] = 0.2,
    model: Annotated[str, typer.Option(help="Id or folder.")] = "embedded",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Measure how busy the model is."""
    flags = {"reduce": reduce, "model": model, "device": device}
    with tempfile.TemporaryDirectory() as made:
        for number in range(0 if folder else files):
            name = SHORT[number % len(SHORT)]
            shutil.copyfile(EXAMPLES / name, Path(made) / f"{number:04d}-{name}")
        found = measure(folder or Path(made), threads, flags)
    typer.echo(json.dumps({**found, "threads": threads, **flags}))


if __name__ == "__main__":
    typer.run(main)
