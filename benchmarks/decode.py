"""Decoding behind a long audio prompt, against plain transformers `generate`, on random weights.

`python -m benchmarks.decode` prints a table and ends in one JSON line. Three sides run in turn, in
one process: `generate` of the untouched model with fused attention (SDPA) and its own cache, this
engine without reduction, and with it. Every side makes the same number of tokens. Decoding counts
from the choice of the first token to that of the last. Times are medians over the rounds; KV bytes
are those of the buffers, spare room included; peak memory is that of a child process that runs one
side alone, less what it held before.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.prefill import AFTER, BEFORE, SMALL, audio_like, config_of
from core.engine import cost
from core.engine.beams import beam_search
from core.engine.generate import Decoder, prefill
from core.engine.greedy import greedy
from core.flops import DecoderShape, PromptLengths
from core.methods import get_method
from core.reduction import Reduction, reducing
from core.scheduler import Schedule, solve

SHAPES = {
    "small": SMALL,
    "tiny": DecoderShape(  # for trying this program out
        hidden=64, layers=3, heads=4, kv_heads=2, head_dim=16, intermediate=96, vocab=512
    ),
}
PLAIN, FULL, REDUCED = "transformers", "full", "reduced"


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured; `reduce` is the share of prefill FLOPs to cut, `start` its first layer."""

    shape: str
    audio: int
    tokens: int
    reduce: float
    start: int
    device: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one side: seconds, bytes of the cache at the end, and the answer."""

    prefill_s: float
    decode_s: float
    kv_bytes: int
    ids: list[int]


@dataclass(frozen=True, slots=True)
class Result:
    """One side with one number of beams; ratios are medians of those within a round.

    Attributes:
        faster: its tokens per second over those of plain transformers.
        whole: its prefill and decode time over that of plain transformers.
        kv_smaller: KV bytes of plain transformers over its own.
        same_ids: whether its answer is that of plain transformers.
    """

    beams: int
    side: str
    reduction: float
    prefill_s: float
    decode_s: float
    spread: float
    tokens_per_s: float
    faster: float
    whole: float
    kv_bytes: int
    kv_smaller: float
    extra_peak_mib: float
    same_ids: bool


def now(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def build(setting: Setting) -> Any:
    """A Qwen2 language model of this shape with random weights."""
    from transformers import Qwen2ForCausalLM

    torch.manual_seed(0)
    model: Any = Qwen2ForCausalLM(config_of(SHAPES[setting.shape]))
    model = model.eval().to(setting.device, getattr(torch, setting.dtype))
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def plain_side(model: Any, embedded: Tensor, beams: int, tokens: int) -> Callable[[], Run]:
    """`generate` of the untouched model."""
    marks = list[float]()

    def mark(_: Tensor, scores: Tensor) -> Tensor:
        """A logits processor that only looks at the clock."""
        marks.append(now(scores.device))
        return scores

    def run() -> Run:
        marks.clear()
        begin = now(embedded.device)
        out = model.generate(
            inputs_embeds=embedded.unsqueeze(0),
            attention_mask=torch.ones(1, len(embedded), dtype=torch.long, device=embedded.device),
            max_new_tokens=tokens,
            num_beams=beams,
            do_sample=False,
            logits_processor=[mark],
            return_dict_in_generate=True,
        )
        end = now(embedded.device)
        held = sum(one.keys.nbytes + one.values.nbytes for one in out.past_key_values.layers)
        return Run(marks[0] - begin, end - marks[0], held, out.sequences[0].tolist())

    return run


def own_side(
    model: Any, embedded: Tensor, kept: tuple[int, ...], beams: int, tokens: int
) -> Callable[[], Run]:
    """This engine, with as many audio tokens in each layer as `kept` says."""
    decoder = Decoder(model.model, model.lm_head, model.get_input_embeddings(), ())
    prompt = PromptLengths(BEFORE, len(embedded) - BEFORE - AFTER, AFTER)
    reduction = Reduction(get_method("fastadasp"))

    def run() -> Run:
        marks: list[float] = []
        begin = now(embedded.device)
        with reducing(decoder.stack):
            start = prefill(decoder, [embedded], [prompt], [kept], reduction)

            def hook() -> None:
                marks.append(now(embedded.device))

            if beams == 1:
                answer = greedy(decoder, start, [tokens], hook)[0]
            else:
                answer = beam_search(decoder, start, [tokens], beams, hook)[0]
        end = now(embedded.device)
        held = sum(one.held_bytes for one in start.cache.layers)
        return Run(marks[0] - begin, end - marks[0], held, list(answer.ids))

    return run


def sides(
    model: Any, setting: Setting, beams: int
) -> Iterator[tuple[str, float, Callable[[], Run]]]:
    """Name, cut of prefill FLOPs, and what to run."""
    shape = SHAPES[setting.shape]
    prompt = PromptLengths(BEFORE, setting.audio, AFTER)
    torch.manual_seed(1)
    embedded = audio_like(prompt, shape.hidden).to(model.device, model.dtype)
    yield PLAIN, 0.0, plain_side(model, embedded, beams, setting.tokens)
    for name, target in ((FULL, 0.0), (REDUCED, setting.reduce)):
        schedule = Schedule("constant", setting.start, shape.layers)
        budget = solve(shape, schedule, prompt, target)
        yield name, budget.reduction, own_side(model, embedded, budget.kept, beams, setting.tokens)


@torch.inference_mode()
def measure(setting: Setting, beams: int, rounds: int) -> list[Result]:
    """All sides with this many beams."""
    table = list(sides(build(setting), setting, beams))
    for _, _, warm_up in table:
        warm_up()
    runs: dict[str, list[Run]] = {name: [] for name, _, _ in table}
    for _ in range(rounds):
        for name, _, run in table:
            runs[name].append(run())
    return [
        result(setting, beams, name, reduction, runs[name], runs[PLAIN])
        for name, reduction, _ in table
    ]


def result(
    setting: Setting, beams: int, side: str, reduction: float, mine: list[Run], plain: list[Run]
) -> Result:
    """Medians of one side's rounds, and of its ratios to plain transformers in the same rounds."""
    pairs = list(zip(mine, plain, strict=True))
    decode = [run.decode_s for run in mine]
    return Result(
        beams=beams,
        side=side,
        reduction=reduction,
        prefill_s=median(run.prefill_s for run in mine),
        decode_s=median(decode),
        spread=max(decode) - min(decode),
        tokens_per_s=(setting.tokens - 1) / median(decode),
        faster=median(other.decode_s / run.decode_s for run, other in pairs),
        whole=median(
            (run.prefill_s + run.decode_s) / (other.prefill_s + other.decode_s)
            for run, other in pairs
        ),
        kv_bytes=mine[0].kv_bytes,
        kv_smaller=plain[0].kv_bytes / mine[0].kv_bytes,
        extra_peak_mib=peak_of(setting, beams, side),
        same_ids=mine[0].ids == plain[0].ids,
    )


def peak_of(setting: Setting, beams: int, side: str) -> float:
    """MiB that one run of this side adds to a process of its own."""
    call = [sys.executable, "-m", "benchmarks.decode", "--peak", side, "--beams", str(beams)]
    for name, value in asdict(setting).items():
        call += [f"--{name}", str(value)]
    return float(subprocess.run(call, capture_output=True, text=True, check=True).stdout)


@torch.inference_mode()
def print_peak(setting: Setting, beams: int, side: str) -> None:
    """What `peak_of` asks for."""
    model = build(setting)
    run = next(run for name, _, run in sides(model, setting, beams) if name == side)
    # what it holds now, not what building the model took
    cost.reset_peak(model.device)
    before = cost.peak_bytes(model.device)
    run()
    typer.echo((cost.peak_bytes(model.device) - before) / 2**20)


def main(
    shape: Annotated[str, typer.Option(help=f"One of {', '.join(SHAPES)}.")] = "small",
    audio: Annotated[int, typer.Option(help="Audio tokens of the prompt.")] = 3000,
    tokens: Annotated[int, typer.Option(help="Tokens that every side makes.")] = 64,
    beams: Annotated[list[int] | None, typer.Option(help="Numbers of beams; 1 and 5.")] = None,
    reduce: Annotated[float, typer.Option(help="Share of prefill FLOPs to cut.")] = 0.5,
    start: Annotated[int, typer.Option(help="First layer that merges.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    rounds: Annotated[int, typer.Option(help="Measured rounds.")] = 5,
    peak: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure decoding: plain transformers, this engine in full and reduced, in turn."""
    setting = Setting(shape, audio, tokens, reduce, start, device, dtype)
    widths = beams or [1, 5]
    if peak:
        print_peak(setting, widths[0], peak)
        return
    rows = [row for width in widths for row in measure(setting, width, rounds)]
    columns = "beams|side|FLOPs cut|prefill s|decode s|spread|tokens/s|faster|whole|KV MiB|smaller"
    table = Table(*columns.split("|"), "+MiB", "same ids")
    for row in rows:
        table.add_row(
            str(row.beams),
            row.side,
            f"{row.reduction:.3f}",
            f"{row.prefill_s:.3f}",
            f"{row.decode_s:.3f}",
            f"{row.spread:.3f}",
            f"{row.tokens_per_s:.1f}",
            f"{row.faster:.2f}",
            f"{row.whole:.3f}",
            f"{row.kv_bytes / 2**20:.1f}",
            f"{row.kv_smaller:.2f}",
            f"{row.extra_peak_mib:.0f}",
            str(row.same_ids),
        )
    Console(width=120).print(table)
    found = {"threads": torch.get_num_threads(), **asdict(setting), "rows": list(map(asdict, rows))}
    typer.echo(json.dumps(found))


if __name__ == "__main__":
    typer.run(main)
