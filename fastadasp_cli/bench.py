"""`fastadasp bench`: what a model of some size costs on this machine, this way and others."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import UsageError
from core.studies.progress import part

from . import console
from . import options as opt
from .measuring import Measuring, megabytes
from .run import prepare

if TYPE_CHECKING:
    from core.studies.bench import Limits, Setting

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
    from core.studies.bench.setting import entrants

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
    settings = [replace(setting, seconds=s, beams=width) for s in lengths for width in widths]
    rows = sum(len(list(entrants(one))) for one in settings)  # refuses what cannot be
    view = Measuring(() if as_json else tuple(_COLUMNS), rows, quiet=quiet, no_progress=no_progress)
    found = _found(settings, (device, dtype), not no_memory, view)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for reason in found["left_out"]:
        console.warn(f"left out: {reason}")


def _found(
    settings: Sequence[Setting], place: tuple[str, str], memory: bool, view: Measuring
) -> dict[str, Any]:
    """Everything that was found, as it goes into JSON; shown while it is measured."""
    from core.models.load import place_of
    from core.studies.bench import build_decoder, measure_limits

    setting = settings[0]
    where, number = place_of(*place, setting.size.decoder.weights)
    with view.following():
        view.step("limits of this machine", 0.0)
        limits = measure_limits(where, number)
        about = _about(setting, where, number, limits)
        view.begin(_title(about))
        view.step(f"building {setting.shape}", 0.0)
        model = build_decoder(setting.size, where, number)
        return {**about, **_measured(settings, model, limits, memory, view)}


def _measured(
    settings: Sequence[Setting], model: Any, limits: Limits, memory: bool, view: Measuring
) -> dict[str, list[Any]]:
    """The rows, and what could not run."""
    from core.studies.bench import LeftOut, measure

    rows: list[Any] = []
    left_out: list[str] = []
    # about as long as its prompt and as its answers are
    ends = list(accumulate((one.seconds + one.beams * one.tokens) for one in settings))
    for setting, begin, end in zip(settings, [0.0, *ends], ends, strict=False):
        told = part(view.step, str(setting), begin / ends[-1], end / ends[-1])
        for one in measure(setting, model, limits, told, memory):
            if isinstance(one, LeftOut):
                name = f"{setting.seconds:g} s, beams {setting.beams}"
                left_out.append(f"{name}: {one.side}: {one.why}")
                continue
            rows.append(one.to_json())
            at = f" at {one.asked:.0%}" if one.asked else ""
            said = f"prefill {one.prefill_s:.3f} s, decode {one.decode_s:.3f} s, RTF {one.rtf:.4f}"
            cells = [shown(rows[-1]) for shown in _COLUMNS.values()]
            view.row(f"{setting}, {one.side}{at}", said, cells)
    return {"left_out": left_out, "rows": rows}


def _about(setting: Setting, where: Any, number: Any, limits: Limits) -> dict[str, Any]:
    from dataclasses import asdict

    import torch

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
    }


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
    "+MB": lambda row: megabytes(row["peak_bytes"]),
    "spread": lambda row: f"{row['spread']:.0%}",
}


def _ratio(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _title(about: dict[str, Any]) -> str:
    limits = about["limits"]
    return (
        f"{about['shape']} on {about['device']}, {about['dtype']}, {about['threads']} threads,"
        f" torch {about['torch']}: {about['method']}, {about['schedule']} from layer"
        f" {about['start_layer']}, batch {about['batch']}, {about['tokens']} tokens, medians of"
        f" {about['rounds']} rounds; limits {limits['flops'] / 1e9:.0f} GFLOP/s,"
        f" {limits['bandwidth'] / 1e9:.1f} GB/s"
    )
