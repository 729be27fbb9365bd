"""Prefill of a decoder, full against reduced, in turn in one process, on random weights.

`python -m benchmarks.prefill` prints a table and ends in one JSON line. The full side is the
untouched transformers decoder with fused attention (SDPA) and the head on the last position. Times
are medians over rounds in which all sides run one after the other. Peak memory is that of a child
process that runs one side alone, less what it held before.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from types import ModuleType
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from core.engine.generate import Decoder, prefill
from core.engine.peak import added_bytes
from core.flops import PromptLengths
from core.methods import Method, get_method
from core.reduction import Reduction, collecting, layers, reducing
from core.scheduler import Budget, Schedule, solve
from core.studies.bench import build_decoder, shape_of
from core.studies.bench.shapes import audio_like, parts

SHAPE = shape_of("small")
SMALL = SHAPE.decoder
BEFORE, AFTER = 17, 14
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Result:
    """One side at one length; `ratio` is its time over that of the full prefill."""

    audio_tokens: int
    side: str
    reduction: float
    seconds: float
    spread: float
    ratio: float
    merge_share: float
    received_share: float
    extra_peak_mib: float | None


def build() -> Decoder:
    """A decoder of the small shape with random weights, float32."""
    return parts(build_decoder(SHAPE, CPU, torch.float32))


def full_side(decoder: Decoder, embedded: Tensor) -> Callable[[], Tensor]:
    """The untouched decoder, logits at the last position."""

    def run() -> Tensor:
        hidden = decoder.stack(inputs_embeds=embedded.unsqueeze(0), use_cache=True)
        logits: Tensor = decoder.head(hidden.last_hidden_state[:, -1])
        return logits

    return run


def reduced_side(
    decoder: Decoder, embedded: Tensor, prompt: PromptLengths, budget: Budget, method: Method
) -> Callable[[], Tensor]:
    """The same prompt with audio tokens merged on the way."""
    reduction = Reduction(method, size_bias=method.size_bias)

    def run() -> Tensor:
        with reducing(decoder.stack):
            return prefill(decoder, [embedded], [prompt], [budget.kept], reduction).logits

    return run


@contextmanager
def stopwatch(**homes: ModuleType) -> Iterator[dict[str, float]]:
    """Seconds spent in functions, each by name in its module, while the context is open."""
    spent = dict.fromkeys(homes, 0.0)
    plain = {name: getattr(home, name) for name, home in homes.items()}

    def timed(name: str) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return plain[name](*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - begin

        return run

    try:
        for name, home in homes.items():
            setattr(home, name, timed(name))
        yield spent
    finally:
        for name, home in homes.items():
            setattr(home, name, plain[name])


def seconds_of(run: Callable[[], Tensor]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def peak_of(side: str, audio: int, reduce: float, start: int, name: str) -> float | None:
    """MiB that one prefill of this side adds to a process of its own; None where not known."""
    call = [sys.executable, "-m", "benchmarks.prefill", "--peak", side, "--audio", str(audio)]
    call += ["--reduce", str(reduce), "--start", str(start), "--method", name]
    told = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    found: float | None = json.loads(told)
    return found


def sides(
    decoder: Decoder, audio: int, reduce: float, start: int, name: str
) -> dict[str, tuple[Callable[[], Tensor], float]]:
    """Name -> (what to run, cut of prefill FLOPs)."""
    prompt = PromptLengths(BEFORE, audio, AFTER)
    embedded = audio_like(prompt, torch.empty(0, SMALL.hidden), 1)[0]
    found: dict[str, tuple[Callable[[], Tensor], float]] = {
        "full": (full_side(decoder, embedded), 0.0)
    }
    method = get_method(name)
    inside = ("once", "constant", "decay") if method.in_layer else ()
    for kind in (*inside, "input") if method.at_input else inside:
        schedule = Schedule(kind, start, SMALL.layers, method.most)
        budget = solve(SMALL, schedule, prompt, reduce, method.scoring)
        found[kind] = (reduced_side(decoder, embedded, prompt, budget, method), budget.reduction)
    return found


@torch.inference_mode()
def measure(audio: int, reduce: float, start: int, rounds: int, name: str) -> list[Result]:
    """All sides at one length."""
    decoder = build()
    table = sides(decoder, audio, reduce, start, name)
    for run, _ in table.values():
        run()
    times: dict[str, list[float]] = {side: [] for side in table}
    for _ in range(rounds):
        for side, (run, _) in table.items():
            times[side].append(seconds_of(run))
    results = []
    for side, (run, reduction) in table.items():
        # received attention is worked out inside of the merge, for what merges
        with stopwatch(_merge=layers, received_attention=collecting) as spent:
            whole = seconds_of(run)
        results.append(
            Result(
                audio_tokens=audio,
                side=side,
                reduction=reduction,
                seconds=median(times[side]),
                spread=max(times[side]) - min(times[side]),
                ratio=median(
                    mine / full for mine, full in zip(times[side], times["full"], strict=True)
                ),
                merge_share=(spent["_merge"] - spent["received_attention"]) / whole,
                received_share=spent["received_attention"] / whole,
                extra_peak_mib=peak_of(side, audio, reduce, start, name),
            )
        )
    return results


@torch.inference_mode()
def print_peak(side: str, audio: int, reduce: float, start: int, name: str) -> None:
    """What `peak_of` asks for."""
    decoder = build()
    run = sides(decoder, audio, reduce, start, name)[side][0]
    # what it holds now, not what building the model took
    added = added_bytes(CPU, run)
    typer.echo(json.dumps(None if added is None else added / 2**20))


def main(
    audio: Annotated[list[int] | None, typer.Option(help="Audio tokens of the prompt.")] = None,
    reduce: Annotated[float, typer.Option(help="Share of prefill FLOPs to cut.")] = 0.5,
    start: Annotated[int, typer.Option(help="First layer that merges.")] = 1,
    rounds: Annotated[int, typer.Option(help="Measured rounds.")] = 5,
    method: Annotated[str, typer.Option(help="Reduction method.")] = "fastadasp",
    peak: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure prefill, full and reduced in turn."""
    lengths = audio or [1500, 3000]
    if peak:
        print_peak(peak, lengths[0], reduce, start, method)
        return
    results = [row for length in lengths for row in measure(length, reduce, start, rounds, method)]
    table = Table("audio", "side", "FLOPs cut", "s", "spread", "time", "merge", "received", "+MiB")
    for row in results:
        table.add_row(
            str(row.audio_tokens),
            row.side,
            f"{row.reduction:.3f}",
            f"{row.seconds:.3f}",
            f"{row.spread:.3f}",
            f"{row.ratio:.3f}",
            f"{row.merge_share:.1%}",
            f"{row.received_share:.1%}",
            "-" if row.extra_peak_mib is None else f"{row.extra_peak_mib:.0f}",
        )
    Console().print(table)
    threads = torch.get_num_threads()
    typer.echo(json.dumps({"threads": threads, "rows": [asdict(row) for row in results]}))


if __name__ == "__main__":
    typer.run(main)
