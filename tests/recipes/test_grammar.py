import re
from dataclasses import astuple, replace
from random import Random

import pytest

from recipes.embedded import grammar, lexicon, nouns, numbers, verbs
from recipes.embedded.tokens import build_processor


@pytest.fixture(scope="module")
def clauses() -> list[grammar.Clause]:
    rng = Random(0)
    return [grammar.draw_clause(rng, "train") for _ in range(3000)]


def test_both_languages_stay_inside_their_vocabulary(clauses: list[grammar.Clause]) -> None:
    english, german = set(grammar.english_words()), set(grammar.german_words())
    assert {word for clause in clauses for word in clause.en.split()} <= english
    written = {word for clause in clauses for word in clause.de.split()}
    assert all(_pieces(word) for word in written - german)


def _pieces(word: str) -> bool:
    """Whether a number is a word of the vocabulary followed by pieces for the tokenizer."""
    first = "|".join(grammar.german_words())
    following = "|".join(numbers.german_pieces())
    return re.fullmatch(f"({first})({following})+", word) is not None


def test_vocabulary_is_as_large_as_promised() -> None:
    assert len(grammar.english_words()) >= 540


def test_english_is_lower_case_and_without_punctuation(clauses: list[grammar.Clause]) -> None:
    assert all(clause.en.replace(" ", "").isalpha() for clause in clauses)
    assert all(clause.en == clause.en.lower() for clause in clauses)


def test_every_english_clause_has_one_translation(clauses: list[grammar.Clause]) -> None:
    seen: dict[str, str] = {}
    assert all(seen.setdefault(clause.en, clause.de) == clause.de for clause in clauses)


def test_facts_repeat_words_of_the_clause(clauses: list[grammar.Clause]) -> None:
    for clause in clauses:
        assert clause.facts is not None
        said = astuple(replace(clause.facts, base=""))
        assert all(f" {fact} " in f" {clause.en} " for fact in said if fact)
        assert " ".join(_told(clause.facts)) == clause.en


def _told(facts: grammar.Facts) -> list[str]:
    """Say a clause again from its facts alone."""
    if facts.number:
        return ["the number is", facts.number]
    subject, thing = facts.subject or facts.object, facts.object if facts.subject else ""
    return [*filter(None, (subject, facts.past, facts.receiver, thing, facts.place, facts.time))]


def test_facts_take_the_object_apart(clauses: list[grammar.Clause]) -> None:
    found = [clause.facts for clause in clauses if clause.facts and clause.facts.object]
    assert found
    for facts in found:
        parts = [facts.count, facts.quality, facts.noun]
        assert facts.object.split(" ", 1)[1].endswith(facts.noun)
        assert facts.object.removeprefix("the ").removeprefix("a ").removeprefix("an ") == (
            " ".join(filter(None, parts))
        )


def test_facts_name_the_base_form(clauses: list[grammar.Clause]) -> None:
    bases = {clause.facts.past: clause.facts.base for clause in clauses if clause.facts}
    assert (bases["bought"], bases["gave"], bases["swam"]) == ("buy", "give", "swim")
    assert (bases["was"], bases["hid"]) == ("be", "hide")


def test_names_are_translated_in_place(clauses: list[grammar.Clause]) -> None:
    for clause in clauses:
        named = [word for word in clause.en.split() if word in nouns.NAMES]
        assert {name.capitalize() for name in named} <= set(clause.de.split())


def test_counts_are_translated_in_place(clauses: list[grammar.Clause]) -> None:
    german = {numbers.english(n): numbers.german(n) for n in range(numbers.LIMIT)}
    counted = [clause for clause in clauses if clause.facts and clause.facts.count]
    assert len(counted) > 500
    for clause in counted:
        assert clause.facts is not None
        assert german[clause.facts.count] in clause.de.split()


def test_counts_reach_into_the_thousands(clauses: list[grammar.Clause]) -> None:
    counts = [clause.facts.count for clause in clauses if clause.facts and clause.facts.count]
    large = [count for count in counts if "hundred" in count or "thousand" in count]
    assert 0.03 < len(large) / len(counts) < 0.12
    assert any("thousand" in count for count in large)
    rng = Random(5)
    drawn = [grammar._count(rng) for _ in range(20_000)]
    assert not [number for number in drawn if number % 100 == 1]


def test_no_two_words_sound_alike() -> None:
    sounds = """
        son sun|for four fore|sea see|mail male|pair pear pare|flower flour|ate eight|won one
        two too to|red read|blue blew|buy by bye|knight night|week weak|new knew|right write
        threw through|meat meet|hole whole|road rode rowed|tail tale|wait weight|hour our|no know
        steal steel|rain reign|plane plain|stare stair|stares stairs|sent cent scent|rose rows
        deer dear|bear bare|hair hare|piece peace|board bored|nose knows|bury berry|ring wring
    """
    spoken = set(grammar.english_words())
    for group in sounds.replace("\n", "|").split("|"):
        assert len(spoken.intersection(group.split())) <= 1, group


def test_tables_translate_no_word_twice() -> None:
    things = [thing.de for thing in nouns.THINGS]
    roles = [role.nominative for role in nouns.ROLES]
    acts = [verb.de for table in (verbs.TRANSITIVE, verbs.DITRANSITIVE) for verb in table] + [
        verb.de for verb in verbs.INTRANSITIVE
    ]
    phrases = [pair.de for pair in (*lexicon.PLACES, *lexicon.TIMES, *lexicon.ADJECTIVES)]
    for table in (things, roles, acts, phrases):
        assert len(table) == len(set(table))


@pytest.mark.parametrize(
    ("number", "english", "german"),
    [
        (0, "zero", "null"),
        (1, "one", "eins"),
        (16, "sixteen", "sechzehn"),
        (21, "twenty one", "einundzwanzig"),
        (42, "forty two", "zweiundvierzig"),
        (70, "seventy", "siebzig"),
        (100, "one hundred", "einhundert"),
        (101, "one hundred and one", "einhunderteins"),
        (312, "three hundred and twelve", "dreihundertzwölf"),
        (1000, "one thousand", "eintausend"),
        (1031, "one thousand and thirty one", "eintausendeinunddreißig"),
        (3205, "three thousand two hundred and five", "dreitausendzweihundertfünf"),
        (9900, "nine thousand nine hundred", "neuntausendneunhundert"),
    ],
)
def test_numbers_by_hand(number: int, english: str, german: str) -> None:
    assert (numbers.english(number), numbers.german(number)) == (english, german)


def test_english_numbers_read_back() -> None:
    assert [_read_english(numbers.english(n)) for n in range(numbers.LIMIT)] == [*range(10_000)]


def _read_english(text: str) -> int:
    small = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    small += " fifteen sixteen seventeen eighteen nineteen"
    tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    values = {word: value for value, word in enumerate(small.split())}
    values |= {word: 20 + 10 * place for place, word in enumerate(tens)}
    done = open_ = 0
    for word in text.split():
        if word == "thousand":
            done, open_ = open_ * 1000, 0
        elif word == "hundred":
            open_ *= 100
        elif word != "and":
            open_ += values[word]
    return done + open_


def test_german_numbers_read_back() -> None:
    assert [_read_german(numbers.german(n)) for n in range(numbers.LIMIT)] == [*range(10_000)]


def _read_german(text: str) -> int:
    small = "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn"
    small += " fünfzehn sechzehn siebzehn achtzehn neunzehn"
    tens = ["zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"]
    values = {word: value for value, word in enumerate(small.split())} | {"ein": 1, "": 0}
    values |= {word: 20 + 10 * place for place, word in enumerate(tens)}
    thousands, _, below = text.rpartition("tausend")
    hundreds, _, rest = below.rpartition("hundert")
    ones, _, ten = rest.rpartition("und")
    return values[thousands] * 1000 + values[hundreds] * 100 + values[ones] + values[ten]


@pytest.mark.parametrize("number", [-1, 10_000])
def test_numbers_without_a_name_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        numbers.english(number)


def test_numbers_are_drawn_from_every_magnitude() -> None:
    rng = Random(4)
    drawn = [grammar.draw_number(rng, "heldout") for _ in range(300)]
    values = [_read_english(clause.en.removeprefix("the number is ")) for clause in drawn]
    assert {len(str(value)) for value in values} == {1, 2, 3, 4}
    assert [f"die Nummer ist {numbers.german(value)}" for value in values] == [
        clause.de for clause in drawn
    ]
    assert all(grammar.split_of(clause.en) == "heldout" for clause in drawn)


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("a red apple", "einen roten Apfel"),
        ("an old lamp", "eine alte Lampe"),
        ("a big book", "ein großes Buch"),
        ("the small hat", "den kleinen Hut"),
        ("the expensive car", "das teure Auto"),
        ("two heavy boxes", "zwei schwere Kisten"),
        ("the red apples", "die roten Äpfel"),
        ("the pearls", "die Perlen"),
        ("an umbrella", "einen Regenschirm"),
    ],
)
def test_objects_are_declined(english: str, german: str, objects: dict[str, str]) -> None:
    assert objects[english] == german


@pytest.fixture(scope="module")
def objects() -> dict[str, str]:
    rng, adjectives = Random(1), [*lexicon.ADJECTIVES, lexicon.Pair("", "")]
    forms = (grammar._several, grammar._definite, grammar._indefinite, *[grammar._counted] * 40)
    wanted = ["apple", "lamp", "book", "hat", "car", "box", "pearl", "umbrella"]
    things = [thing for thing in nouns.THINGS if thing.en in wanted]
    return dict(
        form(rng, thing, adjective).phrase
        for thing in things
        for adjective in adjectives
        for form in forms
    )


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
    assert clause.facts == grammar.Facts(number="seven zero one")


def test_join_puts_the_joiner_between() -> None:
    one, two = grammar.Clause("a", "A"), grammar.Clause("b", "B")
    assert grammar.join([one, two], [lexicon.Pair("and", "und")]) == ("a and b", "A und B", None)
    assert grammar.join([one, two], [None]) == ("a b", "A B", None)


def test_every_word_is_one_token() -> None:
    tokenizer = build_processor().tokenizer
    words = [*grammar.english_words(), *grammar.german_words()]
    split = [word for word in words if len(tokenizer.encode(" " + word)) != 1]
    assert not split
    assert tokenizer.decode(tokenizer.encode(" die Ärztin wusch")) == " die Ärztin wusch"
