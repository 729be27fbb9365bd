"""Write the training data: shards of features, texts and alignments.

    python -m recipes.embedded.synthesise --out DATA --digits FOLDER --hours 60 --workers 2

Each shard depends on the seed and its own number only. A shard that exists is not made again, so
that an interrupted run goes on where it stopped.
"""

import json
import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import numpy as np
import torch
import typer
from tqdm import tqdm

from .augment import augment
from .digits import load_digits
from .features import feature_extractor, log_mel
from .speech import SAMPLE_RATE, Synthesiser
from .utterance import Kind, Source, Utterance

UTTERANCES_PER_SHARD = 500
MIXES: dict[str, dict[Kind, float]] = {
    "all": {"one": 0.62, "two": 0.16, "three": 0.07, "digits": 0.05, "real": 0.10},
    "digits": {"isolated": 0.4, "real": 0.6},
}
"""Share of each kind among the utterances of a mix; without recordings "real" is "isolated".

Shards of several mixes lie side by side. "digits" is there because real voices are few.
"""

_MEAN_SECONDS = {"all": 3.85, "digits": 3.1}  # only to turn hours into a number of shards


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to make one shard."""

    out: Path
    digits: Path | None
    mix: str
    seed: int
    shard: int


def main(
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    digits: Annotated[
        Path | None, typer.Option(help="Data folder with real digits and manifest.jsonl.")
    ] = None,
    hours: Annotated[float, typer.Option(help="Hours of audio.", min=0.01)] = 60.0,
    mix: Annotated[str, typer.Option(help="What to say: all or digits.")] = "all",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
) -> None:
    """Synthesise training shards that do not exist yet."""
    if mix not in MIXES:
        raise typer.BadParameter(f"unknown mix {mix!r}: choose from {', '.join(MIXES)}")
    out.mkdir(parents=True, exist_ok=True)
    count = max(1, round(hours * 3600 / _MEAN_SECONDS[mix] / UTTERANCES_PER_SHARD))
    jobs = [Job(out, digits, mix, seed, shard) for shard in range(count)]
    missing = [job for job in jobs if not _index_of(job).exists()]
    # a fresh process per shard: espeak keeps state from one sentence to the next
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=1) as pool:
        for _ in tqdm(pool.imap(_make_shard, missing), total=len(missing), unit="shard"):
            pass


def _make_shard(job: Job) -> None:
    torch.set_num_threads(1)
    extractor = feature_extractor()
    salt = list(MIXES).index(job.mix)
    source = Source(
        split="train",
        rng=Random(f"{job.mix}/{job.seed}/{job.shard}"),
        noise=np.random.default_rng((job.seed, job.shard, salt)),
        synthesiser=Synthesiser(),
        digits=load_digits(job.digits, "train") if job.digits else None,
    )
    mels, rows, position = [], [], 0
    for _ in range(UTTERANCES_PER_SHARD):
        utterance = source.draw(_kind(source, MIXES[job.mix]))
        mel = log_mel(extractor, augment(utterance.speech.samples, source.noise))
        rows.append(_row(utterance, position, len(mel)))
        mels.append(mel)
        position += len(mel)
    _write(job, np.concatenate(mels), rows)


def _kind(source: Source, mix: dict[Kind, float]) -> Kind:
    kind = source.rng.choices(list(mix), weights=list(mix.values()))[0]
    return "isolated" if kind == "real" and source.digits is None else kind


def _row(utterance: Utterance, start: int, frames: int) -> dict[str, Any]:
    """Describe an utterance; alignment times are in encoder frames of 20 ms."""
    phones = [(round(t * 50), name, word) for t, name, word in utterance.speech.phones]
    return {
        "kind": utterance.kind,
        "text": utterance.text,
        "translation": utterance.translation,
        "speaker": utterance.speaker,
        "seconds": round(len(utterance.speech.samples) / SAMPLE_RATE, 3),
        "start": start,
        "frames": frames,
        "phones": phones,
    }


def _index_of(job: Job) -> Path:
    return job.out / f"shard-{job.mix}-{job.shard:04d}.jsonl"


def _write(job: Job, mel: "np.typing.NDArray[np.float16]", rows: list[dict[str, Any]]) -> None:
    index = _index_of(job)
    np.save(index.with_suffix(".npy"), mel)
    partial = index.with_suffix(".partial")
    partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    partial.replace(index)  # last: the index is the mark of a complete shard


if __name__ == "__main__":
    typer.run(main)
