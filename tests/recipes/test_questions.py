from collections import Counter
from random import Random
from typing import get_args

import pytest

from recipes.embedded import grammar
from recipes.embedded.grammar import Clause, Facts
from recipes.embedded.questions import (
    Kind,
    Mark,
    Question,
    draw_lesson,
    draw_probes,
    draw_question,
    question_words,
)

KINDS = get_args(Kind)

ANNA = Clause(
    "anna bought three red apples in the kitchen on monday",
    "",
    Facts(
        subject="anna",
        past="bought",
        base="buy",
        object="three red apples",
        noun="apples",
        count="three",
        quality="red",
        place="in the kitchen",
        time="on monday",
    ),
)
ANNA_AGAIN = Clause(
    "anna saw the green lamps in paris",
    "",
    Facts(
        subject="anna",
        past="saw",
        base="see",
        object="the green lamps",
        noun="lamps",
        quality="green",
        place="in paris",
    ),
)
DOCTOR = Clause(
    "the doctor gave peter the letter",
    "",
    Facts("the doctor", "gave", "give", "the letter", "letter", receiver="peter"),
)
LAMP = Clause(
    "the old lamp was in the garden",
    "",
    Facts("", "was", "be", "the old lamp", "lamp", quality="old", place="in the garden"),
)
SLEEP = Clause(
    "clara slept in paris at night",
    "",
    Facts("clara", "slept", "sleep", place="in paris", time="at night"),
)
NUMBER = Clause("the number is forty two", "", Facts(number="forty two"))


@pytest.fixture(scope="module")
def asked() -> list[tuple[list[Clause], Question]]:
    rng = Random(0)
    recordings = [
        [grammar.draw_clause(rng, "train") for _ in range(1 + number % 3)] for number in range(6000)
    ]
    return [(clauses, draw_question(rng, clauses)) for clauses in recordings]


def _questions(clauses: list[Clause], draws: int = 1500) -> dict[str, str]:
    """Ask until every question has come up; the same question has the same answer."""
    rng, answers = Random(1), dict[str, str]()
    for _ in range(draws):
        question = draw_question(rng, clauses)
        assert answers.setdefault(question.question, question.answer) == question.answer
    return answers


def test_every_fact_can_be_asked_for() -> None:
    answers = _questions([ANNA, DOCTOR, LAMP, SLEEP, NUMBER])
    expected = {
        "who bought the apples": "anna",
        "what did anna buy": "three red apples",
        "where did anna buy the apples": "in the kitchen",
        "when did anna buy the apples": "on monday",
        "how many apples did anna buy": "three",
        "what kind of apples did anna buy": "red",
        "who gave the letter": "the doctor",
        "what did the doctor give": "the letter",
        "who did the doctor give the letter to": "peter",
        "where was the lamp": "in the garden",
        "what was in the garden": "the old lamp",
        "what kind of lamp was in the garden": "old",
        "who slept in paris": "clara",
        "where did clara sleep": "in paris",
        "when did clara sleep": "at night",
        "what is the number": "forty two",
    }
    known = {question: answer for question, answer in answers.items() if answer != "unknown"}
    assert known == expected


def test_what_a_clause_leaves_open_is_unknown() -> None:
    answers = _questions([DOCTOR, LAMP], 6000)
    assert answers["when did the doctor give the letter"] == "unknown"
    assert answers["what kind of letter did the doctor give"] == "unknown"
    assert answers["when was the lamp in the garden"] == "unknown"


def test_one_thing_is_never_counted() -> None:
    assert "how many letters did the doctor give" not in _questions([DOCTOR], 6000)
    plural = Clause("anna saw the cats", "", Facts("anna", "saw", "see", "the cats", "cats"))
    assert _questions([plural])["how many cats did anna see"] == "unknown"


def test_questions_with_two_answers_are_not_asked() -> None:
    facts = Facts("the boy", "bought", "buy", "an apple", "apple", time="today")
    boy = Clause("the boy bought an apple today", "", facts)
    answers = _questions([ANNA, boy])
    assert "who bought the apples" not in answers
    assert "who bought the apple" not in answers
    assert answers["what did the boy buy"] == "an apple"
    assert answers["what did anna buy"] == "three red apples"


def test_whatever_happened_at_a_place_makes_its_contents_ambiguous() -> None:
    facts = Facts("the boy", "saw", "see", "a lamp", "lamp", place="in paris")
    boy = Clause("the boy saw a lamp in paris", "", facts)
    dancer = Clause(
        "ruth danced in the garden", "", Facts("ruth", "danced", "dance", place="in the garden")
    )
    answers = _questions([LAMP, boy, dancer])
    assert not {"where was the lamp", "what was in the garden"} & set(answers)


def test_long_answers_are_not_asked_for() -> None:
    long = "three thousand two hundred and five"
    assert set(_questions([Clause("", "", Facts(number=long))], 200).values()) == {"unknown"}


def test_answers_are_heard_in_the_recording(asked: list[tuple[list[Clause], Question]]) -> None:
    for clauses, question in asked:
        if question.answer != "unknown":
            text = " | ".join(clause.en for clause in clauses)
            assert f" {question.answer} " in f" {text} "
            assert 1 <= len(question.answer.split()) <= 5


def test_foreign_words_make_the_answer_unknown(asked: list[tuple[list[Clause], Question]]) -> None:
    """A known answer stands in a clause that has all of the question's content words."""
    glue = {*question_words(), "was", "the", "in", "is", "number"}
    assert {question.answer == "unknown" for _, question in asked} == {True, False}
    for clauses, question in asked:
        content = set(question.question.split()) - glue
        holding = [clause for clause in clauses if content <= set(clause.en.split())]
        if question.answer != "unknown":
            assert any(question.answer in clause.en for clause in holding), question


def test_unknown_is_never_said_of_a_filled_slot(
    asked: list[tuple[list[Clause], Question]],
) -> None:
    slots = {"what": "object", "where": "place", "when": "time", "number": "number"}
    for clauses, question in asked:
        if question.answer == "unknown" and question.kind in slots:
            for facts in (clause.facts for clause in clauses if clause.facts):
                if getattr(facts, slots[question.kind]):
                    assert not _names(question.question, facts), (question, clauses)


def _names(question: str, facts: Facts) -> bool:
    """Whether a question names of a clause whatever a question of its kind can name."""
    if facts.number:
        return question == "what is the number"
    first = question.split()[0]
    if " was " in question:
        located = {"what": [facts.place], "where": [facts.noun], "when": [facts.noun, facts.place]}
        named = located[first]
    else:
        thing = [facts.noun] if facts.noun and first != "what" else []
        named = [facts.subject, facts.base, *thing]
    return all(phrase and f" {phrase} " in f" {question} " for phrase in named)


def test_about_one_answer_in_five_is_unknown(asked: list[tuple[list[Clause], Question]]) -> None:
    unknown = [question for _, question in asked if question.answer == "unknown"]
    assert 0.15 < len(unknown) / len(asked) < 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_alone_gives_nothing_away(
    kind: Kind, asked: list[tuple[list[Clause], Question]]
) -> None:
    of_kind = [question for _, question in asked if question.kind == kind]
    unknown = [question for question in of_kind if question.answer == "unknown"]
    assert len(of_kind) > 100
    assert 0.1 < len(unknown) / len(of_kind) < 0.35


def test_questions_stay_inside_the_vocabulary(asked: list[tuple[list[Clause], Question]]) -> None:
    spoken, added = set(grammar.english_words()), set(question_words())
    said = {word for _, question in asked for word in question.question.split()}
    assert said <= spoken | added
    assert "unknown" in added <= said | {"unknown"}
    assert not spoken & added


def test_the_same_seed_asks_the_same() -> None:
    def draw() -> list[Question]:
        rng = Random(5)
        return [draw_question(rng, [ANNA, LAMP, SLEEP]) for _ in range(50)]

    assert draw() == draw()
    assert len(Counter(draw())) > 8


def test_joined_clauses_are_refused() -> None:
    with pytest.raises(ValueError, match="without facts"):
        draw_question(Random(0), [grammar.join([ANNA, LAMP], [None])])


def test_a_lesson_says_what_single_questions_say(
    asked: list[tuple[list[Clause], Question]],
) -> None:
    rng = Random(2)
    for clauses, _ in asked[:40]:
        answers = _questions(clauses, 400)
        lesson = [one for _ in range(20) for one in draw_lesson(rng, clauses, 4)]
        assert all(answers.get(one.question, one.answer) == one.answer for one in lesson)


def test_a_lesson_has_twins_that_name_one_thing_otherwise() -> None:
    rng, twins = Random(3), Counter[str]()
    for _ in range(400):
        lesson = draw_lesson(rng, [ANNA, ANNA_AGAIN], 1)
        assert len({one.question for one in lesson}) == len(lesson) <= 2
        if len(lesson) == 2:
            first, twin = ((one.kind, one.question.split(), one.answer) for one in lesson)
            assert first[0] == twin[0]
            assert first[1] != twin[1]
            assert first[2] != "unknown"
            twins[twin[2]] += 1
    assert {"unknown", "the green lamps", "three red apples"} <= set(twins)
    assert 0.2 < twins.total() / 400 < 0.5


def test_a_twin_of_another_clause_has_its_answer() -> None:
    rng = Random(4)
    lessons = [draw_lesson(rng, [ANNA, ANNA_AGAIN], 1) for _ in range(600)]
    kinds = ("what kind of apples did anna buy", "what kind of lamps did anna see")
    for lesson in lessons:
        answers = {one.question: one.answer for one in lesson}
        assert answers.get(kinds[0], "red") == "red"
        assert answers.get("what kind of apples did anna see", "unknown") == "unknown"
        assert answers.get(kinds[1], "green") == "green"


def test_marks_say_which_clauses_still_fit() -> None:
    rng, found = Random(6), dict[str, tuple[Mark, ...]]()
    for _ in range(800):
        for one in draw_lesson(rng, [ANNA, ANNA_AGAIN, LAMP], 2):
            found[one.question] = one.marks
    both, first, second = (True, True, False), (True, False, False), (False, True, False)
    assert found["what kind of apples did anna buy"] == (
        Mark(3, "apple", first),
        Mark(5, "anna", first),
        Mark(6, "bought", first),
    )
    assert found["what kind of apples did anna see"][-1] == Mark(6, "saw", (False,) * 3)
    assert found["what did anna see"] == (Mark(2, "anna", both), Mark(3, "saw", second))
    # where anything was, the verb tells nothing
    assert found["what was in the garden"] == (Mark(4, "garden", (False, False, True)),)


def test_probes_are_words_that_questions_name_heard_and_not() -> None:
    rng, counts = Random(7), Counter[str]()
    for _ in range(60):
        words, marks = draw_probes(rng, [ANNA, DOCTOR, LAMP, SLEEP, NUMBER])
        shown = words.split()
        assert [mark.word for mark in marks] == list(range(1, len(shown)))
        assert all(mark.fits == () for mark in marks)
        counts.update(f"{shown[mark.word]} {mark.said}" for mark in marks)
    own = {"anna anna", "buy bought", "apples apple", "kitchen kitchen", "peter peter", "lamp lamp"}
    assert all(counts[pair] > 10 for pair in own)
    assert "be was" not in counts
    assert len(counts) > 200  # drawn from everywhere
