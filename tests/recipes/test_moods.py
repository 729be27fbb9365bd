"""No single cue of the voice gives a mood away; all of them together do."""

from math import erf

import numpy as np
import pytest

from recipes.embedded.moods import MOODS, Prosody, draw_mood, draw_prosody

DRAWS = 4_000
EXACT = (1e-6,) * 4
ROUGH = (11.0, 25.0, 20.0, 2.5)
"""Standard error of a listener who knows neither the speaker nor the room, in units of a cue."""

below = np.vectorize(lambda z: 0.5 + 0.5 * erf(z / 2**0.5))
"""The normal distribution function."""


def best_guesses(cues: tuple[int, ...], errors: tuple[float, ...] = EXACT) -> float:
    """Share of right answers of the best possible guesser who hears some cues with errors."""
    rng = np.random.default_rng(0)
    moods = [draw_mood(rng) for _ in range(DRAWS)]
    spoken = np.array([draw_prosody(rng, mood) for mood in moods])
    heard = spoken + rng.normal(size=spoken.shape) * errors
    likelihoods = np.ones((DRAWS, len(MOODS)))
    for column, limits in enumerate(MOODS.values()):
        for cue in cues:
            low, high = ((heard[:, cue] - limit) / errors[cue] for limit in limits[cue])
            likelihoods[:, column] *= (below(low) - below(high)) / np.ptp(limits[cue])
    names = list(MOODS)
    guessed = likelihoods.argmax(axis=1)
    return float(np.mean([names[g] == mood for g, mood in zip(guessed, moods, strict=True)]))


@pytest.mark.parametrize("cue", range(len(Prosody._fields)))
def test_one_cue_is_not_enough(cue: int) -> None:
    assert best_guesses((cue,)) < 0.75


def test_all_cues_are() -> None:
    assert best_guesses((0, 1, 2, 3)) > 0.99


def test_all_cues_heard_roughly_are_enough() -> None:
    assert best_guesses((0, 1, 2, 3), ROUGH) > 0.97


def test_moods_are_balanced() -> None:
    rng = np.random.default_rng(1)
    drawn = [draw_mood(rng) for _ in range(4_000)]
    assert all(abs(drawn.count(mood) - 1_000) < 120 for mood in MOODS)
