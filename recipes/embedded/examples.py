"""Write the example recordings: a few short ones in several formats and one of several minutes.

Their manifest has the references of every task.

    python -m recipes.embedded.examples --out examples/audio

All sentences and voices are held out, so that the embedded model has heard none of them.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Annotated

import numpy as np
import soundfile
import typer

from .augment import add_noise, set_level, silence
from .grammar import Clause, draw_clause, join
from .moods import draw_mood, draw_prosody
from .questions import draw_question
from .speech import SAMPLE_RATE, Samples, Synthesiser
from .utterance import Kind, Source
from .voices import Voice, draw_voice

_FORMATS: tuple[tuple[str, str, Kind, float | None], ...] = (
    # name, libsndfile subtype, kind, signal-to-noise ratio in dB
    ("kitchen.wav", "PCM_16", "one", None),
    ("market.flac", "PCM_16", "one", 30.0),
    ("station.mp3", "MPEG_LAYER_III", "one", 25.0),
    ("garden.ogg", "VORBIS", "two", 25.0),
    ("office.wav", "PCM_16", "two", 20.0),
    ("harbour.flac", "PCM_16", "turns", 25.0),
)
_LONG = "long.ogg"
_LONG_SNR_DB = 30.0
_VOICE_SENTENCES = 12  # then somebody else speaks
_BLOCK = SAMPLE_RATE  # libsndfile's Vorbis encoder overflows its stack on minutes at once


@dataclass(frozen=True, slots=True)
class Recording:
    """Sound with what is said in it, and what else is asked of it: the keys of a manifest."""

    samples: Samples
    clause: Clause
    asked: dict[str, object] = field(default_factory=dict)


def main(
    out: Annotated[Path, typer.Option(help="Folder for the recordings and the manifest.")],
    minutes: Annotated[float, typer.Option(help="Least duration of the long recording.")] = 3.2,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 21,
) -> None:
    """Write the example recordings and `manifest.jsonl` with text and translation."""
    out.mkdir(parents=True, exist_ok=True)
    source = Source(
        split="heldout",
        rng=Random(f"examples/{seed}"),
        noise=np.random.default_rng((seed, 1)),
        synthesiser=Synthesiser(),
        digits=None,
    )
    rows = []
    for name, subtype, kind, snr_db in _FORMATS:
        rows.append(_write(out / name, subtype, _short(source, kind, snr_db)))
    rows.append(_write(out / _LONG, "VORBIS", _long(source, minutes * 60)))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (out / "manifest.jsonl").write_text(text, encoding="utf-8")


def _short(source: Source, kind: Kind, snr_db: float | None) -> Recording:
    utterance = source.draw_one(kind)
    samples = utterance.speech.samples
    if snr_db is not None:
        samples = add_noise(samples, snr_db, source.noise)
    first = draw_question(source.rng, utterance.clauses)
    asked: dict[str, object] = {"question": first.question, "answer": first.answer}
    if utterance.speakers is None:
        asked["emotion"] = utterance.mood
    else:
        asked["speakers"] = utterance.speakers
    level = utterance.level
    return Recording(
        set_level(samples, level), Clause(utterance.text, utterance.translation), asked
    )


def _long(source: Source, seconds: float) -> Recording:
    """Say single sentences with pauses of 0.4 to 1 s until `seconds` are full."""
    parts: list[Samples] = []
    clauses: list[Clause] = []
    voice = _anybody(source)
    while sum(map(len, parts)) < seconds * SAMPLE_RATE:
        if len(clauses) % _VOICE_SENTENCES == 0:
            voice = _anybody(source)
        clauses.append(draw_clause(source.rng, "heldout"))
        parts.append(_spoken(source, clauses[-1].en, voice))
        parts.append(silence(source.rng.uniform(0.4, 1.0)))
    samples = add_noise(np.concatenate(parts), _LONG_SNR_DB, source.noise)
    return Recording(set_level(samples, -3.0), join(clauses, [None] * (len(clauses) - 1)))


def _anybody(source: Source) -> Voice:
    return draw_voice(source.noise, "heldout", draw_prosody(source.noise, draw_mood(source.noise)))


def _spoken(source: Source, text: str, voice: Voice) -> Samples:
    return set_level(source.synthesiser.say(text, voice).samples, -3.0)


def _write(path: Path, subtype: str, recording: Recording) -> dict[str, object]:
    samples = recording.samples
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, subtype) as file:
        for start in range(0, len(samples), _BLOCK):
            file.write(samples[start : start + _BLOCK])
    return {
        "audio_filepath": path.name,
        "text": recording.clause.en,
        "translation": recording.clause.de,
        "duration": round(len(samples) / SAMPLE_RATE, 3),
        **recording.asked,
    }


if __name__ == "__main__":
    typer.run(main)
