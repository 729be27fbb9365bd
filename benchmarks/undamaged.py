"""Whole files by many encoders: is one of them called broken?

`python -m benchmarks.undamaged [--files 300] [--seed 0]` writes recordings of random lengths, six
encoders at eight rates by turns and each in all of its containers, and decodes them. Ends in one
JSON line; the exit code is 1 if a file is called broken or more than half a second of it is gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer

from core.errors import MediaError
from core.media.decode import decode
from tests.media.sounds import Samples, tone, write, write_av

RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
ENCODERS = {
    "libmp3lame": (("mp3", "mp3"), ("avi", "avi"), ("mka", "matroska")),
    "aac": (("m4a", "ipod"), ("aac", "adts"), ("ts", "mpegts"), ("mkv", "matroska")),
    "libopus": (("opus", "ogg"), ("webm", "webm"), ("mka", "matroska")),
    "flac": (("flac", "flac"), ("mka", "matroska"), ("oga", "ogg")),
    "wmav2": (("wma", "asf"),),
    "vorbis": (("ogg", ""),),  # by libsndfile
}
"""Name -> (extension, container) of each."""
_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
_LOST = 0.5  # seconds at both ends together that a codec may take


def made(folder: Path, number: int, seed: int) -> Iterator[tuple[Path, float]]:
    """(file, its length in seconds) of so many recordings."""
    rng = Random(seed)
    for index in range(number):
        encoder = list(ENCODERS)[index % len(ENCODERS)]
        turn = index // len(ENCODERS)
        rate = RATES[turn % len(RATES)]
        if encoder == "libopus":
            rate = min(_OPUS_RATES, key=lambda able: abs(able - rate))
        containers = ENCODERS[encoder]
        extension, container = containers[turn % len(containers)]
        seconds = rng.uniform(0.5, 30)
        path = folder / f"{index:04d}-{encoder}-{rate}.{extension}"
        _write(path, _sound(seconds, rate, rng), rate, encoder, container)
        yield path, seconds


def _write(path: Path, samples: Samples, rate: int, encoder: str, container: str) -> None:
    if container:
        write_av(path, samples, rate, encoder, container)
    else:
        write(path, samples, rate)


def _sound(seconds: float, rate: int, rng: Random) -> Samples:
    noise = np.random.default_rng(rng.randrange(1 << 30)).standard_normal(round(seconds * rate))
    quiet = rng.random() < 0.2  # of which encoders make frames of their own
    return tone(seconds, rate) * (not quiet) + (0.05 * noise).astype(np.float32)


def survey(number: int, seed: int) -> dict[str, Any]:
    """What is said of so many whole files."""
    broken: dict[str, str] = {}
    with TemporaryDirectory() as folder:
        for path, seconds in made(Path(folder), number, seed):
            try:
                heard = sum(len(block) for block in decode(path)) / 16_000
                if abs(heard - seconds) > _LOST:
                    broken[path.name] = f"{heard:.2f} s of {seconds:.2f} s"
            except MediaError as error:
                broken[path.name] = str(error)
            path.unlink()
    encoders = list(ENCODERS)
    return {"files": number, "encoders": encoders, "rates": RATES, "seed": seed, "broken": broken}


def main(
    files: Annotated[int, typer.Option(help="How many.")] = 300,
    seed: Annotated[int, typer.Option(help="Of lengths and sounds.")] = 0,
) -> None:
    """Decode whole files."""
    found = survey(files, seed)
    typer.echo(json.dumps(found))
    if found["broken"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
