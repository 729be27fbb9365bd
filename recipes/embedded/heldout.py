"""Write the held-out sets: recordings of sentences and voices that training never sees.

    python -m recipes.embedded.heldout --out DIR --digits FOLDER

A folder a set, each with a `manifest.jsonl` beside its recordings: `speech` (one to three clauses:
asr, st), `long` (10 to 30 s: asr), `digits` (strings of real digits by the held-out speaker: asr),
`er` (every mood equally often), `sv` (every recording by one speaker and by two) and `sqa` (one
question a recording).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Annotated, Any

import numpy as np
import soundfile
import typer
from tqdm import tqdm

from .augment import add_noise, set_level
from .digits import load_digits
from .moods import MOODS
from .questions import draw_question
from .speech import SAMPLE_RATE, Samples, Synthesiser
from .utterance import Kind, Source, Utterance

SETS = ("speech", "long", "digits", "er", "sv", "sqa")

_SPEECH: dict[Kind, float] = {"one": 0.5, "two": 0.3, "three": 0.2}
_ASKED: dict[Kind, float] = {"one": 0.5, "two": 0.25, "turns": 0.15, "number": 0.1}
_LONG_SECONDS = 10.0


def main(
    out: Annotated[Path, typer.Option(help="Folder for the sets.")],
    digits: Annotated[
        Path | None, typer.Option(help="Data folder with real digits; none: no digits set.")
    ] = None,
    size: Annotated[int, typer.Option(help="Recordings in a set.", min=4)] = 400,
    snr_db: Annotated[float, typer.Option(help="Signal-to-noise ratio; real digits: none.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 7,
) -> None:
    """Write the held-out recordings and their manifests."""
    synthesiser = Synthesiser()
    bank = load_digits(digits, "heldout") if digits else None
    for number, name in enumerate(SETS):
        if name == "digits" and bank is None:
            continue
        source = Source(
            split="heldout",
            rng=Random(f"heldout/{seed}/{name}"),
            noise=np.random.default_rng((seed, number)),
            synthesiser=synthesiser,
            digits=bank,
        )
        found = tqdm(drawn(name, source, size), total=size, desc=name)
        write_set(out / name, source, found, None if name == "digits" else snr_db)


def drawn(name: str, source: Source, size: int) -> Iterator[tuple[Utterance, dict[str, Any]]]:
    """Utterances of a set with what its task asks for."""
    for number in range(size):
        if name == "speech":
            utterance = source.draw_one(_one_of(source, _SPEECH))
            yield utterance, {"translation": utterance.translation}
        elif name == "er":
            mood = tuple(MOODS)[number % len(MOODS)]
            utterance = next(one for one in _endless(source, "one") if one.mood == mood)
            yield utterance, {"emotion": utterance.mood}
        elif name == "sv":
            speakers = 1 + number % 2
            utterance = next(one for one in _endless(source, "turns") if one.speakers == speakers)
            yield utterance, {"speakers": speakers}
        elif name == "sqa":
            utterance = source.draw_one(_one_of(source, _ASKED))
            asked = draw_question(source.rng, utterance.clauses)
            yield utterance, {"question": asked.question, "answer": asked.answer}
        elif name == "long":
            found = _endless(source, "long")
            yield next(one for one in found if one.speech.seconds >= _LONG_SECONDS), {}
        else:
            yield source.draw_one("real"), {}


def _endless(source: Source, kind: Kind) -> Iterator[Utterance]:
    while True:
        yield source.draw_one(kind)


def _one_of(source: Source, shares: dict[Kind, float]) -> Kind:
    return source.rng.choices(list(shares), weights=list(shares.values()))[0]


def write_set(
    folder: Path,
    source: Source,
    found: Iterator[tuple[Utterance, dict[str, Any]]],
    snr_db: float | None,
) -> None:
    """Write utterances and their manifest; `snr_db` None adds no noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (utterance, asked) in enumerate(found):
        samples: Samples = utterance.speech.samples
        if snr_db is not None:
            samples = add_noise(samples, snr_db, source.noise)
        name = f"{utterance.kind}-{number:04d}.wav"
        soundfile.write(
            folder / name, set_level(samples, utterance.level), SAMPLE_RATE, subtype="PCM_16"
        )
        rows.append({**_row(name, utterance, snr_db), **asked})
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "manifest.jsonl").write_text(text, encoding="utf-8")


def _row(name: str, utterance: Utterance, snr_db: float | None) -> dict[str, Any]:
    return {
        "audio_filepath": name,
        "text": utterance.text,
        "duration": round(utterance.speech.seconds, 3),
        "speaker": utterance.speaker,
        "kind": utterance.kind,
        "snr_db": snr_db,
    }


if __name__ == "__main__":
    typer.run(main)
