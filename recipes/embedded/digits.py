"""Strings of real spoken digits, joined from recordings of single digits.

The recordings come from a folder with a `manifest.jsonl` whose digit rows have `path`, `text`,
`speaker` and `kind: "digit"`. One speaker is held out completely, whatever the rows say.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from .augment import set_level, silence
from .grammar import Split
from .speech import SAMPLE_RATE, Samples, Speech, resample

HELDOUT_SPEAKER = "fsdd_jackson"
"""Never trained on; chosen before the first training, by name only."""


@dataclass(frozen=True, slots=True)
class Digit:
    """One recorded digit at 16 kHz."""

    word: str
    samples: Samples


Bank = dict[str, list[Digit]]
"""The recordings of each speaker."""


def load_digits(folder: Path, split: Split) -> Bank:
    """Read the recordings of the speakers of a split from a data folder."""
    bank: Bank = {}
    with (folder / "manifest.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            heldout = row.get("speaker") == HELDOUT_SPEAKER
            if row.get("kind") != "digit" or heldout != (split == "heldout"):
                continue
            samples, rate = soundfile.read(folder / row["path"], dtype="float32")
            if rate != SAMPLE_RATE:
                samples, _ = resample(samples, SAMPLE_RATE / rate)
            bank.setdefault(row["speaker"], []).append(Digit(row["text"], samples))
    if not bank:
        raise ValueError(f"no digit recordings for the {split} split in {folder}/manifest.jsonl")
    return bank


def draw_string(
    bank: Bank, rng: np.random.Generator, count: int, stretch: float
) -> tuple[str, list[str], Speech]:
    """Join `count` random digits of one speaker with gaps of 30 to 350 ms.

    `stretch` > 0 resamples the string by up to that share, which makes other speakers of the few.
    Returns the speaker, the words and the sound; phoneme names are empty, for they are unknown.
    """
    speaker = sorted(bank)[rng.integers(len(bank))]
    digits = [bank[speaker][i] for i in rng.integers(len(bank[speaker]), size=count)]
    common = 1 + rng.uniform(-stretch, stretch)
    parts: list[Samples] = []
    phones: list[tuple[float, str, int]] = []
    position = 0
    for index, digit in enumerate(digits):
        sound, _ = resample(digit.samples, common * (1 + rng.uniform(-stretch, stretch) / 4))
        gap = silence(float(rng.uniform(0.03, 0.35)))
        phones.append((position / SAMPLE_RATE, "", index))
        phones.append(((position + len(sound)) / SAMPLE_RATE, "", -1))
        parts += [set_level(sound, float(rng.uniform(-6, 0))), gap]
        position += len(sound) + len(gap)
    joined = np.concatenate(parts[:-1])
    return speaker, [digit.word for digit in digits], Speech(joined, tuple(phones))
