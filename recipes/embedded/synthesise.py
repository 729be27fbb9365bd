"""Write the training data: shards of features, texts and alignments.

    python -m recipes.embedded.synthesise --out DATA --digits FOLDER --hours 60 --workers 2

Each shard depends on the seed and its own number only. A shard that exists is not made again, so
that an interrupted run goes on where it stopped.
"""

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import numpy as np
import torch
import typer
from tqdm import tqdm

from .augment import ANY_LEVEL_DB, augment
from .digits import load_digits
from .features import feature_extractor, log_mel
from .grammar import Clause
from .reads import Read, load_reads, stretched
from .speech import SAMPLE_RATE, Samples, Synthesiser
from .utterance import Kind, Source, Utterance

UTTERANCES_PER_SHARD = 500
MIXES: dict[str, dict[Kind, float]] = {
    "all": {
        "one": 0.33,
        "turns": 0.24,
        "two": 0.13,
        "three": 0.07,
        "long": 0.06,
        "digits": 0.04,
        "number": 0.05,
        "real": 0.08,
    },
    "digits": {"isolated": 0.4, "real": 0.6},
    "reads": {},
    "talks": {"long": 1.0},
}
"""Share of each kind among the draws of a mix; without recordings "real" is "isolated".

Shards of several mixes lie side by side. "digits" is there because real voices are few, "reads"
holds every real reading once a shard, and "talks" because whoever writes down half a minute must
not lose the place.
"""

_SHARD_HOURS = {
    "all": 0.75,
    "digits": 0.43,
    "reads": 0.39,
    "talks": 2.6,
}  # only to turn hours into shards


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
        Path | None, typer.Option(help="Data folder with real speech and manifest.jsonl.")
    ] = None,
    hours: Annotated[float, typer.Option(help="Hours of audio.", min=0.01)] = 60.0,
    mix: Annotated[str, typer.Option(help="What to say: all, digits, reads or talks.")] = "all",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
) -> None:
    """Synthesise training shards that do not exist yet."""
    if mix not in MIXES:
        raise typer.BadParameter(f"unknown mix {mix!r}: choose from {', '.join(MIXES)}")
    out.mkdir(parents=True, exist_ok=True)
    if mix == "reads" and digits is None:
        raise typer.BadParameter("the mix reads needs --digits, the folder of real speech")
    count = max(1, round(hours / _SHARD_HOURS[mix]))
    jobs = [Job(out, digits, mix, seed, shard) for shard in range(count)]
    missing = [job for job in jobs if not _index_of(job).exists()]
    # a fresh process per shard: espeak keeps state from one sentence to the next; and an executor,
    # for a pool would wait for ever for a process that crashed
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, max_tasks_per_child=1) as pool:
        for _ in tqdm(pool.map(_make_shard, missing), total=len(missing), unit="shard"):
            pass


def _make_shard(job: Job) -> None:
    torch.set_num_threads(1)
    extractor = feature_extractor()
    noise = np.random.default_rng((job.seed, job.shard, list(MIXES).index(job.mix)))
    mels, rows, position = [], [], 0
    for samples, row in _recordings(job, noise):
        mel = log_mel(extractor, samples)
        seconds = round(len(samples) / SAMPLE_RATE, 3)
        rows.append({**row, "seconds": seconds, "start": position, "frames": len(mel)})
        mels.append(mel)
        position += len(mel)
    _write(job, np.concatenate(mels), rows)


def _recordings(job: Job, noise: np.random.Generator) -> Iterator[tuple[Samples, dict[str, Any]]]:
    """The sound of every recording of a shard and what is known about it."""
    synthesiser = Synthesiser()
    if job.mix == "reads":
        assert job.digits is not None
        for read in load_reads(job.digits, synthesiser):
            level = float(noise.uniform(*ANY_LEVEL_DB))
            yield augment(stretched(read, noise), noise, level), _read_row(read)
        return
    source = Source(
        split="train",
        rng=Random(f"{job.mix}/{job.seed}/{job.shard}"),
        noise=noise,
        synthesiser=synthesiser,
        digits=load_digits(job.digits, "train") if job.digits else None,
    )
    made = 0
    while made < UTTERANCES_PER_SHARD:
        for utterance in source.draw(_kind(source, MIXES[job.mix])):
            made += 1
            yield augment(utterance.speech.samples, noise, utterance.level), _row(utterance)


def _kind(source: Source, mix: dict[Kind, float]) -> Kind:
    kind = source.rng.choices(list(mix), weights=list(mix.values()))[0]
    return "isolated" if kind == "real" and source.digits is None else kind


def _row(utterance: Utterance) -> dict[str, Any]:
    """Describe an utterance; times of phonemes and turns are in encoder frames of 20 ms."""
    return {
        "kind": utterance.kind,
        "text": utterance.text,
        "translation": utterance.translation,
        "speaker": utterance.speaker,
        "mood": utterance.mood,
        "speakers": utterance.speakers,
        "facts": [_facts(clause) for clause in utterance.clauses],
        "phones": [(round(t * 50), name, word) for t, name, word in utterance.speech.phones],
        "turns": [(round(turn.start * 50), turn.variant) for turn in utterance.turns],
        "sounds": [],
    }


def _facts(clause: Clause) -> dict[str, str]:
    assert clause.facts is not None
    return {slot: words for slot, words in asdict(clause.facts).items() if words}


def _read_row(read: Read) -> dict[str, Any]:
    """Describe a real reading: its phonemes in order, nothing to answer."""
    return {
        "kind": "read",
        "text": "",
        "translation": "",
        "speaker": read.speaker,
        "mood": None,
        "speakers": None,
        "facts": [],
        "phones": [],
        "turns": [],
        "sounds": list(read.sounds),
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
