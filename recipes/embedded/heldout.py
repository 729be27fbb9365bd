"""Write the held-out sets: recordings of sentences and voices that training never sees.

    python -m recipes.embedded.heldout --out DIR --digits FOLDER

`DIR/speech` holds one- and two-clause sentences by held-out voices, `DIR/digits` strings of real
digits by the held-out speaker. Each folder has a `manifest.jsonl` beside its recordings.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Annotated

import numpy as np
import soundfile
import typer
from tqdm import tqdm

from .augment import add_noise, set_level
from .digits import load_digits
from .speech import SAMPLE_RATE, Samples, Synthesiser
from .utterance import Kind, Source, Utterance

TWO_CLAUSES = 0.25
"""Share of two-clause recordings in the speech set."""


def main(
    out: Annotated[Path, typer.Option(help="Folder for both sets.")],
    digits: Annotated[
        Path | None, typer.Option(help="Data folder with real digits; none: no digits set.")
    ] = None,
    speech_size: Annotated[int, typer.Option(help="Recordings in the speech set.")] = 400,
    digits_size: Annotated[int, typer.Option(help="Strings in the digits set.")] = 120,
    snr_db: Annotated[float, typer.Option(help="Signal-to-noise ratio of the speech set.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 7,
) -> None:
    """Write the held-out recordings and their manifests."""
    n_two = round(TWO_CLAUSES * speech_size)
    kinds: list[Kind] = ["two" if i < n_two else "one" for i in range(speech_size)]
    source = Source(
        split="heldout",
        rng=Random(f"heldout/{seed}"),
        noise=np.random.default_rng((seed, 0)),
        synthesiser=Synthesiser(),
        digits=load_digits(digits, "heldout") if digits else None,
    )
    write_set(out / "speech", source, tqdm(kinds), snr_db)
    if digits:
        real: list[Kind] = ["real"] * digits_size
        write_set(out / "digits", source, tqdm(real), None)


def write_set(folder: Path, source: Source, kinds: Iterable[Kind], snr_db: float | None) -> None:
    """Draw one utterance per kind and write them; `snr_db` None adds no noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, kind in enumerate(kinds):
        utterance = source.draw(kind)
        samples: Samples = utterance.speech.samples
        if snr_db is not None:
            samples = set_level(add_noise(samples, snr_db, source.noise), -3.0)
        name = f"{kind}-{number:04d}.wav"
        soundfile.write(folder / name, samples, SAMPLE_RATE, subtype="PCM_16")
        rows.append(_row(name, utterance, len(samples) / SAMPLE_RATE, snr_db))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "manifest.jsonl").write_text(text, encoding="utf-8")


def _row(
    name: str, utterance: Utterance, seconds: float, snr_db: float | None
) -> dict[str, object]:
    return {
        "audio_filepath": name,
        "text": utterance.text,
        "translation": utterance.translation,
        "duration": round(seconds, 3),
        "speaker": utterance.speaker,
        "kind": utterance.kind,
        "snr_db": snr_db,
    }


if __name__ == "__main__":
    typer.run(main)
