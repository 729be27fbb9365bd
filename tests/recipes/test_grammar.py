from random import Random

import pytest

from recipes.embedded import grammar, lexicon
from recipes.embedded.tokens import build_processor


@pytest.fixture(scope="module")
def clauses() -> list[grammar.Clause]:
    rng = Random(0)
    return [grammar.draw_clause(rng, "train") for _ in range(3000)]


def test_both_languages_stay_inside_their_vocabulary(clauses: list[grammar.Clause]) -> None:
    english, german = set(grammar.english_words()), set(grammar.german_words())
    assert {word for clause in clauses for word in clause.en.split()} <= english
    assert {word for clause in clauses for word in clause.de.split()} <= german


def test_vocabulary_is_as_large_as_promised() -> None:
    assert len(grammar.english_words()) >= 260


def test_english_is_lower_case_and_without_punctuation(clauses: list[grammar.Clause]) -> None:
    assert all(clause.en.replace(" ", "").isalpha() for clause in clauses)
    assert all(clause.en == clause.en.lower() for clause in clauses)


def test_every_english_clause_has_one_translation(clauses: list[grammar.Clause]) -> None:
    seen: dict[str, str] = {}
    assert all(seen.setdefault(clause.en, clause.de) == clause.de for clause in clauses)


def test_numbers_and_names_are_translated_in_place(clauses: list[grammar.Clause]) -> None:
    numbers = dict(lexicon.NUMBERS)
    for clause in clauses:
        german = clause.de.split()
        for word in clause.en.split():
            if word in numbers:
                assert numbers[word] in german
            if word in lexicon.NAMES:
                assert word.capitalize() in german


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("a red apple", "einen roten Apfel"),
        ("an old lamp", "eine alte Lampe"),
        ("a big book", "ein großes Buch"),
        ("the small hat", "den kleinen Hut"),
        ("the expensive car", "das teure Auto"),
        ("two heavy boxes", "zwei schwere Kisten"),
        ("an umbrella", "einen Regenschirm"),
    ],
)
def test_objects_are_declined(english: str, german: str) -> None:
    rng = Random(1)
    phrases = dict(grammar._object(rng) for _ in range(60_000))
    assert phrases[english] == german


def test_receivers_take_the_dative() -> None:
    rng = Random(2)
    phrases = dict(grammar._receiver(rng) for _ in range(2000))
    assert phrases["the boy"] == "dem Jungen"
    assert phrases["the nurse"] == "der Krankenschwester"
    assert phrases["the child"] == "dem Kind"


def test_splits_share_no_clause() -> None:
    rng = Random(3)
    train = {grammar.draw_clause(rng, "train").en for _ in range(2000)}
    heldout = {grammar.draw_clause(rng, "heldout").en for _ in range(500)}
    assert not train & heldout
    assert {grammar.split_of(text) for text in heldout} == {"heldout"}


def test_digits_keep_their_order() -> None:
    clause = grammar.digit_clause(["seven", "zero", "one"])
    assert clause.de == "sieben null eins"


def test_join_puts_the_joiner_between() -> None:
    one, two = grammar.Clause("a", "A"), grammar.Clause("b", "B")
    assert grammar.join([one, two], [lexicon.Pair("and", "und")]) == ("a and b", "A und B")
    assert grammar.join([one, two], [None]) == ("a b", "A B")


def test_every_word_is_one_token() -> None:
    tokenizer = build_processor().tokenizer
    words = [*grammar.english_words(), *grammar.german_words()]
    split = [word for word in words if len(tokenizer.encode(" " + word)) != 1]
    assert not split
    assert tokenizer.decode(tokenizer.encode(" die Ärztin wusch")) == " die Ärztin wusch"
