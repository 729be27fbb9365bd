"""The app: its commands, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from core import __version__
from core.errors import FastAdaSPError

from . import console, doctor, models, presets, profile, run

INTERRUPTED = 130


class Group(TyperGroup):
    """Turns what ends a command into one line on stderr and the exit code of the contract."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except FastAdaSPError as error:
            console.error(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            console.error("interrupted; what is finished is kept, with -o the same command goes on")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            _drop_stdout()
            raise typer.Exit(0) from None


app = typer.Typer(
    name="fastadasp",
    cls=Group,
    help="Batch transcription and translation with speech language models, cheaply.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # --output_dir is --output-dir: Whisper's users type underscores
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)
app.command("run")(run.run)
app.command("profile")(profile.profile)
app.add_typer(presets.app, name="presets")
app.command("models")(models.models)
app.command("doctor")(doctor.doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastadasp {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of `fastadasp`."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # streams replaced by a host program
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    app()


def _drop_stdout() -> None:
    """The reader has gone; the interpreter must not complain when it flushes at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
