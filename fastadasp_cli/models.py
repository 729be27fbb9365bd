"""`fastadasp models`: what `--model` takes, and whether a checkpoint works."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import console
from . import options as opt

if TYPE_CHECKING:
    from core.models.base import SpeechLM
    from core.records import Segment

app = typer.Typer(help="The models that --model takes.", invoke_without_command=True)

_COLUMNS = ("model", "family", "tasks", "window", "tokens/s", "tests run on", "note")


@app.callback()
def list_models(ctx: typer.Context, as_json: opt.AsJson = False) -> None:
    """What --model takes: the embedded model and the supported families."""
    if ctx.invoked_subcommand is not None:
        return
    from core.models import list_models as listed

    found = listed()
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in found], ensure_ascii=False))
        return
    rows = [
        (
            row.model,
            row.family,
            " ".join(row.tasks),
            f"{row.window:g} s",
            f"{row.tokens_per_second:g}",
            row.tested,
            row.note,
        )
        for row in found
    ]
    console.table("", _COLUMNS, rows)


@app.command("check")
def check(
    model: Annotated[str, typer.Argument(help="Hub id, folder, or embedded.")],
    audio: Annotated[
        Path | None, typer.Option(help="A recording to hear; without it a tone.")
    ] = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    quantize: opt.Quantize = None,
    offline: opt.Offline = False,
    as_json: opt.AsJson = False,
) -> None:
    """Load a checkpoint, prove that reduction fits it, and let it hear one sentence."""
    from core.engine.checkup import checkup
    from core.models import load_model

    lm = load_model(model, device=device, dtype=dtype, offline=offline, quantize=quantize)
    found = checkup(lm, None if audio is None else _first_piece(lm, audio))
    if as_json:
        typer.echo(json.dumps(asdict(found), ensure_ascii=False))
        return
    rows = [
        ("family", found.family),
        ("tasks", " ".join(found.tasks)),
        ("window", f"{found.window:g} s"),
        ("audio tokens heard", str(found.audio_tokens)),
        ("reduction", "yes" if found.reason is None else f"no: {found.reason}"),
        ("text", found.text),
    ]
    if found.cut is not None:
        rows.append((f"text at a cut of {found.cut:.0%}", found.reduced_text or ""))
    console.table(found.model, ("", ""), rows)


def _first_piece(lm: SpeechLM, audio: Path) -> Segment:
    """What of a recording the model can hear at once."""
    from core.errors import MediaError
    from core.media.apart import decode_apart
    from core.media.segment import segment

    facts = lm.facts
    window = min(facts.max_seconds, facts.chunk_seconds or facts.max_seconds)
    blocks = decode_apart(audio, facts.sample_rate)
    pieces = segment(blocks, audio.name, window=window, sample_rate=facts.sample_rate)
    piece = next(pieces, None)
    if piece is None:
        raise MediaError(f"no speech in {audio}; give another recording")
    return piece
