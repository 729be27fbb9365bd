"""Received attention on a GPU: the Triton kernel against the plain code, in turn in one process.

`python -m benchmarks.kernels` takes random queries and keys of one layer of a shape, prints a table
and ends in one JSON line. Times are medians over rounds in which both run one after the other,
after a warm-up. `share` is the kernel's time over that of the layer's untouched products and
attention; `difference` is the largest one, relative to the plain code's number.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from core.engine.cost import Clock
from core.flops import SAMPLE_EVERY, DecoderShape, PromptLengths, scored_pairs
from core.reduction import attention, scores
from core.reduction.layout import AudioColumns
from core.studies.bench import shape_of

BEFORE, AFTER = 17, 14


@dataclass(frozen=True, slots=True)
class Result:
    """One length; `tflops` are the kernel's, by the count of the cost model."""

    audio_tokens: int
    every: int
    plain_ms: float
    kernel_ms: float
    layer_ms: float
    share: float
    tflops: float
    difference: float


def layer(size: DecoderShape, query: Tensor, key: Tensor) -> Callable[[], Tensor]:
    """What a layer of the untouched decoder computes at least: its matrices, fused attention."""
    hidden = torch.randn(query.shape[2], size.hidden, device=query.device, dtype=query.dtype)
    wide = (size.attention_linear + size.mlp) // (2 * size.hidden)
    weights = torch.randn(size.hidden, wide, device=query.device, dtype=query.dtype)
    scale = size.head_dim**-0.5

    def run() -> Tensor:
        hidden @ weights
        return attention.attend_plainly(query, key, key, None, scale)

    return run


def timed(sides: dict[str, Callable[[], Tensor]], device: torch.device, rounds: int) -> list[float]:
    """Median milliseconds of each."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    for run in sides.values():
        run()
    clock = Clock(device)
    for _ in range(rounds):
        for side, run in sides.items():
            clock.lap()
            run()
            times[side].append(1000 * clock.lap())
    return [median(found) for found in times.values()]


@torch.inference_mode()
def measure(
    size: DecoderShape, audio: int, device: torch.device, dtype: torch.dtype, rounds: int
) -> list[Result]:
    """The whole pass and the sampled one at one length."""
    from core.reduction.kernels import received_attention

    tokens = PromptLengths(BEFORE, audio, AFTER).total
    draw = torch.Generator().manual_seed(0)
    query, key = (
        torch.randn(1, tokens, heads, size.head_dim, generator=draw).to(device, dtype)
        for heads in (size.heads, size.kv_heads)
    )
    query, key = query.transpose(1, 2), key.transpose(1, 2)
    scale, columns = size.head_dim**-0.5, AudioColumns((BEFORE,), (audio,), (0,))
    lse = attention.attend(query, key, key, None, scale)[1]
    results = []
    for every in (1, SAMPLE_EVERY):
        seen = (query, key, lse, columns, None, scale, every)
        plain = scores.received_attention(*seen)
        difference = ((received_attention(*seen) - plain).abs() / plain).max().item()
        plain_ms, kernel_ms, layer_ms = timed(
            {
                "plain": partial(scores.received_attention, *seen),
                "kernel": partial(received_attention, *seen),
                "layer": layer(size, query, key),
            },
            device,
            rounds,
        )
        flops = scored_pairs(audio, AFTER, every) * size.pair / 2
        results.append(
            Result(
                audio_tokens=audio,
                every=every,
                plain_ms=plain_ms,
                kernel_ms=kernel_ms,
                layer_ms=layer_ms,
                share=kernel_ms / layer_ms,
                tflops=flops / kernel_ms / 1e9,
                difference=difference,
            )
        )
    return results


def main(
    audio: Annotated[list[int] | None, typer.Option(help="Audio tokens of the prompt.")] = None,
    shape: Annotated[str, typer.Option(help="Model shape.")] = "qwen2-audio-7b",
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    rounds: Annotated[int, typer.Option(help="Measured rounds.")] = 20,
) -> None:
    """Measure the received-attention pass of one layer."""
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks.kernels needs a CUDA device, and this torch sees none")
    size, device = shape_of(shape).decoder, torch.device("cuda")
    kind = getattr(torch, dtype)
    results = [
        row
        for length in audio or [750, 3000, 6000]
        for row in measure(size, length, device, kind, rounds)
    ]
    table = Table("audio", "1 query in", "plain ms", "kernel ms", "layer ms", "share", "TFLOP/s")
    for row in results:
        table.add_row(
            str(row.audio_tokens),
            str(row.every),
            f"{row.plain_ms:.3f}",
            f"{row.kernel_ms:.3f}",
            f"{row.layer_ms:.3f}",
            f"{row.share:.1%}",
            f"{row.tflops:.0f}",
        )
    Console().print(table)
    report = {"device": torch.cuda.get_device_name(device), "shape": shape, "dtype": dtype}
    typer.echo(json.dumps(report | {"rows": [asdict(row) for row in results]}))


if __name__ == "__main__":
    typer.run(main)
