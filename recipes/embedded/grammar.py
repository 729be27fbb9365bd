"""Parallel English-German sentences with a deterministic split. Knows nothing of sound.

German main clauses keep the verb second: subject, verb, time, (dative), object, place. Each English
clause has exactly one translation, so that BLEU measures understanding and not taste.
"""

import hashlib
from collections.abc import Callable
from random import Random
from typing import Literal, NamedTuple

from . import lexicon as lex

Split = Literal["train", "heldout"]

HELDOUT_SHARE = 16
"""One clause in this many is held out, chosen by a hash of its English text."""

_NOMINATIVE = {"m": "der", "f": "die", "n": "das"}
_DATIVE = {"m": "dem", "f": "der", "n": "dem"}
_ACCUSATIVE = {"m": "den", "f": "die", "n": "das"}
_INDEFINITE = {"m": "einen", "f": "eine", "n": "ein"}
_WEAK_ENDING = {"m": "en", "f": "e", "n": "e"}  # accusative, after the definite article
_MIXED_ENDING = {"m": "en", "f": "e", "n": "es"}  # accusative, after "ein"


_TABLES = (
    lex.TRANSITIVE,
    lex.DITRANSITIVE,
    lex.INTRANSITIVE,
    lex.ADJECTIVES,
    lex.NUMBERS,
    lex.DIGITS,
    lex.PLACES,
    lex.TIMES,
    lex.JOINERS,
)


class Clause(NamedTuple):
    """One English clause (lower case, no punctuation) and its German translation."""

    en: str
    de: str


def split_of(english: str) -> Split:
    """Say to which split an English clause belongs: a function of its text alone."""
    digest = hashlib.sha1(english.encode()).digest()
    return "heldout" if digest[0] % HELDOUT_SHARE == 0 else "train"


def draw_clause(rng: Random, split: Split) -> Clause:
    """Draw a random clause (never a bare digit string) that belongs to `split`."""
    return _draw(rng, split, _any_clause)


def draw_digits(rng: Random, split: Split, count: int) -> Clause:
    """Draw a string of `count` digits, half of them after "the number is"."""
    return _draw(rng, split, lambda r: _digits(r, count))


def digit_clause(words: list[str]) -> Clause:
    """Translate a string of English digit words."""
    german = dict(lex.DIGITS)
    return Clause(" ".join(words), " ".join(german[word] for word in words))


def join(clauses: list[Clause], joiners: list[lex.Pair | None]) -> Clause:
    """Join clauses; `joiners[i]` stands before clause `i + 1`, None is a mere pause."""
    english, german = [clauses[0].en], [clauses[0].de]
    for clause, joiner in zip(clauses[1:], joiners, strict=True):
        english += ([joiner.en] if joiner else []) + [clause.en]
        german += ([joiner.de] if joiner else []) + [clause.de]
    return Clause(" ".join(english), " ".join(german))


def english_words() -> list[str]:
    """All English words that the grammar can say, sorted."""
    texts = [pair.en for table in _TABLES for pair in table]
    texts += [role.en for role in lex.ROLES] + list(lex.NAMES)
    texts += [form for thing in lex.THINGS for form in (thing.en, thing.en_plural)]
    return sorted(set(" ".join([*texts, "the a an was number is"]).split()))


def german_words() -> list[str]:
    """All German words that the grammar can write, sorted."""
    texts = [pair.de for table in _TABLES for pair in table if table is not lex.ADJECTIVES]
    texts += [name.capitalize() for name in lex.NAMES]
    texts += [form for role in lex.ROLES for form in (role.nominative, role.dative)]
    texts += [form for thing in lex.THINGS for form in (thing.de, thing.de_plural)]
    texts += [stem.de + ending for stem in lex.ADJECTIVES for ending in ("e", "en", "es")]
    articles = "der die das dem den ein eine einen war die Nummer ist"
    return sorted(set(" ".join([*texts, articles]).split()))


def _draw(rng: Random, split: Split, make: Callable[[Random], Clause]) -> Clause:
    while True:
        clause = make(rng)
        if split_of(clause.en) == split:
            return clause


def _any_clause(rng: Random) -> Clause:
    kinds = (_transitive, _ditransitive, _intransitive, _located)
    make = rng.choices(kinds, weights=(66, 12, 11, 11))[0]
    return make(rng)


def _transitive(rng: Random) -> Clause:
    subject, verb, thing = _subject(rng), rng.choice(lex.TRANSITIVE), _object(rng)
    place, time = _maybe(rng, lex.PLACES, 0.5), _maybe(rng, lex.TIMES, 0.5)
    return _clause(
        (subject.en, verb.en, thing.en, place.en, time.en),
        (subject.de, verb.de, time.de, thing.de, place.de),
    )


def _ditransitive(rng: Random) -> Clause:
    subject, verb, thing = _subject(rng), rng.choice(lex.DITRANSITIVE), _object(rng)
    receiver, time = _receiver(rng), _maybe(rng, lex.TIMES, 0.5)
    return _clause(
        (subject.en, verb.en, receiver.en, thing.en, time.en),
        (subject.de, verb.de, time.de, receiver.de, thing.de),
    )


def _intransitive(rng: Random) -> Clause:
    subject, verb = _subject(rng), rng.choice(lex.INTRANSITIVE)
    place, time = rng.choice(lex.PLACES), _maybe(rng, lex.TIMES, 0.7)
    return _clause(
        (subject.en, verb.en, place.en, time.en), (subject.de, verb.de, time.de, place.de)
    )


def _located(rng: Random) -> Clause:
    thing, place, time = rng.choice(lex.THINGS), rng.choice(lex.PLACES), _maybe(rng, lex.TIMES, 0.4)
    adjective = _maybe(rng, lex.ADJECTIVES, 0.7)
    ending = "e" if adjective.de else ""
    return _clause(
        ("the", adjective.en, thing.en, "was", place.en, time.en),
        (_NOMINATIVE[thing.gender], adjective.de + ending, thing.de, "war", time.de, place.de),
    )


def _digits(rng: Random, count: int) -> Clause:
    english = [rng.choice(lex.DIGITS).en for _ in range(count)]
    bare = digit_clause(english)
    if rng.random() < 0.5:
        return bare
    return Clause("the number is " + bare.en, "die Nummer ist " + bare.de)


def _subject(rng: Random) -> lex.Pair:
    if rng.random() < 0.55:
        return _name(rng)
    role = rng.choice(lex.ROLES)
    return lex.Pair(f"the {role.en}", f"{_NOMINATIVE[role.gender]} {role.nominative}")


def _receiver(rng: Random) -> lex.Pair:
    if rng.random() < 0.4:
        return _name(rng)
    role = rng.choice(lex.ROLES)
    return lex.Pair(f"the {role.en}", f"{_DATIVE[role.gender]} {role.dative}")


def _name(rng: Random) -> lex.Pair:
    name = rng.choice(lex.NAMES)
    return lex.Pair(name, name.capitalize())


def _object(rng: Random) -> lex.Pair:
    thing, adjective = rng.choice(lex.THINGS), _maybe(rng, lex.ADJECTIVES, 0.6)
    form = rng.choices((_counted, _definite, _indefinite), weights=(45, 27, 28))[0]
    return form(rng, thing, adjective)


def _counted(rng: Random, thing: lex.Thing, adjective: lex.Pair) -> lex.Pair:
    number = rng.choice(lex.NUMBERS)
    ending = "e" if adjective.de else ""
    return _phrase(
        (number.en, adjective.en, thing.en_plural),
        (number.de, adjective.de + ending, thing.de_plural),
    )


def _definite(_: Random, thing: lex.Thing, adjective: lex.Pair) -> lex.Pair:
    ending = _WEAK_ENDING[thing.gender] if adjective.de else ""
    return _phrase(
        ("the", adjective.en, thing.en),
        (_ACCUSATIVE[thing.gender], adjective.de + ending, thing.de),
    )


def _indefinite(_: Random, thing: lex.Thing, adjective: lex.Pair) -> lex.Pair:
    following = adjective.en or thing.en
    article = "an" if following[0] in "aeiou" else "a"
    ending = _MIXED_ENDING[thing.gender] if adjective.de else ""
    return _phrase(
        (article, adjective.en, thing.en),
        (_INDEFINITE[thing.gender], adjective.de + ending, thing.de),
    )


def _maybe(rng: Random, table: tuple[lex.Pair, ...], probability: float) -> lex.Pair:
    return rng.choice(table) if rng.random() < probability else lex.Pair("", "")


def _clause(english: tuple[str, ...], german: tuple[str, ...]) -> Clause:
    return Clause(*_phrase(english, german))


def _phrase(english: tuple[str, ...], german: tuple[str, ...]) -> lex.Pair:
    return lex.Pair(" ".join(filter(None, english)), " ".join(filter(None, german)))
