"""Voices of the synthesiser: accents times variants, and which variants are held out.

A variant changes formants, breathiness and intonation, so that an unseen variant is an unseen
speaker. Novelty variants (robots, whispers, croaks) are in neither list.
"""

from dataclasses import dataclass

import numpy as np

from .grammar import Split
from .lexicon import words

ACCENTS: tuple[str, ...] = (
    "gmw/en-US",
    "gmw/en",
    "gmw/en-GB-scotland",
    "gmw/en-GB-x-rp",
    "gmw/en-GB-x-gbclan",
    "gmw/en-GB-x-gbcwmd",
    "gmw/en-US-nyc",
    "gmw/en-029",
)

TRAIN_VARIANTS: tuple[str, ...] = (
    *words(
        "m1 m2 m3 m5 m6 m7 f1 f2 f3 f5 klatt klatt2 klatt3 adam Alex Andy Annie Alicia antonio "
        "belinda benjamin boris caleb david Denis Diogo ed edward edward2 Gene Gene2 grandma "
        "grandpa gustave Henrique Hugo ian iven iven2 iven3 john kaukovalta linda Marco Mario max "
        "Michael miguel mike2 norbert pablo paul pedro quincy rob sandro steph steph2 travis"
    ),
    "",
)

HELDOUT_VARIANTS = words("m4 m8 f4 Andrea robert steph3 michel Lee anika victor shelby marcelo")


@dataclass(frozen=True, slots=True)
class Voice:
    """How one synthetic speaker talks.

    `rate` is in words per minute, `pitch` and `pitch_range` run from 0 to 99, `word_gap` is the
    extra pause between words in units of 10 ms, `speed` resamples the sound (above 1: shorter,
    higher, with a shorter vocal tract).
    """

    name: str
    rate: int = 170
    pitch: int = 50
    pitch_range: int = 50
    word_gap: int = 0
    speed: float = 1.0


def draw_voice(rng: np.random.Generator, split: Split) -> Voice:
    """Draw a random voice of a split; held-out voices are never resampled."""
    variants = TRAIN_VARIANTS if split == "train" else HELDOUT_VARIANTS
    variant = variants[rng.integers(len(variants))]
    accent = ACCENTS[rng.integers(len(ACCENTS))]
    stretched = split == "train" and rng.random() < 0.5
    return Voice(
        name=f"{accent}+{variant}" if variant else accent,
        rate=int(rng.integers(140, 200)),
        pitch=int(rng.integers(25, 76)),
        pitch_range=int(rng.integers(30, 91)),
        word_gap=int(rng.choice([0, 0, 0, 1, 2, 4])),
        speed=float(rng.uniform(0.9, 1.12)) if stretched else 1.0,
    )
