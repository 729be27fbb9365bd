"""`fastadasp models`: what `--model` takes."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from . import console
from . import options as opt


def models(as_json: opt.AsJson = False) -> None:
    """What --model takes: the embedded model and the supported families."""
    from core.models import list_models

    found = list_models()
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in found], ensure_ascii=False))
        return
    rows = [(row.model, row.family, row.note) for row in found]
    console.table("", ("model", "family", "note"), rows)
