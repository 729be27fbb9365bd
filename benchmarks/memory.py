"""Is memory flat in the length of a recording and in the number of recordings?

`python -m benchmarks.memory` reads a recording of ten minutes, one of ten hours and a folder of
ten thousand short ones, each in a process of its own: real files are found, decoded, searched for
speech, cut, queued and stored with their records, by the code of a run. The language model is
left out: every segment is answered at once with a sentence, which shows the memory of all the rest
and nothing else. `--real 10,60` adds recordings of so many minutes that the embedded model
transcribes. Each case gives the memory at the moment when the model is ready (`base`) and the most
that the process held afterwards (`peak`); what counts is peak - base. Ends in one JSON line.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import torch
import typer

from core import pipeline
from core.engine.batching import Waiting
from core.engine.peak import peak_bytes, reset_peak
from core.flags import resolve
from core.media.decode import decode
from core.media.discover import discover
from core.records import Cost, Hypothesis, Segment
from core.results.store import Store
from core.stages import Rooms
from tests.hearing import Hearing

EXAMPLES = Path(__file__).parent.parent / "examples" / "audio"
SPEECH, SHORT = EXAMPLES / "long.ogg", EXAMPLES / "station.mp3"
ROWS = 16
CPU = torch.device("cpu")
SENTENCE = "the quick brown fox jumps over the lazy dog and comes home late"
COST = Cost(1.5, 1.5, 1.5, 1.5, *[10**9 + 7] * 14)


class Echo:
    """Answers in the order and with the look-ahead of the engine, without a model."""

    def transcribe(self, segments: Iterator[Segment]) -> Iterator[Hypothesis]:
        """A sentence for each segment."""
        jobs: Any = (SimpleNamespace(segment=segment, kind=0, stem=None) for segment in segments)
        waiting = Waiting(jobs, ROWS)
        while group := waiting.take(ROWS, lambda jobs: True):
            for number, job in enumerate(group):
                one = job.segment
                text = f"{SENTENCE} {one.recording_id} {one.index} {number}"
                yield Hypothesis(one.recording_id, one.index, one.start, one.end, text, COST, ROWS)


def no_model() -> Rooms:
    """The real rooms, but for the model."""
    return Hearing(Echo(), chunk_seconds=5)


def write_speech(path: Path, seconds: float) -> None:
    """A recording of that length at 8 kHz: the example's speech, again and again."""
    import soundfile

    blocks = list(decode(SPEECH, 8_000))
    left = round(seconds * 8_000)
    with soundfile.SoundFile(path, "w", 8_000, 1, "ULAW") as file:
        while left > 0:
            for block in blocks:
                file.write(block[: max(0, left)])
                left -= len(block)


def run_case(folder: Path, real: bool) -> dict[str, Any]:
    """Transcribe a folder in this process."""
    torch.set_num_threads(1)
    deque(decode(SHORT), maxlen=0)  # the libraries are no part of what is measured
    base = 0

    def watch(event: pipeline.Event) -> None:
        nonlocal base
        if event.kind == "started":
            if not reset_peak(CPU):
                raise SystemExit("this system cannot count the peak anew: nothing to compare")
            base = peak_bytes(CPU) or 0

    config = resolve()
    begun = time.perf_counter()
    recordings = list(discover([str(folder / "in")]))
    with Store(folder / "out", config.settings) as store:
        stages = Rooms() if real else no_model()
        report = pipeline.run(config, recordings, store, on_event=watch, stages=stages)
    peak = peak_bytes(CPU) or 0
    return {
        "recordings": report.ok,
        "failed": report.failed + report.partial,
        "audio_h": round(report.audio_s / 3600, 3),
        "wall_s": round(time.perf_counter() - begun, 1),
        "base_mb": round(base / 1e6, 1),
        "peak_mb": round(peak / 1e6, 1),
        "added_mb": round((peak - base) / 1e6, 1),
    }


def measure(name: str, seconds: float, files: int, real: bool) -> dict[str, Any]:
    """One case in a process of its own."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "in").mkdir()
        for number in range(files):
            shutil.copyfile(SHORT, folder / "in" / f"{number:05d}.mp3")
        if seconds:
            write_speech(folder / "in" / "long.wav", seconds)
        print(f"{name} ...", file=sys.stderr, flush=True)  # noqa: T201
        asked = [sys.executable, "-m", "benchmarks.memory", "--case", made]
        done = subprocess.run(
            [*asked, *(["--with-model"] if real else [])], stdout=subprocess.PIPE, check=True
        )
    found: dict[str, Any] = {"case": name, **json.loads(done.stdout.splitlines()[-1])}
    print(found, file=sys.stderr, flush=True)  # noqa: T201
    return found


def main(
    hours: Annotated[float, typer.Option(help="Length of the long recording.")] = 10,
    files: Annotated[int, typer.Option(help="Number of the short recordings.")] = 10_000,
    minutes: Annotated[float, typer.Option(help="Length of what they are compared with.")] = 10,
    real: Annotated[str, typer.Option(help="Minutes, with commas, for the real model.")] = "",
    case: Annotated[Path | None, typer.Option(hidden=True)] = None,
    with_model: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Measure all cases."""
    if case is not None:
        typer.echo(json.dumps(run_case(case, with_model)))
        return
    cases = [
        measure(f"{minutes:g} min", minutes * 60, 0, False),
        measure(f"{hours:g} h", hours * 3600, 0, False),
        measure(f"{files} files", 0, files, False),
    ]
    for one in filter(None, real.split(",")):
        cases.append(measure(f"{one} min, embedded", float(one) * 60, 0, True))
    whole = [round(one["peak_mb"] / cases[0]["peak_mb"], 3) for one in cases[1:3]]
    added = [round(one["added_mb"] / cases[0]["added_mb"], 3) for one in cases[1:3]]
    result = {"cases": cases, "peak_ratio": max(whole), "added_ratio": max(added), "limit": 1.5}
    typer.echo(json.dumps({**result, "language_model": "left out, but where a case names one"}))


if __name__ == "__main__":
    typer.run(main)
