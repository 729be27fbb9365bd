"""`fastadasp eval`: quality against cost, over methods and levels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from core.errors import UsageError
from core.flags import TASKS, Flags, resolve, task_name

from . import eval_options as own
from . import options as opt
from .eval_view import Talk, table
from .run import prepare

if TYPE_CHECKING:
    from core.studies.evaluate import Course
    from core.studies.grid import Grid
    from core.studies.points import Evaluation

_EXTRAS = {"eval": ("jiwer", "sacrebleu", "whisper_normalizer"), "plots": ("matplotlib",)}
_PICTURES = (".png", ".svg", ".pdf")


def evaluate(
    sets: own.Sets,
    tasks: own.Tasks = None,
    levels: own.Levels = None,
    methods: own.Methods = None,
    schedules: own.Schedules = None,
    positions: own.Positions = None,
    start_layers: own.StartLayers = None,
    presets: own.Presets = None,
    limit: own.Limit = None,
    lang: opt.Lang = None,
    language: opt.Language = None,
    segment: own.Segment = None,
    chunk_length: opt.ChunkLength = None,
    model: opt.Model = "embedded",
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    quantize: opt.Quantize = None,
    offline: opt.Offline = False,
    batch_size: opt.BatchSize = "16",
    num_beams: opt.NumBeams = 1,
    draws: own.Draws = 1000,
    seed: own.Seed = 0,
    normaliser: own.Normaliser = "whisper",
    output_dir: own.OutputDir = None,
    plot: own.Plot = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
    no_progress: opt.NoProgress = False,
    verbose: opt.Verbose = False,
) -> None:
    """Quality against cost: WER, CER, BLEU, chrF++, accuracy or exact match at each cut.

    The full model always runs beside the reduced ones; 95 % intervals by bootstrap over the
    recordings, paired for the difference to the full model. Exit codes as of `fastadasp run`.
    """
    _check_output(output_dir, plot)
    _check_normaliser(normaliser)
    common: Flags = {
        "lang": lang,
        "language": language,
        "segment": segment,
        "chunk_length": chunk_length,
        "model": model,
        "device": device,
        "dtype": dtype,
        "quantize": quantize,
        "offline": offline,
        "batch_size": batch_size,
        "num_beams": num_beams,
    }
    prepare(offline=offline, verbose=verbose, kept=bool(output_dir or plot))
    from core.studies.evaluate import Course
    from core.studies.grid import Grid

    grid = Grid(
        levels=opt.numbers("--reduce", levels, float),
        methods=opt.words(methods),
        schedules=opt.words(schedules),
        positions=opt.words(positions),
        start_layers=opt.numbers("--start-layers", start_layers, int),
        presets=opt.words(presets),
        common=common,
    )
    talk = Talk(quiet=quiet, no_progress=no_progress)
    names = tuple(task_name(name) for name in opt.words(tasks))
    found = _found(sets, names, limit, grid, Course(output_dir, draws, seed, normaliser), talk)
    _show(found, as_json=as_json)
    _keep(found, output_dir, plot, talk)
    raise typer.Exit(1 if found.failed else 0)


def _check_output(folder: Path | None, plot: Path | None) -> None:
    """Refuse now what would fail once the work is done."""
    _require("eval", "eval")
    if plot is not None:
        if plot.suffix.lower() not in _PICTURES:
            raise UsageError(f"--plot {plot}: the name must end in {', '.join(_PICTURES)}")
        if not plot.parent.is_dir():
            raise UsageError(f"--plot {plot}: there is no folder {plot.parent}")
        _require("plots", "--plot")
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder} is a file; give a folder")


def _check_normaliser(name: str) -> None:
    from core.results.scoring import NORMALISERS

    if name not in NORMALISERS:
        raise UsageError(f"--normaliser {name}: choose from {', '.join(NORMALISERS)}")


def _require(extra: str, what: str) -> None:
    missing = [name for name in _EXTRAS[extra] if find_spec(name) is None]
    if missing:
        raise UsageError(f"{what} needs {', '.join(missing)}: pip install 'fastadasp[{extra}]'")


def _found(
    sets: Sequence[str],
    tasks: Sequence[str],
    limit: int | None,
    grid: Grid,
    course: Course,
    talk: Talk,
) -> Evaluation:
    from core.stages import Rooms
    from core.studies import evaluate as study
    from core.studies.grid import check
    from core.studies.sets import find_blocks, find_sets

    check(grid)
    folders = find_sets(sets)
    find_blocks(folders, tasks, TASKS, limit)  # before a model is loaded
    config = resolve(**Flags({**grid.common, "lang": None}))
    talk.note(f"loading {config.model}")
    lm = Rooms().load(config)
    blocks = find_blocks(folders, tasks, lm.facts.tasks, limit)
    plans = study.plan(blocks, grid, lm)
    with talk.following(plans) as watch:
        return study.evaluate(plans, lm, course, watch=watch)


def _show(found: Evaluation, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found.to_json(), ensure_ascii=False))
        return
    for number, block in enumerate(found.blocks):
        if number:
            typer.echo("")
        table(found, block)


def _keep(found: Evaluation, folder: Path | None, plot: Path | None, talk: Talk) -> None:
    from core.studies.plot import draw
    from core.studies.points import write

    pictures = [] if plot is None else [plot]
    if folder is not None:
        write(found, folder)
        if find_spec("matplotlib") is None:
            talk.note("no eval.png: pip install 'fastadasp[plots]'")
        else:
            pictures.append(folder / "eval.png")
    for picture in pictures:
        draw(found, picture)
