"""What does it bring to prefill once what the tasks of a recording have in common?

`python -m benchmarks.tasks INPUT...` asks asr, st and er of recordings cut at fixed times, with one
prefill for each piece and with one for each task, in turn and in one process; the first round does
not count. Medians of the rounds: seconds of prefill as the answers' costs have them, seconds in
all, and GFLOPs of prefill; and how many texts differ. Ends in one JSON line.
"""

from __future__ import annotations

import json
import time
from statistics import median
from typing import Annotated, Any
from unittest.mock import patch

import typer

from core.engine import Engine, runner
from core.engine.stems import stems as common
from core.flags import resolve_tasks
from core.media.discover import discover
from core.models import load_model
from core.stages import Rooms

SIDES = {"once": common, "apart": lambda jobs: []}


def main(
    inputs: Annotated[list[str], typer.Argument(help="Recordings or folders.")],
    preset: Annotated[str, typer.Option(help="none or asr-aggressive.")] = "none",
    model: Annotated[str, typer.Option(help="Id or folder.")] = "embedded",
    rounds: Annotated[int, typer.Option(help="That count.")] = 5,
) -> None:
    """Measure both ways."""
    flags: dict[str, Any] = {"preset": preset, "segment": "fixed", "model": model}
    config, lm = resolve_tasks(task="asr,st,er", lang="de", **flags), load_model(model)
    read = Rooms().reader(config, lm)
    pieces = [one for recording in discover(inputs) for one in read(recording, lambda: None)]
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in SIDES}
    texts: dict[str, dict[Any, str]] = {}
    with Engine(lm, config) as engine:
        for name, stems in [*SIDES.items()] * (rounds + 1):
            began = time.perf_counter()
            with patch.object(runner, "stems", stems):
                answers = list(engine.transcribe(pieces))
            wall, cost = time.perf_counter() - began, [one.cost for one in answers]
            flops = sum(one.prefill_flops for one in cost) / 1e9
            found[name].append((sum(one.prefill_s for one in cost), wall, flops))
            texts[name] = {(one.recording_id, one.index, one.task): one.text for one in answers}
    medians = {name: [median(one) for one in zip(*rows[1:])] for name, rows in found.items()}  # noqa: B905
    for name, (prefill, wall, flops) in medians.items():
        typer.echo(f"{name:6} prefill {prefill:7.2f} s  in all {wall:7.2f} s  {flops:8.1f} GFLOPs")
    differ = sum(text != texts["apart"][key] for key, text in texts["once"].items())
    typer.echo(json.dumps({**medians, "texts": len(texts["once"]), "differ": differ, **flags}))


if __name__ == "__main__":
    typer.run(main)
