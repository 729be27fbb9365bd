"""`fastadasp presets`: what there is, and what one of them says."""

from __future__ import annotations

import json
from typing import Annotated

import typer

import presets as library
from core.errors import UsageError

from . import console
from . import options as opt

app = typer.Typer(help="The presets of the reduction.", invoke_without_command=True)


@app.callback()
def list_presets(ctx: typer.Context, as_json: opt.AsJson = False) -> None:
    """The presets of the reduction: what each is for."""
    if ctx.invoked_subcommand is not None:
        return
    found = [library.load(name) for name in library.names()]
    if as_json:
        data = {one.name: {key: getattr(one, key) for key in _SHOWN} for one in found}
        typer.echo(json.dumps(data, ensure_ascii=False))
        return
    rows = [
        (one.name, f"{one.reduce:.0%}", one.method, one.schedule, _default_of(one), one.description)
        for one in found
    ]
    console.table("", ("preset", "cut", "method", "schedule", "default of", "for"), rows)


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="A preset's name or a YAML file.")]) -> None:
    """One preset as YAML, with the reason for its numbers."""
    try:
        library.load(name)
        typer.echo(library.read(name), nl=False)
    except library.PresetError as error:
        raise UsageError(str(error)) from error


_SHOWN = ("description", "tasks", "method", "schedule", "reduce", "start", "positions", "reason")


def _default_of(preset: library.Preset) -> str:
    tasks = (task for task, name in library.DEFAULT_BY_TASK.items() if name == preset.name)
    return " ".join(tasks)
