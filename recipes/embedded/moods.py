"""Moods as prosody: four cues, each of which overlaps between moods. Knows nothing of words.

Rate, pitch, pitch range and loudness are drawn independently within a mood. No single one of them
tells the mood, all together do, even to a listener who hears each of them roughly: pitch is a
matter of who speaks, and a room or a few short words blur the rest (`tests/recipes/test_moods.py`
holds both to account).
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
    "neutral": Limits((105, 140), (32, 70), (10, 75), (-13, -5)),
    "happy": Limits((168, 225), (60, 93), (62, 98), (-24, -15)),
    "sad": Limits((105, 145), (7, 38), (3, 47), (-30, -20)),
    "angry": Limits((185, 235), (8, 42), (50, 92), (-10, -2)),
}


def draw_mood(rng: np.random.Generator) -> Mood:
    """Draw a mood, all equally likely."""
    return tuple(MOODS)[rng.integers(len(MOODS))]


def draw_prosody(rng: np.random.Generator, mood: Mood) -> Prosody:
    """Draw every cue independently and evenly within the limits of a mood."""
    return Prosody(*(float(rng.uniform(*span)) for span in MOODS[mood]))
