"""A decode step three ways: over memory that moves, over memory that stays, and played back.

`python -m benchmarks.decode --shape qwen2-audio-7b --seconds 240` takes random weights, prefills
one prompt for each way and takes the same steps behind it; a table, and at the end one JSON line.
`moving` is what a CPU does, `staying` adds the Triton kernel, `played` the CUDA graph; the last two
need a GPU. Times are medians over the steps that each way takes once it has settled; `of bandwidth`
is the share of this machine's best that reading weights and cache once takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from core.config import ReductionConfig
from core.engine.cost import Clock
from core.engine.generate import Decoder, Prefilled, prefill, step
from core.engine.reducer import reducer
from core.engine.steps import PLAIN_STEPS, Steps
from core.models.load import place_of
from core.reduction import reducing, splits
from core.studies.bench import Setting, build_decoder, measure_limits, shape_of
from core.studies.bench.measure import work_of
from core.studies.bench.shapes import parts
from core.studies.bench.sides import Work

MOVING, STAYING, PLAYED = "moving", "staying", "played"
SETTLED = PLAIN_STEPS + 2  # the recording and its first playing are not steps like others

Take = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True, slots=True)
class Result:
    """One way at one level; `difference` of the last logits is from those of `moving`."""

    way: str
    cut: float
    beams: int
    ms: float
    of_bandwidth: float
    difference: float


def taking(way: str, decoder: Decoder, start: Prefilled, beams: int, steps: int) -> Take:
    """What takes one step."""
    cache, device = start.cache, start.logits.device
    if way == PLAYED:
        return Steps(decoder, cache, beams, steps, device).take
    cache.begin(beams, steps, device)
    if way == STAYING:
        cache.fix()

    def take(tokens: Tensor, position: Tensor, parents: Tensor | None) -> Tensor:
        cache.advance()
        return step(decoder, cache, tokens, position, parents)

    return take


@torch.inference_mode()
def measure(work: Work, setting: Setting, cut: float, bandwidth: float) -> list[Result]:
    """All ways that this device has, one after the other."""
    shape, batch, beams = setting.size.decoder, setting.batch, setting.beams
    wanted = ReductionConfig(setting.method, setting.schedule, 0.0, "keep", 0.0, setting.start)
    how = reducer(wanted, shape)
    kept, decoder = how.solve(work.prompt, cut).kept, parts(work.model)
    results, first = list[Result](), torch.zeros(())
    with reducing(decoder.stack):
        for way in (MOVING, STAYING, PLAYED):
            prompts = [work.prompt] * batch
            start = prefill(decoder, list(work.embedded), prompts, [kept] * batch, how.how)
            if way != MOVING and not splits(start.cache.layers):
                break
            take, times = taking(way, decoder, start, beams, setting.tokens), list[float]()
            clock = Clock(work.device)
            for number in range(setting.tokens):
                fed = torch.full((batch * beams,), number, device=work.device)
                parents = torch.arange(beams, device=work.device).flip(0).expand(batch, -1)
                clock.lap()
                logits = take(fed, fed + work.prompt.total, parents if beams > 1 else None)
                times.append(1000 * clock.lap())
            first = logits.clone() if way == MOVING else first
            slots = sum(layer.length for layer in start.cache.layers)
            value_bytes = work.embedded.element_size()
            moved = shape.weights * value_bytes + batch * shape.kv_bytes(slots, value_bytes)
            ms = median(times[SETTLED:])
            share = moved / (ms / 1000) / bandwidth
            away = (logits - first).abs().max().item()
            results.append(Result(way, cut, beams, ms, share, away))
    return results


def main(
    shape: Annotated[str, typer.Option(help="Model shape.")] = "qwen2-audio-7b",
    seconds: Annotated[float, typer.Option(help="Of audio in one prompt.")] = 240,
    reduce: Annotated[list[float] | None, typer.Option(help="Cuts of prefill FLOPs.")] = None,
    num_beams: Annotated[list[int] | None, typer.Option(help="Beams.")] = None,
    batch: Annotated[int, typer.Option(help="Equal prompts at once.")] = 1,
    tokens: Annotated[int, typer.Option(help="Steps of each way, more than 8.")] = 48,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.")] = "auto",
) -> None:
    """Measure the step on one shape."""
    where, kind = place_of(device, dtype, shape_of(shape).decoder.weights)
    model: Any = build_decoder(shape_of(shape), where, kind)
    limits = measure_limits(where, kind)
    rows = [
        row
        for beams in num_beams or [1, 5]
        for cut in reduce or [0.0, 0.5]
        for setting in [Setting(shape, seconds, beams, batch, tokens)]
        for row in measure(work_of(setting, model), setting, cut, limits.bandwidth)
    ]
    table = Table("beams", "cut", "way", "ms a step", "of bandwidth", "difference")
    for row in rows:
        table.add_row(
            str(row.beams),
            f"{row.cut:.0%}",
            row.way,
            f"{row.ms:.2f}",
            f"{row.of_bandwidth:.0%}",
            f"{row.difference:.2g}",
        )
    Console(stderr=True).print(table)
    report = {"shape": shape, "seconds": seconds, "batch": batch, "device": str(where)}
    report |= {"dtype": str(kind).removeprefix("torch."), "bandwidth": limits.bandwidth}
    typer.echo(json.dumps(report | {"rows": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    typer.run(main)
