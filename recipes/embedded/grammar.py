"""Parallel English-German sentences with a deterministic split. Knows nothing of sound.

German main clauses keep the verb second: subject, verb, time, (dative), object, place. Each English
clause has exactly one translation, so that BLEU measures understanding and not taste.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Literal, NamedTuple

from . import lexicon as lex
from . import nouns, numbers, verbs

Split = Literal["train", "heldout"]

HELDOUT_SHARE = 16
"""One clause in this many is held out, chosen by a hash of its English text."""

_NOMINATIVE = {"m": "der", "f": "die", "n": "das"}
_DATIVE = {"m": "dem", "f": "der", "n": "dem"}
_ACCUSATIVE = {"m": "den", "f": "die", "n": "das"}
_INDEFINITE = {"m": "einen", "f": "eine", "n": "ein"}
_WEAK_ENDING = {"m": "en", "f": "e", "n": "e"}  # accusative, after the definite article
_MIXED_ENDING = {"m": "en", "f": "e", "n": "es"}  # accusative, after "ein"


_VERBS = (*verbs.TRANSITIVE, *verbs.DITRANSITIVE, *verbs.INTRANSITIVE)
_PHRASES = (*lex.PLACES, *lex.TIMES, *lex.JOINERS)
_ROUND_COUNTS: tuple[int, ...] = (*range(2, 21), *range(30, 100, 10))

_NONE = lex.Pair("", "")


@dataclass(frozen=True, slots=True)
class Facts:
    """What an English clause says, in its own words; a slot that it leaves open is empty."""

    subject: str = ""
    past: str = ""
    base: str = ""
    object: str = ""
    noun: str = ""
    count: str = ""
    quality: str = ""
    receiver: str = ""
    place: str = ""
    time: str = ""
    number: str = ""


class Clause(NamedTuple):
    """One English clause (lower case, no punctuation), its German translation and its facts."""

    en: str
    de: str
    facts: Facts | None = None


@dataclass(frozen=True, slots=True)
class _Object:
    """An object phrase and the English words in it that a question may ask for."""

    phrase: lex.Pair
    noun: str
    quality: str
    count: str = ""


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


def draw_number(rng: Random, split: Split) -> Clause:
    """Draw "the number is" with a number from 0 to 9999."""
    return _draw(rng, split, _number)


def digit_clause(words: list[str]) -> Clause:
    """Translate a string of English digit words."""
    german, english = dict(lex.DIGITS), " ".join(words)
    return Clause(english, " ".join(german[word] for word in words), Facts(number=english))


def join(clauses: list[Clause], joiners: list[lex.Pair | None]) -> Clause:
    """Join clauses; `joiners[i]` stands before clause `i + 1`, None is a mere pause."""
    english, german = [clauses[0].en], [clauses[0].de]
    for clause, joiner in zip(clauses[1:], joiners, strict=True):
        english += ([joiner.en] if joiner else []) + [clause.en]
        german += ([joiner.de] if joiner else []) + [clause.de]
    return Clause(" ".join(english), " ".join(german))


def english_words() -> list[str]:
    """All English words that the grammar can say, sorted."""
    texts = [pair.en for table in (_VERBS, lex.ADJECTIVES, _PHRASES) for pair in table]
    texts += [role.en for role in nouns.ROLES] + list(nouns.NAMES)
    texts += [form for thing in nouns.THINGS for form in (thing.en, thing.en_plural)]
    texts += numbers.english_words()
    return sorted(set(" ".join([*texts, "the a an was number is"]).split()))


def german_words() -> list[str]:
    """All German words that the grammar can write, sorted; of the numbers only the simple ones."""
    texts = [pair.de for table in (_VERBS, _PHRASES) for pair in table]
    texts += [name.capitalize() for name in nouns.NAMES]
    texts += [form for role in nouns.ROLES for form in (role.nominative, role.dative)]
    texts += [form for thing in nouns.THINGS for form in (thing.de, thing.de_plural)]
    texts += [stem.de + ending for stem in lex.ADJECTIVES for ending in ("e", "en", "es")]
    texts += numbers.german_words()
    articles = "der die das dem den ein eine einen war die Nummer ist"
    return sorted(set(" ".join([*texts, articles]).split()))


def _draw(rng: Random, split: Split, make: Callable[[Random], Clause]) -> Clause:
    while True:
        clause = make(rng)
        if split_of(clause.en) == split:
            return clause


def _any_clause(rng: Random) -> Clause:
    kinds = (_transitive, _ditransitive, _intransitive, _located, _number)
    make = rng.choices(kinds, weights=(60, 13, 11, 11, 5))[0]
    return make(rng)


def _transitive(rng: Random) -> Clause:
    subject, verb, thing = _subject(rng), rng.choice(verbs.TRANSITIVE), _object(rng)
    place, time = _maybe(rng, lex.PLACES, 0.5), _maybe(rng, lex.TIMES, 0.5)
    return _clause(
        (subject.en, verb.en, thing.phrase.en, place.en, time.en),
        (subject.de, verb.de, time.de, thing.phrase.de, place.de),
        replace(_facts(thing, place, time), subject=subject.en, past=verb.en, base=verb.base),
    )


def _ditransitive(rng: Random) -> Clause:
    subject, verb, thing = _subject(rng), rng.choice(verbs.DITRANSITIVE), _object(rng)
    receiver, time = _receiver(rng), _maybe(rng, lex.TIMES, 0.5)
    facts = replace(_facts(thing, _NONE, time), receiver=receiver.en)
    return _clause(
        (subject.en, verb.en, receiver.en, thing.phrase.en, time.en),
        (subject.de, verb.de, time.de, receiver.de, thing.phrase.de),
        replace(facts, subject=subject.en, past=verb.en, base=verb.base),
    )


def _intransitive(rng: Random) -> Clause:
    subject, verb = _subject(rng), rng.choice(verbs.INTRANSITIVE)
    place, time = rng.choice(lex.PLACES), _maybe(rng, lex.TIMES, 0.7)
    return _clause(
        (subject.en, verb.en, place.en, time.en),
        (subject.de, verb.de, time.de, place.de),
        Facts(subject.en, verb.en, verb.base, place=place.en, time=time.en),
    )


def _located(rng: Random) -> Clause:
    thing, place = rng.choice(nouns.THINGS), rng.choice(lex.PLACES)
    adjective, time = _maybe(rng, lex.ADJECTIVES, 0.7), _maybe(rng, lex.TIMES, 0.4)
    ending = "e" if adjective.de else ""
    phrase = _phrase(
        ("the", adjective.en, thing.en),
        (_NOMINATIVE[thing.gender], adjective.de + ending, thing.de),
    )
    facts = _facts(_Object(phrase, thing.en, adjective.en), place, time)
    return _clause(
        (phrase.en, "was", place.en, time.en),
        (phrase.de, "war", time.de, place.de),
        replace(facts, past="was", base="be"),
    )


def _digits(rng: Random, count: int) -> Clause:
    bare = digit_clause([rng.choice(lex.DIGITS).en for _ in range(count)])
    return bare if rng.random() < 0.5 else _numbered(bare.en, bare.de)


def _number(rng: Random) -> Clause:
    low = rng.choices((0, 10, 100, 1000), weights=(5, 25, 30, 40))[0]
    number = rng.randrange(low, max(10, low * 10))
    return _numbered(numbers.english(number), numbers.german(number))


def _numbered(english: str, german: str) -> Clause:
    return Clause(f"the number is {english}", f"die Nummer ist {german}", Facts(number=english))


def _subject(rng: Random) -> lex.Pair:
    if rng.random() < 0.55:
        return _name(rng)
    role = rng.choice(nouns.ROLES)
    return lex.Pair(f"the {role.en}", f"{_NOMINATIVE[role.gender]} {role.nominative}")


def _receiver(rng: Random) -> lex.Pair:
    if rng.random() < 0.4:
        return _name(rng)
    role = rng.choice(nouns.ROLES)
    return lex.Pair(f"the {role.en}", f"{_DATIVE[role.gender]} {role.dative}")


def _name(rng: Random) -> lex.Pair:
    name = rng.choice(nouns.NAMES)
    return lex.Pair(name, name.capitalize())


def _object(rng: Random) -> _Object:
    thing, adjective = rng.choice(nouns.THINGS), _maybe(rng, lex.ADJECTIVES, 0.6)
    forms = (_counted, _several, _definite, _indefinite)
    form = rng.choices(forms, weights=(40, 14, 23, 23))[0]
    return form(rng, thing, adjective)


def _counted(rng: Random, thing: nouns.Thing, adjective: lex.Pair) -> _Object:
    number = _count(rng)
    ending = "e" if adjective.de else ""
    phrase = _phrase(
        (numbers.english(number), adjective.en, thing.en_plural),
        (numbers.german(number), adjective.de + ending, thing.de_plural),
    )
    return _Object(phrase, thing.en_plural, adjective.en, numbers.english(number))


def _count(rng: Random) -> int:
    share = rng.random()
    if share < 0.8:
        return rng.choice(_ROUND_COUNTS)
    if share < 0.93:
        return rng.randrange(21, 100)
    number = rng.randrange(100, 1000) if share < 0.97 else rng.randrange(1000, numbers.LIMIT)
    # German has no settled form for "one hundred and one apples"
    return number + 1 if number % 100 == 1 else number


def _several(_: Random, thing: nouns.Thing, adjective: lex.Pair) -> _Object:
    ending = "en" if adjective.de else ""
    phrase = _phrase(
        ("the", adjective.en, thing.en_plural), ("die", adjective.de + ending, thing.de_plural)
    )
    return _Object(phrase, thing.en_plural, adjective.en)


def _definite(_: Random, thing: nouns.Thing, adjective: lex.Pair) -> _Object:
    ending = _WEAK_ENDING[thing.gender] if adjective.de else ""
    phrase = _phrase(
        ("the", adjective.en, thing.en),
        (_ACCUSATIVE[thing.gender], adjective.de + ending, thing.de),
    )
    return _Object(phrase, thing.en, adjective.en)


def _indefinite(_: Random, thing: nouns.Thing, adjective: lex.Pair) -> _Object:
    following = adjective.en or thing.en
    article = "an" if following[0] in "aeiou" else "a"
    ending = _MIXED_ENDING[thing.gender] if adjective.de else ""
    phrase = _phrase(
        (article, adjective.en, thing.en),
        (_INDEFINITE[thing.gender], adjective.de + ending, thing.de),
    )
    return _Object(phrase, thing.en, adjective.en)


def _maybe(rng: Random, table: tuple[lex.Pair, ...], probability: float) -> lex.Pair:
    return rng.choice(table) if rng.random() < probability else _NONE


def _facts(thing: _Object, place: lex.Pair, time: lex.Pair) -> Facts:
    return Facts(
        object=thing.phrase.en,
        noun=thing.noun,
        count=thing.count,
        quality=thing.quality,
        place=place.en,
        time=time.en,
    )


def _clause(english: tuple[str, ...], german: tuple[str, ...], facts: Facts) -> Clause:
    return Clause(*_phrase(english, german), facts)


def _phrase(english: tuple[str, ...], german: tuple[str, ...]) -> lex.Pair:
    return lex.Pair(" ".join(filter(None, english)), " ".join(filter(None, german)))
