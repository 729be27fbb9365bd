"""Scores worked out by hand, and intervals against a bootstrap that aligns every draw anew."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from core.errors import UsageError
from core.results.scoring import Score, reference, scores, tallies
from core.results.scoring.bootstrap import weights
from core.results.scoring.normalise import normaliser, plain_answer

jiwer = pytest.importorskip("jiwer")
sacrebleu = pytest.importorskip("sacrebleu")
pytest.importorskip("whisper_normalizer")

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "two", "red", "birds", "at", "night"]


def corpus(size: int = 40, seed: int = 3) -> tuple[list[str], list[str], list[str]]:
    """References, answers with some errors, answers with more of them."""
    draw = random.Random(seed)
    wanted = [" ".join(draw.choices(WORDS, k=draw.randint(4, 12))) for _ in range(size)]

    def spoil(text: str, rate: float) -> str:
        words = [draw.choice(WORDS) if draw.random() < rate else word for word in text.split()]
        return " ".join(words[1:] if draw.random() < rate else words)

    return wanted, [spoil(text, 0.1) for text in wanted], [spoil(text, 0.3) for text in wanted]


def score(
    task: str,
    wanted: Sequence[Any],
    said: Sequence[str],
    full: Sequence[str] | None = None,
    *,
    language: str | None = "en",
    draws: int = 50,
    seed: int = 0,
) -> dict[str, Score]:
    right = [one if isinstance(one, tuple) else (one,) for one in wanted]
    base = None if full is None else tallies(task, right, full, language)
    found = scores(tallies(task, right, said, language), base, draws, seed)
    return {one.measure.name: one for one in found}


def test_word_and_character_errors_by_hand() -> None:
    found = score("asr", ["The cat sat.", "Twenty dogs!"], ["the cat sat down", "20 logs"])
    # "the cat sat", "20 dogs": one insertion and one substitution on five words
    assert found["wer"].estimate.value == pytest.approx(100 * 2 / 5)
    # " down" is five characters, d -> l one, on 11 + 7
    assert found["cer"].estimate.value == pytest.approx(100 * 6 / 18)
    assert found["wer"].measure.lower_is_better
    assert "whisper-english" in found["wer"].measure.signature


def test_other_languages_are_normalised_without_english_rules() -> None:
    assert normaliser("en")("Mr. Smith's colour, uh, twenty-one") == "mister smith is color 21"
    assert normaliser("de")("Grüß Gott, Herr Müller!") == "grüß gott herr müller"
    german = score("asr", ["zwanzig Hunde"], ["Zwanzig, Hunde!"], language="de")
    assert german["wer"].estimate.value == 0
    assert "whisper-basic" in german["wer"].measure.signature


def test_an_empty_answer_is_all_deletions_and_an_empty_reference_counts_insertions() -> None:
    found = score("asr", ["red cats", ""], ["", "dogs"])
    assert found["wer"].estimate.value == pytest.approx(100 * 3 / 2)


def test_bleu_and_chrf_are_sacrebleus() -> None:
    wanted, good, _ = corpus()
    found = score("st", wanted, good, language="de")
    bleu, chrf = sacrebleu.BLEU(), sacrebleu.CHRF(word_order=2)
    assert found["bleu"].estimate.value == pytest.approx(bleu.corpus_score(good, [wanted]).score)
    assert found["chrf++"].estimate.value == pytest.approx(chrf.corpus_score(good, [wanted]).score)
    assert found["bleu"].measure.signature == str(bleu.get_signature())
    assert found["chrf++"].measure.signature == str(chrf.get_signature())
    assert "tok:zh" in score("st", ["你好"], ["你好"], language="zh")["bleu"].measure.signature


def test_labels_by_hand() -> None:
    wanted = ["happy", "happy", "sad", "angry"]
    said = ["Happy.", "she is sad", "The speaker is sad", "a dog barks"]
    found = score("er", wanted, said)
    assert found["accuracy"].estimate.value == 50
    # angry 0, happy 2/3, sad 2/3
    assert found["macro_f1"].estimate.value == pytest.approx(100 * 4 / 9)
    assert found["unparsable"].estimate.value == 25
    # a label that the references never have is wrong, but is no class of its own
    other = score("er", ["sad", "sad"], ["sad", "fearful"])
    assert other["macro_f1"].estimate.value == pytest.approx(100 * 2 / 3)
    assert other["unparsable"].estimate.value == 0
    assert score("sv", ["one", "two"], ["1", "several"])["accuracy"].estimate.value == 100


def test_answers_by_hand() -> None:
    assert plain_answer(" The  Cat's, (A) hat. ") == "cats hat"
    found = score("sqa", ["the red cup", ("Paris", "in Paris")], ["Red cup!", "in paris"])
    assert found["exact_match"].estimate.value == 100
    found = score("sqa", ["red", "Paris", "two"], ["blue", "", " ."])
    assert found["exact_match"].estimate.value == 0
    assert found["unparsable"].estimate.value == pytest.approx(200 / 3)


def test_what_has_no_measure_has_no_scores() -> None:
    assert score("ac", ["a dog barks"], ["a dog"]) == {}


def naive_wer(wanted: list[str], said: list[str]) -> float:
    clean = normaliser("en")
    return 100 * float(jiwer.wer([clean(text) for text in wanted], [clean(text) for text in said]))


def naive_bleu(wanted: list[str], said: list[str]) -> float:
    return float(sacrebleu.corpus_bleu(said, [wanted]).score)


def naive_chrf(wanted: list[str], said: list[str]) -> float:
    return float(sacrebleu.corpus_chrf(said, [wanted], word_order=2).score)


def naive_f1(wanted: list[str], said: list[str]) -> float:
    parts = []
    for label in set(wanted):
        hit = sum(one == other == label for one, other in zip(wanted, said, strict=True))
        parts.append(2 * hit / (wanted.count(label) + said.count(label)))
    return 100 * sum(parts) / len(parts)


MOODS = [(random.Random(n).choice(["sad", "happy", "angry"])) for n in range(40)]
SAID = [(random.Random(-n - 1).choice([mood, "sad", "happy"])) for n, mood in enumerate(MOODS)]


@pytest.mark.parametrize(
    ("task", "name", "naive", "texts"),
    [
        ("asr", "wer", naive_wer, corpus()),
        ("st", "bleu", naive_bleu, corpus()),
        ("st", "chrf++", naive_chrf, corpus()),
        ("er", "macro_f1", naive_f1, (MOODS, SAID, ["sad"] * 40)),
    ],
)
def test_intervals_are_those_of_a_bootstrap_that_scores_each_draw_anew(
    task: str, name: str, naive: Callable[..., float], texts: tuple[list[str], ...]
) -> None:
    wanted, good, bad = texts
    found = score(task, wanted, bad, good, draws=60, seed=5)[name]
    values, differences = [], []
    for row in weights(len(wanted), 60, 5)[1:].astype(int):
        chosen = [index for index, times in enumerate(row) for _ in range(times)]
        assert len(chosen) == len(wanted)
        right = [wanted[index] for index in chosen]
        values.append(naive(right, [bad[index] for index in chosen]))
        differences.append(values[-1] - naive(right, [good[index] for index in chosen]))
    ends = [0.025, 0.975]
    assert found.estimate.value == pytest.approx(naive(wanted, bad))
    assert [found.estimate.low, found.estimate.high] == pytest.approx(np.quantile(values, ends))
    assert found.difference is not None
    assert found.difference.value == pytest.approx(naive(wanted, bad) - naive(wanted, good))
    assert [found.difference.low, found.difference.high] == pytest.approx(
        np.quantile(differences, ends)
    )


def test_draws_are_resamples_with_replacement() -> None:
    wanted, good, _ = corpus(200)
    found = score("asr", wanted, good, draws=2000)["wer"].estimate
    pairs = zip(wanted, good, strict=True)
    errors = np.array([naive_wer([a], [b]) * len(a.split()) / 100 for a, b in pairs])
    words = np.array([len(text.split()) for text in wanted])
    draw = np.random.default_rng(99)
    chosen = draw.integers(0, 200, (2000, 200))
    rates = 100 * errors[chosen].sum(1) / words[chosen].sum(1)
    assert [found.low, found.high] == pytest.approx(np.quantile(rates, [0.025, 0.975]), abs=0.5)
    assert found.low < found.value < found.high


def test_the_pair_knows_more_than_the_two() -> None:
    wanted, _, bad = corpus()
    same = score("asr", wanted, bad, bad)["wer"]
    assert same.difference is not None
    assert (same.difference.value, same.difference.low, same.difference.high) == (0, 0, 0)
    assert same.estimate.high > same.estimate.low
    assert score("asr", wanted, bad)["wer"].difference is None


def test_the_seed_fixes_the_interval() -> None:
    wanted, good, _ = corpus()
    one, same, other = (score("asr", wanted, good, seed=seed)["wer"] for seed in (1, 1, 2))
    assert one == same
    assert one.estimate != other.estimate


def test_one_recording_has_no_interval() -> None:
    found = score("asr", ["red cats"], ["red"])["wer"].estimate
    assert (found.value, found.low, found.high) == (50, 50, 50)


@pytest.mark.parametrize(
    ("task", "row", "expected"),
    [
        ("asr", {"text": "one"}, ("one",)),
        ("asr", {"text": ""}, ("",)),
        ("asr", {"translation": "eins"}, ()),
        ("st", {"translation": "eins"}, ("eins",)),
        ("st", {"target_text": "eins"}, ("eins",)),
        ("er", {"emotion": "hap"}, ("happy",)),
        ("er", {"label": "sad"}, ("sad",)),
        ("er", {"label": "cough"}, ()),
        ("sv", {"speakers": 2}, ("two",)),
        ("sv", {"speakers": "one"}, ("one",)),
        ("sqa", {"answer": ["red", "dark red"]}, ("red", "dark red")),
        ("sqa", {"answer": 7}, ("7",)),
        ("ac", {"captions": ["a dog barks", "barking"]}, ("a dog barks", "barking")),
        ("chat", {"text": "one"}, ()),
    ],
)
def test_references_of_a_row(task: str, row: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert reference(task, row) == expected


@pytest.mark.parametrize(
    ("task", "row", "complaint"),
    [
        ("er", {"emotion": "bored"}, "neutral, happy, sad, angry"),
        ("sv", {"speakers": 3}, "one, two"),
        ("asr", {"text": ["one"]}, "string"),
        ("sqa", {"answer": []}, "string"),
        ("sqa", {"answer": True}, "string"),
    ],
)
def test_references_that_mean_nothing(task: str, row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        reference(task, row)
