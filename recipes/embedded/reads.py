"""Real read speech: only its sounds are learned, for its words are not the grammar's.

The recordings come from a folder with a `manifest.jsonl` whose rows have `path`, `text`,
`speaker`, `kind: "read"` and `split: "train"`. Their phonemes come from the synthesiser, which
reads the text too; when each of them is said is unknown.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from .speech import SAMPLE_RATE, Samples, Synthesiser, resample
from .voices import Voice

_READER = Voice("gmw/en-US")
_STRETCH = 0.1


class Read(NamedTuple):
    """One recording at 16 kHz, its speaker and its phonemes in order."""

    samples: Samples
    speaker: str
    sounds: tuple[str, ...]


def load_reads(folder: Path, synthesiser: Synthesiser) -> list[Read]:
    """Read the training recordings of a data folder; announcements and other kinds are left out."""
    reads = []
    with (folder / "manifest.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row.get("kind") != "read" or row.get("split") != "train":
                continue
            samples, rate = soundfile.read(folder / row["path"], dtype="float32")
            if rate != SAMPLE_RATE:
                samples, _ = resample(samples, SAMPLE_RATE / rate)
            text = " ".join(re.findall(r"[a-z']+", row["text"].lower()))
            phones = synthesiser.say(text, _READER).phones
            sounds = tuple(name for _, name, word in phones if word >= 0)
            reads.append(Read(samples, row["speaker"], sounds))
    if not reads:
        raise ValueError(f"no read speech for training in {folder}/manifest.jsonl")
    return reads


def stretched(read: Read, rng: np.random.Generator) -> Samples:
    """Return the recording a little faster and higher, or slower and lower."""
    samples, _ = resample(read.samples, 1 + float(rng.uniform(-_STRETCH, _STRETCH)))
    return samples
