"""The app: its commands, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from core import __version__
from core.errors import FastAdaSPError

from . import (
    bench,
    calibrate,
    console,
    convert,
    doctor,
    eval,
    models,
    presets,
    profile,
    run,
    streams,
)

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
            raise typer.Exit(0) from None
        except OSError as error:
            console.error(str(error))
            raise typer.Exit(1) from None


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
app.command("eval")(eval.evaluate)
app.command("bench")(bench.bench)
app.command("calibrate")(calibrate.calibrate)
app.add_typer(presets.app, name="presets")
app.add_typer(models.app, name="models")
app.command("convert")(convert.convert)
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


def main() -> NoReturn:
    """Run the app, then end the process at once.

    Taking the interpreter apart with torch in it costs seconds, and aborts when a library's thread
    is still at work; by now all output is written and closed.
    """
    streams.reopen()
    # a Python that a library starts (for memory of its own, as a worker) does not look for its
    # modules in the working folder
    os.environ["PYTHONSAFEPATH"] = "1"
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # streams replaced by a host program
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    code = 0
    try:
        app()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    os._exit(_flushed(code))


def _flushed(code: int) -> int:
    """The exit code once the last words are out; a reader that has gone is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except OSError as error:
        console.error(f"cannot write to stdout: {error.strerror or error}")
        code = code or 1
    sys.stderr.flush()
    return code
