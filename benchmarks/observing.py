"""What it costs to count what a prefill really did: with and without, in turn, in one process.

`python -m benchmarks.observing` prints a table and ends in one JSON line. The side without counts
no slots, reads no widths and believes the plan. Times are medians over rounds; the ratio is the
median of those within a round.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Annotated, Any
from unittest.mock import patch

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.prefill import AFTER, BEFORE, SMALL, build, reduced_side, seconds_of
from core.flops import PromptLengths
from core.merge import Plan
from core.methods import get_method
from core.reduction import ReducedCache, passes
from core.scheduler import Schedule, solve
from core.studies.bench.shapes import audio_like


@dataclass(frozen=True, slots=True)
class Result:
    """Milliseconds of one prefill at a cut of 50 %, and the ratio with over without observing."""

    audio_tokens: int
    schedule: str
    observed_ms: float
    believed_ms: float
    ratio: float
    low: float
    high: float


@contextmanager
def believing() -> Iterator[None]:
    """Nothing is counted, nothing is held against the plan."""
    with (
        patch.object(passes, "_check", lambda *_: None),
        patch.object(Plan, "made", lambda plan: plan.slot),
        patch.object(ReducedCache, "observed", lambda cache: ()),
    ):
        yield


def measure(run: Callable[[], Any], rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of both sides in each round; who goes first changes from round to round."""
    observed, believed = [], []
    for number in range(rounds + 1):
        for side in (0, 1) if number % 2 else (1, 0):
            if side:
                with believing():
                    believed.append(seconds_of(run))
            else:
                observed.append(seconds_of(run))
    return observed[1:], believed[1:]


def main(
    audio: Annotated[str, typer.Option(help="Audio tokens, several.")] = "60,375,1500",
    rounds: Annotated[int, typer.Option(help="Measured rounds.")] = 21,
) -> None:
    """Prefill of the small shape, fastadasp, once and constant, with and without observing."""
    decoder, method = build(), get_method("fastadasp")
    results = []
    for tokens in map(int, audio.split(",")):
        prompt = PromptLengths(BEFORE, tokens, AFTER)
        embedded = audio_like(prompt, torch.empty(0, SMALL.hidden), 1)[0]
        for kind in ("once", "constant"):
            schedule = Schedule(kind, 0, SMALL.layers)
            budget = solve(SMALL, schedule, prompt, 0.5, scoring=method.scoring)
            run = reduced_side(decoder, embedded, prompt, budget, method)
            with torch.inference_mode():
                mine, other = measure(run, rounds)
            ratios = sorted(one / two for one, two in zip(mine, other, strict=True))
            quarter = len(ratios) // 4
            results.append(
                Result(
                    tokens,
                    kind,
                    1000 * median(mine),
                    1000 * median(other),
                    median(ratios),
                    ratios[quarter],
                    ratios[-1 - quarter],
                )
            )
    table = Table("audio", "schedule", "observed ms", "believed ms", "ratio", "middle half")
    for one in results:
        table.add_row(
            str(one.audio_tokens),
            one.schedule,
            f"{one.observed_ms:.1f}",
            f"{one.believed_ms:.1f}",
            f"{one.ratio:.4f}",
            f"{one.low:.3f} to {one.high:.3f}",
        )
    console = Console()
    console.print(table)
    console.file.write(json.dumps([asdict(one) for one in results]) + "\n")


if __name__ == "__main__":
    typer.run(main)
