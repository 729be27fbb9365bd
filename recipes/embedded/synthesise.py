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
MIX: dict[Kind, float] = {"one": 0.62, "two": 0.16, "three": 0.07, "digits": 0.05, "real": 0.10}
"""Share of each kind among the utterances; "real" becomes "digits" without recordings."""

_MEAN_SECONDS = 3.85  # of an utterance of this mix, only to turn hours into a number of shards


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to make one shard."""

    out: Path
    digits: Path | None
    seed: int
    shard: int


def main(
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    digits: Annotated[
        Path | None, typer.Option(help="Data folder with real digits and manifest.jsonl.")
    ] = None,
    hours: Annotated[float, typer.Option(help="Hours of audio.", min=0.01)] = 60.0,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
) -> None:
    """Synthesise training shards that do not exist yet."""
    out.mkdir(parents=True, exist_ok=True)
    count = max(1, round(hours * 3600 / _MEAN_SECONDS / UTTERANCES_PER_SHARD))
    jobs = [Job(out, digits, seed, shard) for shard in range(count)]
    missing = [job for job in jobs if not _index_of(job).exists()]
    # a fresh process per shard: espeak keeps state from one sentence to the next
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=1) as pool:
        for _ in tqdm(pool.imap(_make_shard, missing), total=len(missing), unit="shard"):
            pass


def _make_shard(job: Job) -> None:
    torch.set_num_threads(1)
    extractor = feature_extractor()
    source = Source(
        split="train",
        rng=Random(f"{job.seed}/{job.shard}"),
        noise=np.random.default_rng((job.seed, job.shard)),
        synthesiser=Synthesiser(),
        digits=load_digits(job.digits, "train") if job.digits else None,
    )
    mels, rows, position = [], [], 0
    for _ in range(UTTERANCES_PER_SHARD):
        utterance = source.draw(_kind(source))
        mel = log_mel(extractor, augment(utterance.speech.samples, source.noise))
        rows.append(_row(utterance, position, len(mel)))
        mels.append(mel)
        position += len(mel)
    _write(job, np.concatenate(mels), rows)


def _kind(source: Source) -> Kind:
    kind = source.rng.choices(list(MIX), weights=list(MIX.values()))[0]
    return "digits" if kind == "real" and source.digits is None else kind


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
    return job.out / f"shard-{job.shard:04d}.jsonl"


def _write(job: Job, mel: "np.typing.NDArray[np.float16]", rows: list[dict[str, Any]]) -> None:
    index = _index_of(job)
    np.save(index.with_suffix(".npy"), mel)
    partial = index.with_suffix(".partial")
    partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    partial.replace(index)  # last: the index is the mark of a complete shard


if __name__ == "__main__":
    typer.run(main)
