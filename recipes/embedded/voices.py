"""Voices of the synthesiser: accents times variants, and which variants are held out.

A variant changes formants, breathiness and intonation, so that an unseen variant is an unseen
speaker. Novelty variants (robots, whispers, croaks) are in neither list, nor is "rob", which
crashes the synthesiser when it speaks low in a wide range.
"""

from dataclasses import dataclass, replace

import numpy as np

from .grammar import Split
from .lexicon import words
from .moods import Mood, Prosody, draw_prosody

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
        "Michael miguel mike2 norbert pablo paul pedro quincy sandro steph steph2 travis"
    ),
    "",
)

HELDOUT_VARIANTS = words("m4 m8 f4 Andrea robert steph3 michel Lee anika victor shelby marcelo")

_PITCH_APART = 12
"""Two speakers in one recording differ by at least this much; one speaker wavers by less."""

_WAVER = 4


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

    @property
    def variant(self) -> str:
        """Who it is: the name without the accent, empty for the synthesiser's own voice."""
        return self.name.partition("+")[2]


def draw_voice(rng: np.random.Generator, split: Split, prosody: Prosody) -> Voice:
    """Draw a speaker of a split who speaks so; held-out voices are never resampled."""
    variants = TRAIN_VARIANTS if split == "train" else HELDOUT_VARIANTS
    variant = variants[rng.integers(len(variants))]
    accent = ACCENTS[rng.integers(len(ACCENTS))]
    stretched = split == "train" and rng.random() < 0.5
    speed = float(rng.uniform(0.9, 1.12)) if stretched else 1.0
    return Voice(
        name=f"{accent}+{variant}" if variant else accent,
        rate=round(prosody.rate / speed),
        pitch=round(prosody.pitch),
        pitch_range=round(prosody.pitch_range),
        word_gap=int(rng.choice([0, 0, 0, 1, 2, 4])),
        speed=speed,
    )


def draw_other(rng: np.random.Generator, split: Split, voice: Voice, mood: Mood) -> Voice:
    """Draw another speaker than `voice` in the same mood, of another family and another pitch.

    Rate and pauses are the first speaker's, so that they do not tell one speaker from two.
    """
    while True:
        other = draw_voice(rng, split, draw_prosody(rng, mood))
        apart = abs(other.pitch * other.speed - voice.pitch * voice.speed)
        if _family(other.variant) != _family(voice.variant) and apart >= _PITCH_APART:
            rate = round(voice.rate * voice.speed / other.speed)
            return replace(other, rate=rate, word_gap=voice.word_gap)


def waver(rng: np.random.Generator, voice: Voice) -> Voice:
    """Return the same speaker a moment later: rate and pitch move a little."""
    pitch = voice.pitch + int(rng.integers(-_WAVER, _WAVER + 1))
    rate = voice.rate + int(rng.integers(-_WAVER, _WAVER + 1))
    return replace(voice, pitch=min(max(pitch, 0), 99), rate=rate)


def _family(variant: str) -> str:
    """Variants that differ by a number are close relatives, but m1 and m2 are not."""
    name = variant.rstrip("0123456789")
    return variant if len(name) == 1 else name
