"""Hostile files through the whole run: does one of them crash it, hang it or fill the memory?

`python -m benchmarks.fuzz [--files 2000] [--seed 0]` writes a folder of recordings whose headers
are mutated (twelve containers by turns) or lie about their length (10^12 samples in a kilobyte),
and runs over it with real discovery, decoding, cutting and storing; only the model is left out.
Ends in one JSON line; the exit code is 1 if a file has no record.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from benchmarks.hostile import CONTAINERS, corpus, liars
from core.flags import resolve
from core.media import apart
from core.media.discover import discover
from core.pipeline import Event, run
from core.records import Transcript
from core.results.store import Store
from tests.hearing import Hearing

TOLD = 100


def survive(folder: Path, number: int, seed: int) -> dict[str, Any]:
    """What became of `number` mutated files and the liars, written below `folder`."""
    names = set(_written(folder / "in", number, seed))
    records: dict[str, Transcript] = {}

    def watch(event: Event) -> None:
        if event.kind == "record" and event.record is not None:
            records[event.id] = event.record
            if len(records) % TOLD == 0:
                typer.echo(f"{len(records)} of {len(names)}", err=True)

    config = resolve(segment="fixed")
    begun = time.perf_counter()
    with Store(folder / "out", config.settings) as store:
        run(config, list(discover([str(folder / "in")])), store, on_event=watch, stages=Hearing())
    wall = time.perf_counter() - begun
    apart.end_all()  # the peak of a process is told when it has ended
    lines = (folder / "out" / "results.jsonl").read_bytes().splitlines()
    return {
        "files": len(names),
        "containers": list(CONTAINERS),
        "seed": seed,
        "records": len({json.loads(line)["id"] for line in lines} & names),
        "status": dict(Counter(record.status for record in records.values())),
        "decoder_crashed": _said(records, "crashed the decoder"),
        "decoder_failed": _said(records, "the decoder failed"),
        "too_much_memory": _said(records, "more memory"),
        "too_slow": _said(records, "too long"),
        "implausibly_long": _said(records, "header is damaged"),
        "slowest_file_s": round(max(one.latency.load_audio_s for one in records.values()), 1),
        "longest_sound_s": round(max(one.duration or 0.0 for one in records.values())),
        "wall_s": round(wall, 1),
        "decoder_peak_mib": _mib("RUSAGE_CHILDREN"),
        "run_peak_mib": _mib("RUSAGE_SELF"),
        "model": "none: every piece is answered alike",
    }


def _written(folder: Path, number: int, seed: int) -> Iterator[str]:
    folder.mkdir(parents=True)
    for name, data in (*liars(), *corpus(number, seed)):
        (folder / name).write_bytes(data)
        yield name


def _said(records: dict[str, Transcript], words: str) -> int:
    return sum(one.error is not None and words in one.error.message for one in records.values())


def _mib(who: str) -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return int(resource.getrusage(getattr(resource, who)).ru_maxrss // unit)


def main(
    files: Annotated[int, typer.Option(help="Mutated files; the liars come on top.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the mutations.")] = 0,
) -> None:
    """Run over a folder of hostile files."""
    with TemporaryDirectory() as folder:
        found = survive(Path(folder), files, seed)
    typer.echo(json.dumps(found))
    if found["records"] != found["files"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
