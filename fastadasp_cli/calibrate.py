"""`fastadasp calibrate`: the layer where a one-layer reduction harms least, as a preset."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import UsageError
from core.flags import Flags, notices, resolve

from . import console
from . import options as opt
from .calibrate_view import Progress, table
from .run import prepare

if TYPE_CHECKING:
    from core.config import RunConfig
    from core.studies.calibrate import Search
    from core.studies.layers import Calibration

Levels = Annotated[
    str | None,
    typer.Option(
        "--reduce",
        metavar="LIST",
        help="Cuts of prefill FLOPs to calibrate for; the preset gets the highest. Default: the"
        " task's.",
        rich_help_panel=opt.HOW,
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        "--start-layers",
        "--start-layer",
        metavar="LIST",
        help="Layers to try. Default: all.",
        rich_help_panel=opt.HOW,
    ),
]
Positions = Annotated[
    str | None,
    typer.Option("--positions", help="keep | reindex. Default: keep.", rich_help_panel=opt.HOW),
]
Entropy = Annotated[
    str,
    typer.Option(
        "--entropy",
        help="channels (each on its own, as the paper) | joint (with covariances; wants many more"
        " audio tokens than the model is wide).",
        rich_help_panel=opt.HOW,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        min=1,
        help="Most recordings, evenly spaced.",
        rich_help_panel=opt.WHAT,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE.yaml",
        help="Write a preset with the chosen layer, for `run --preset FILE.yaml`.",
        rich_help_panel=opt.OUTPUT,
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace FILE.yaml.", rich_help_panel=opt.OUTPUT)
]

ENTROPIES = ("channels", "joint")


def calibrate(
    inputs: opt.Inputs,
    task: opt.Task = "asr",
    levels: Levels = None,
    method: opt.Method = None,
    positions: Positions = None,
    layers: Layers = None,
    entropy: Entropy = "channels",
    limit: Limit = None,
    lang: opt.Lang = None,
    language: opt.Language = None,
    question: opt.Question = None,
    prompt: opt.Prompt = None,
    segment: opt.Segment = None,
    chunk_length: opt.ChunkLength = None,
    model: opt.Model = "embedded",
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    quantize: opt.Quantize = None,
    offline: opt.Offline = False,
    batch_size: opt.BatchSize = "auto",
    output: Output = None,
    force: Force = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
    no_progress: opt.NoProgress = False,
    verbose: opt.Verbose = False,
) -> None:
    """Choose the layer of schedule `once` by transfer entropy; needs no references.

    The layer whose reduction changes the entropy of the model's final audio features least, over
    your recordings. To compare with what layers do to the text: `fastadasp eval --schedules once
    --start-layers 0,1,2`. Exit codes as of `fastadasp run`.
    """
    flags: Flags = {
        "task": task,
        "method": method,
        "positions": positions,
        "schedule": "once",
        "lang": lang,
        "language": language,
        "question": question,
        "prompt": prompt,
        "segment": segment,
        "chunk_length": chunk_length,
        "model": model,
        "device": device,
        "dtype": dtype,
        "quantize": quantize,
        "offline": offline,
        "batch_size": batch_size,
    }
    _check_output(output, force=force)
    if entropy not in ENTROPIES:
        raise UsageError(f"--entropy {entropy}: choose one of {', '.join(ENTROPIES)}")
    cuts = opt.numbers("--reduce", levels, float)
    config = _config(flags, cuts)
    prepare(offline=offline, verbose=verbose, kept=output is not None)
    if not quiet:
        for text in notices(**flags):
            console.warn(text)
    from core.studies.calibrate import Search

    search = Search(
        cuts or (config.reduction.reduce,),
        opt.numbers("--start-layers", layers, int),
        joint=entropy == "joint",
    )
    progress = Progress(quiet=quiet, no_progress=no_progress)
    found = _found(inputs, limit, config, search, progress)
    _answer(found, as_json=as_json)
    if output is not None:
        _write(found, output, force=force)
    progress.note(_next(found, output))
    raise typer.Exit(1 if found.failed else 0)


def _config(flags: Flags, cuts: Sequence[float]) -> RunConfig:
    """The task's default settings with one layer; every level checked."""
    for cut in cuts:
        if not cut > 0:
            raise UsageError(f"--reduce {cut:g}: there is no layer to choose where nothing is cut")
        resolve(**Flags({**flags, "reduce": cut}))
    config = resolve(**flags)
    if config.reduction.method == "none":
        raise UsageError("--method none reduces nothing; leave it out, or name a method")
    return config


def _check_output(path: Path | None, *, force: bool) -> None:
    """Refuse now what would fail once the work is done."""
    if path is None:
        return
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"-o {path}: a preset's name must end in .yaml")
    if not path.parent.is_dir():
        raise UsageError(f"-o {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise UsageError(f"-o {path} is a folder; give a file")
    if path.exists() and not force:
        raise UsageError(f"-o {path} exists: give another name, or --force to replace it")


def _found(
    inputs: Sequence[str],
    limit: int | None,
    config: RunConfig,
    search: Search,
    progress: Progress,
) -> Calibration:
    from core.media.discover import discover
    from core.stages import Rooms
    from core.studies.calibrate import calibrate as study
    from core.studies.sets import evenly

    recordings = evenly(list(discover(inputs, stdin=sys.stdin.buffer)), limit)
    progress.note(f"loading {config.model}")
    lm = Rooms().load(config)
    with progress.following(recordings) as watch:
        return study(search, config, recordings, lm, watch)


def _answer(found: Calibration, *, as_json: bool) -> None:
    """The numbers, also where no layer can be chosen."""
    if as_json:
        typer.echo(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        table(found)
    if found.chosen is None:
        most = max(point.cut or 0.0 for point in found.points)
        raise UsageError(
            f"no layer reaches every cut on these recordings ({most:.1%} is the most): lower"
            " --reduce, or give longer recordings; no preset is written"
        )


def _next(found: Calibration, path: Path | None) -> str:
    if path is None:
        return f"to use it: --schedule once --start-layer {found.chosen}, or -o FILE.yaml here"
    return f"written; to use it: fastadasp run ... --task {found.task} --preset {path}"


def _write(found: Calibration, path: Path, *, force: bool) -> None:
    from core.results.files import replace_file
    from core.studies.layers import preset

    _check_output(path, force=force)  # somebody may have made it meanwhile
    command = shlex.join(["fastadasp", *sys.argv[1:]])
    replace_file(path, preset(found, path.stem, command).encode())
