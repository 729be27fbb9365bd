"""Options that only `fastadasp eval` has: lists where `run` takes one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import HOW, OUTPUT, WHAT

Sets = Annotated[
    list[str],
    typer.Argument(
        metavar="MANIFEST|SET...",
        help="Manifests (.jsonl) with references, or folders with a manifest.jsonl in them or in"
        " their subfolders.",
        show_default=False,
    ),
]
Tasks = Annotated[
    str | None,
    typer.Option(
        "--task",
        "-t",
        metavar="LIST",
        help="asr, st, er, sv, sqa, ac. Default: all that the references and the model allow.",
        rich_help_panel=WHAT,
    ),
]
Levels = Annotated[
    str | None,
    typer.Option(
        "--reduce",
        metavar="LIST",
        help="Cuts of prefill FLOPs to compare. Default: 0,0.1,0.2,0.3,0.4,0.5.",
        rich_help_panel=HOW,
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods",
        "--method",
        metavar="LIST|all",
        help="Methods to compare. Default: the task's.",
        rich_help_panel=HOW,
    ),
]
Schedules = Annotated[
    str | None,
    typer.Option(
        "--schedules",
        "--schedule",
        metavar="LIST",
        help="once, constant, decay, input, or as --schedule of run. Default: the task's.",
        rich_help_panel=HOW,
    ),
]
Positions = Annotated[
    str | None,
    typer.Option(
        "--positions",
        metavar="LIST",
        help="keep, reindex. Default: the task's.",
        rich_help_panel=HOW,
    ),
]
StartLayers = Annotated[
    str | None,
    typer.Option(
        "--start-layers",
        "--start-layer",
        metavar="LIST",
        help="First reduced layers. Default: the task's.",
        rich_help_panel=HOW,
    ),
]
Presets = Annotated[
    str | None,
    typer.Option(
        "--presets",
        "--preset",
        metavar="LIST",
        help="Presets as they are shipped, each for its tasks; alone, nothing else is compared.",
        rich_help_panel=HOW,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        min=1,
        help="Most recordings of a set, evenly spaced.",
        rich_help_panel=WHAT,
    ),
]
Draws = Annotated[
    int,
    typer.Option(
        "--draws", metavar="N", min=1, help="Resamples of an interval.", rich_help_panel=OUTPUT
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", help="Of the resampling.", rich_help_panel=OUTPUT)
]
Normaliser = Annotated[
    str,
    typer.Option(
        "--normaliser",
        "--normalizer",
        metavar="NAME",
        help="Of asr: whisper (writes spoken numbers as figures) | basic (leaves words).",
        rich_help_panel=OUTPUT,
    ),
]
Segment = Annotated[
    str | None,
    typer.Option(
        "--segment",
        help="whole | vad (at silences) | fixed. Default: whole where every recording of the set"
        " fits the model's window.",
        rich_help_panel=WHAT,
    ),
]
OutputDir = Annotated[
    Path | None,
    typer.Option(
        "--output-dir",
        "-o",
        metavar="DIR",
        help="Keep eval.json, eval.png and every point's texts, and go on from there when"
        " repeated.",
        rich_help_panel=OUTPUT,
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        help="Draw quality against measured cost (.png, .svg, .pdf); needs fastadasp[plots].",
        rich_help_panel=OUTPUT,
    ),
]
