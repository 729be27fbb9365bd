"""Moods as prosody: four cues, each of which overlaps between moods. Knows nothing of words.

Rate, pitch, pitch range and loudness are drawn independently within a mood. No single one of them
tells the mood (`tests/recipes/test_moods.py` holds that to account), all together do.
"""

from typing import Literal, NamedTuple

import numpy as np

Mood = Literal["neutral", "happy", "sad", "angry"]

Span = tuple[float, float]


class Prosody(NamedTuple):
    """One way of speaking, or with spans the limits of a mood.

    `rate` is in words per minute, `pitch` and `pitch_range` run from 0 to 99 around the voice's
    own, `level` is the loudest sample in dB below full scale.
    """

    rate: float
    pitch: float
    pitch_range: float
    level: float


class Limits(NamedTuple):
    """Least and greatest value of each cue of `Prosody` in one mood."""

    rate: Span
    pitch: Span
    pitch_range: Span
    level: Span


MOODS: dict[Mood, Limits] = {
    "neutral": Limits((135, 180), (30, 60), (20, 50), (-17, -8)),
    "happy": Limits((140, 190), (55, 90), (60, 99), (-16, -6)),
    "sad": Limits((105, 145), (10, 40), (5, 35), (-26, -15)),
    "angry": Limits((172, 225), (25, 60), (55, 95), (-9, -1)),
}


def draw_mood(rng: np.random.Generator) -> Mood:
    """Draw a mood, all equally likely."""
    return tuple(MOODS)[rng.integers(len(MOODS))]


def draw_prosody(rng: np.random.Generator, mood: Mood) -> Prosody:
    """Draw every cue independently and evenly within the limits of a mood."""
    return Prosody(*(float(rng.uniform(*span)) for span in MOODS[mood]))
