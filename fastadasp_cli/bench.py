"""`fastadasp bench`: what a model of some size costs on this machine, this way and others."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import UsageError

from . import console
from . import options as opt
from .run import prepare

if TYPE_CHECKING:
    from core.studies.bench import Setting

Shape = Annotated[
    str,
    typer.Option(
        "--shape",
        help="tiny | embedded | small | voxtral-3b | qwen2-audio-7b.",
        rich_help_panel=opt.WHAT,
    ),
]
Lengths = Annotated[
    str,
    typer.Option(
        "--seconds",
        metavar="LIST",
        help="Seconds of audio in one prompt.",
        rich_help_panel=opt.WHAT,
    ),
]
Batch = Annotated[
    int,
    typer.Option(
        "--batch", metavar="N", min=1, help="Equal prompts at once.", rich_help_panel=opt.WHAT
    ),
]
Tokens = Annotated[
    int,
    typer.Option(
        "--tokens", metavar="N", min=2, help="Tokens to generate.", rich_help_panel=opt.WHAT
    ),
]
Rounds = Annotated[
    int,
    typer.Option("--rounds", metavar="N", min=1, help="Measured rounds.", rich_help_panel=opt.WHAT),
]
Against = Annotated[
    str,
    typer.Option(
        "--against",
        metavar="LIST|none",
        help="transformers (generate with SDPA), static (its static cache, compiled on a GPU),"
        " published (the same cut by attention maps and token loops).",
        rich_help_panel=opt.HOW,
    ),
]
NoMemory = Annotated[
    bool,
    typer.Option("--no-memory", help="Do not measure peak memory.", rich_help_panel=opt.OUTPUT),
]


def bench(
    shape: Shape = "small",
    seconds: Lengths = "30,120",
    beams: opt.Beams = "1,5",
    levels: opt.Levels = "0,0.5",
    batch: Batch = 1,
    tokens: Tokens = 64,
    rounds: Rounds = 3,
    against: Against = "transformers,static,published",
    method: opt.Method = None,
    schedule: opt.Schedule = None,
    start_layer: opt.StartLayer = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    no_memory: NoMemory = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
    no_progress: opt.NoProgress = False,
    verbose: opt.Verbose = False,
) -> None:
    """Cost tables of a model size with random weights: no download, no recordings.

    All sides run in turn, in one process, after a warm-up; times are medians. Beside them stand
    the limits of the machine: its best matrix product and its best copy.
    """
    lengths = opt.numbers("--seconds", seconds, float)
    widths = opt.numbers("--num-beams", beams, int)
    cuts = opt.numbers("--reduce", levels, float)
    if min((*lengths, *widths)) <= 0 or not all(0 <= cut < 1 for cut in cuts):
        raise UsageError("--seconds and --num-beams are above 0, --reduce lies from 0 to below 1")
    prepare(offline=True, verbose=verbose)
    from core.studies.bench import Setting

    setting = Setting(
        shape=shape,
        seconds=lengths[0],
        batch=batch,
        tokens=tokens,
        reduce=cuts,
        method=method or "fastadasp",
        schedule=schedule or "constant",
        start=1 if start_layer is None else start_layer,
        against=() if against == "none" else opt.words(against),
        rounds=rounds,
    )
    with _progress(quiet=quiet, no_progress=no_progress) as tell:
        found = _measured(setting, (lengths, widths), (device, dtype), not no_memory, tell)
    if as_json:
        typer.echo(json.dumps(found))
        return
    _show(found)


def _measured(
    setting: Setting,
    grid: tuple[Sequence[float], Sequence[int]],
    place: tuple[str, str],
    memory: bool,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Everything that was found, as it goes into JSON."""
    from dataclasses import asdict, replace

    import torch

    from core.models.load import place_of
    from core.studies.bench import build_decoder, measure, measure_limits
    from core.studies.bench.setting import entrants

    where, number = place_of(*place, setting.size.decoder.weights)
    settings = [replace(setting, seconds=s, beams=width) for s in grid[0] for width in grid[1]]
    for one in settings:
        list(entrants(one))  # what cannot be is said before anything is built
    tell("limits of this machine")
    limits = measure_limits(where, number)
    tell(f"building {setting.shape}")
    model = build_decoder(setting.size, where, number)
    rows: list[Any] = []
    left_out: list[str] = []
    for one in settings:
        found, failed = measure(one, model, limits, tell, memory)
        rows += [row.to_json() for row in found]
        left_out += [
            f"{one.seconds:g} s, beams {one.beams}: {who}: {why}" for who, why in failed.items()
        ]
    return {
        "shape": setting.shape,
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else str(where),
        "dtype": str(number).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "method": setting.method,
        "schedule": setting.schedule,
        "start_layer": setting.start,
        "batch": setting.batch,
        "tokens": setting.tokens,
        "rounds": setting.rounds,
        "limits": asdict(limits),
        "left_out": left_out,
        "rows": rows,
    }


@contextmanager
def _progress(*, quiet: bool, no_progress: bool) -> Iterator[Callable[[str], None]]:
    """What is told is the line beside a spinner, or nothing."""
    if quiet or no_progress or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield status.update


_COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "audio s": lambda row: f"{row['seconds']:g}",
    "beams": lambda row: str(row["beams"]),
    "side": lambda row: row["side"],
    "cut": lambda row: f"{row['cut']:.1%}",
    "encoder s": lambda row: f"{row['encode_s']:.3f}",
    "prefill s": lambda row: f"{row['prefill_s']:.3f}",
    "/ plain": lambda row: _ratio(row["prefill_ratio"], "{:.3f}"),
    "of peak": lambda row: f"{row['of_flops']:.0%}",
    "first token s": lambda row: f"{row['first_token_s']:.3f}",
    "decode s": lambda row: f"{row['decode_s']:.3f}",
    "tokens/s": lambda row: f"{row['tokens_per_s']:.1f}",
    "x plain": lambda row: _ratio(row["decode_speedup"], "{:.2f}"),
    "of bandwidth": lambda row: f"{row['of_bandwidth']:.0%}",
    "RTF": lambda row: f"{row['rtf']:.4f}",
    "RTF / plain": lambda row: _ratio(row["rtf_ratio"], "{:.3f}"),
    "KV MB": lambda row: f"{row['kv_bytes'] / 1e6:.1f}",
    "x smaller": lambda row: _ratio(row["kv_smaller"], "{:.2f}"),
    "+MB": lambda row: "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f}",
    "spread": lambda row: f"{row['spread']:.0%}",
}


def _ratio(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _show(found: dict[str, Any]) -> None:
    limits = found["limits"]
    title = (
        f"{found['shape']} on {found['device']}, {found['dtype']}, {found['threads']} threads,"
        f" torch {found['torch']}: {found['method']}, {found['schedule']} from layer"
        f" {found['start_layer']}, batch {found['batch']}, {found['tokens']} tokens, medians of"
        f" {found['rounds']} rounds; limits {limits['flops'] / 1e9:.0f} GFLOP/s,"
        f" {limits['bandwidth'] / 1e9:.1f} GB/s"
    )
    rows = [[shown(row) for shown in _COLUMNS.values()] for row in found["rows"]]
    console.table(title, tuple(_COLUMNS), rows)
    for reason in found["left_out"]:
        console.warn(f"left out: {reason}")
