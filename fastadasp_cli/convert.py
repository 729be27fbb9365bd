"""`fastadasp convert`: a checkpoint of another layout, made into one that --model takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.convert import CONVERTERS
from core.convert import convert as converted

from . import console


def convert(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help=f"The layout: {', '.join(CONVERTERS)}.")
    ],
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="The published checkpoint: its folder.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="DST", help="A new folder; give it to --model then.")
    ],
) -> None:
    """Rewrite a checkpoint that transformers has no class for; none of its code is run."""
    console.hush_libraries()
    converted(name, source, target, console.note)
    console.note(f"done: fastadasp models check {target}")
