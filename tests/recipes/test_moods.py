"""No single cue of the voice gives a mood away; all of them together do."""

import numpy as np
import pytest

from recipes.embedded.moods import MOODS, Prosody, draw_mood, draw_prosody

DRAWS = 8_000


def best_guesses(cues: tuple[int, ...]) -> float:
    """Share of right answers of the best possible guesser who hears some cues exactly."""
    rng = np.random.default_rng(0)
    moods = [draw_mood(rng) for _ in range(DRAWS)]
    spoken = np.array([draw_prosody(rng, mood) for mood in moods])
    likelihoods = np.ones((DRAWS, len(MOODS)))
    for column, limits in enumerate(MOODS.values()):
        for cue in cues:
            low, high = limits[cue]
            inside = (spoken[:, cue] >= low) & (spoken[:, cue] <= high)
            likelihoods[:, column] *= inside / (high - low)
    names = list(MOODS)
    guessed = likelihoods.argmax(axis=1)
    return float(np.mean([names[g] == mood for g, mood in zip(guessed, moods, strict=True)]))


@pytest.mark.parametrize("cue", range(len(Prosody._fields)))
def test_one_cue_is_not_enough(cue: int) -> None:
    assert best_guesses((cue,)) < 0.72


def test_all_cues_are() -> None:
    assert best_guesses((0, 1, 2, 3)) > 0.985


def test_moods_are_balanced() -> None:
    rng = np.random.default_rng(1)
    drawn = [draw_mood(rng) for _ in range(4_000)]
    assert all(abs(drawn.count(mood) - 1_000) < 120 for mood in MOODS)
