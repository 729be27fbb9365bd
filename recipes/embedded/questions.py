"""Questions about the clauses of a recording, each with its one right answer in spoken words.

A pattern names some slots of a clause and asks for another. Every clause that has the named slots
answers the question, so a question that two clauses answer differently is never asked. Each kind
of question is sometimes "unknown", about as often as the others: the kind gives nothing away.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal, NamedTuple

from . import nouns, verbs
from .grammar import Clause, Facts, draw_clause, english_words

Kind = Literal["who", "what", "where", "when", "many", "quality", "receiver", "number"]

Form = Literal["act", "gift", "stay", "located", "number"]
"""A clause with object, with receiver too, without object, with "was", "the number is"."""

UNKNOWN = "unknown"
"""The answer when the recording does not tell."""

UNKNOWN_SHARE = 0.2
"""How often the recording does not tell."""

LONGEST_ANSWER = 5
"""Most words of an answer; nothing is asked that takes more."""

_PROBED_CLAUSES, _FOREIGN_CLAUSES = 3, 3
_TWINS = 0.4
"""How often a question of a lesson comes with its twin."""


class Mark(NamedTuple):
    """The word of a question that ends what it names.

    Attributes:
        word: its place among the question's words.
        said: what a recording says in its place: verbs in the past tense; `singular`.
        fits: whether each clause fits all that has been named so far; empty in a list of probes.
    """

    word: int
    said: str
    fits: tuple[bool, ...]


class Question(NamedTuple):
    """A question in lower case without punctuation, its answer, and marks where it names slots."""

    kind: Kind
    question: str
    answer: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A question's wording with the slots it names in braces, and the slot it asks for."""

    kind: Kind
    wording: str
    asked: str
    forms: tuple[Form, ...]

    @property
    def named(self) -> list[str]:
        """The slots that tell clauses apart: "was" is said of everything."""
        slots = [word[1:-1] for word in self.wording.split() if word.startswith("{")]
        return [slot for slot in slots if slot != "past" or self.forms != ("located",)]


_PATTERNS = (
    _Pattern("who", "who {past} the {noun}", "subject", ("act", "gift")),
    _Pattern("who", "who {past} {place}", "subject", ("stay",)),
    _Pattern("what", "what did {subject} {base}", "object", ("act", "gift")),
    _Pattern("what", "what {past} {place}", "object", ("located",)),
    _Pattern("where", "where did {subject} {base} the {noun}", "place", ("act",)),
    _Pattern("where", "where did {subject} {base}", "place", ("stay",)),
    _Pattern("where", "where {past} the {noun}", "place", ("located",)),
    _Pattern("when", "when did {subject} {base} the {noun}", "time", ("act", "gift")),
    _Pattern("when", "when did {subject} {base}", "time", ("stay",)),
    _Pattern("when", "when {past} the {noun} {place}", "time", ("located",)),
    _Pattern("many", "how many {noun} did {subject} {base}", "count", ("act", "gift")),
    _Pattern("quality", "what kind of {noun} did {subject} {base}", "quality", ("act", "gift")),
    _Pattern("quality", "what kind of {noun} {past} {place}", "quality", ("located",)),
    _Pattern("receiver", "who did {subject} {base} the {noun} to", "receiver", ("gift",)),
    _Pattern("number", "what is the number", "number", ("number",)),
)

_About = tuple[_Pattern, Facts]
"""A pattern and the clause that fills it."""

# The rarer a clause, the likelier a question about it.
_KNOWN_WEIGHTS: dict[Kind, int] = {
    "who": 2,
    "what": 2,
    "where": 2,
    "when": 2,
    "many": 4,
    "quality": 2,
    "receiver": 8,
    "number": 8,
}
# Per cent of each kind among the known answers, so that "unknown" has the same mixture.
_UNKNOWN_WEIGHTS: dict[Kind, int] = {
    "who": 18,
    "what": 17,
    "where": 14,
    "when": 12,
    "many": 13,
    "quality": 13,
    "receiver": 10,
    "number": 3,
}

_SINGULAR = {thing.en_plural: thing.en for thing in nouns.THINGS}
_PLURAL = {thing.en: thing.en_plural for thing in nouns.THINGS}


class _Recording(NamedTuple):
    """What a recording tells, the words that are heard and what may be asked with an answer."""

    facts: list[Facts]
    heard: set[str]
    known: list[_About]

    @classmethod
    def of(cls, clauses: Sequence[Clause]) -> "_Recording":
        facts = [clause.facts for clause in clauses if clause.facts is not None]
        if len(facts) < len(clauses):
            raise ValueError("a clause without facts, such as a joined one, cannot be asked about")
        heard = {word for clause in clauses for word in clause.en.split()}
        return cls(facts, heard, _known(facts))


def draw_question(rng: Random, clauses: Sequence[Clause]) -> Question:
    """Ask about one of the clauses; in a fixed share the answer is "unknown"."""
    return _drawn(rng, _Recording.of(clauses))[0]


def draw_lesson(rng: Random, clauses: Sequence[Clause], count: int) -> list[Question]:
    """Draw `count` questions, some with a twin, none of them twice.

    A twin names one thing otherwise, as another clause has it or as none has. Who answers by the
    likeliest word without checking all that is named gets one of the two wrong.
    """
    recording = _Recording.of(clauses)
    lesson: dict[str, Question] = {}
    for _ in range(count):
        asked, about = _drawn(rng, recording)
        lesson[asked.question] = asked
        if about and rng.random() < _TWINS:
            twin = _twin(rng, *about, recording)
            if twin:
                lesson[twin.question] = twin
    return list(lesson.values())


def draw_probes(rng: Random, clauses: Sequence[Clause]) -> tuple[str, tuple[Mark, ...]]:
    """List words that a question may name, some of them heard and some not, behind a "who"."""
    told = [clause.facts for clause in clauses if clause.facts is not None]
    drawn = (draw_clause(rng, "train").facts for _ in range(_FOREIGN_CLAUSES))
    words: dict[str, str] = {}
    for fact in (*rng.sample(told, min(len(told), _PROBED_CLAUSES)), *filter(None, drawn)):
        words.update({phrase.split()[-1]: said for phrase, said in _namable(fact) if phrase})
    shown = list(words)
    rng.shuffle(shown)
    marks = (Mark(place, singular(words[word]), ()) for place, word in enumerate(shown, start=1))
    return " ".join(["who", *shown]), tuple(marks)


def question_words() -> list[str]:
    """Words of questions and answers that no recording speaks, sorted."""
    fixed = {word for pattern in _PATTERNS for word in pattern.wording.split() if "{" not in word}
    bases = {
        verb.base
        for table in (verbs.TRANSITIVE, verbs.DITRANSITIVE, verbs.INTRANSITIVE)
        for verb in table
    }
    return sorted((fixed | bases | {UNKNOWN}) - set(english_words()))


def _drawn(rng: Random, recording: _Recording) -> tuple[Question, _About | None]:
    """Draw a question and, where it has an answer, what it is about."""
    if rng.random() >= UNKNOWN_SHARE and recording.known:
        kinds = sorted({pattern.kind for pattern, _ in recording.known})
        kind = rng.choices(kinds, [_KNOWN_WEIGHTS[kind] for kind in kinds])[0]
        about = rng.choice([known for known in recording.known if known[0].kind == kind])
        return _asked(*about, _slot(about[1], about[0].asked), recording.facts), about
    while True:
        question = _unknown(rng, recording.facts, recording.heard)
        if question is not None:
            return question, None


def _twin(rng: Random, pattern: _Pattern, fact: Facts, recording: _Recording) -> Question | None:
    """Name one slot otherwise; None where the clauses then answer in two ways."""
    others = [one for one in recording.facts if one is not fact and _form(one) == _form(fact)]
    if others and pattern.named and rng.random() < 0.5:
        changed = _with_slot_of(rng.choice(others), rng.choice(pattern.named), fact)
    else:
        changed = _with_foreign_slot(rng, pattern, fact, recording.heard)
    answers = _answers(pattern, changed, recording.facts) - {""}
    answer = min(answers, default=UNKNOWN)
    if len(answers) > 1 or len(answer.split()) > LONGEST_ANSWER:
        return None
    return _asked(pattern, changed, answer, recording.facts)


def _namable(fact: Facts) -> list[tuple[str, str]]:
    """What a question can name of a clause, and the last word that a recording says instead."""
    slots = (fact.subject, fact.noun, fact.receiver, fact.place)
    said = [(phrase, phrase.split()[-1]) for phrase in slots if phrase]
    return [*said, (fact.base, fact.past)] if fact.subject else said


def singular(word: str) -> str:
    """Return a plural's singular, any other word as it is."""
    return _SINGULAR.get(word, word)


def _known(facts: list[Facts]) -> list[_About]:
    """List what the recording answers in one way only."""
    known = []
    for pattern, fact in _told(_PATTERNS, facts):
        answer = _slot(fact, pattern.asked)
        alone = _answers(pattern, fact, facts) == {answer}
        if answer and alone and len(answer.split()) <= LONGEST_ANSWER:
            known.append((pattern, fact))
    return known


def _unknown(rng: Random, facts: list[Facts], heard: set[str]) -> Question | None:
    """Try to ask for what nobody says: a slot left open, or a clause with a foreign slot."""
    kind = rng.choices(list(_UNKNOWN_WEIGHTS), list(_UNKNOWN_WEIGHTS.values()))[0]
    patterns = [pattern for pattern in _PATTERNS if pattern.kind == kind]
    told = _told(patterns, facts)
    if told:
        pattern, fact = rng.choice(told)
        if _slot(fact, pattern.asked) or _uncountable(pattern, fact) or rng.random() < 0.5:
            fact = _with_foreign_slot(rng, pattern, fact, heard)
    else:
        pattern = rng.choice(patterns)
        fact = _foreign(rng, pattern.forms)
    if _answers(pattern, fact, facts) - {""}:
        return None
    return _asked(pattern, fact, UNKNOWN, facts)


def _with_foreign_slot(rng: Random, pattern: _Pattern, fact: Facts, heard: set[str]) -> Facts:
    """Replace one named slot by a word that is not in the recording."""
    if not pattern.named:
        return fact
    named = rng.choice(pattern.named)
    slot = "past" if named == "base" else named  # a recording says verbs in the past tense only
    foreign = _foreign(rng, (_form(fact),))
    while _heard(_slot(foreign, slot), heard):
        foreign = _foreign(rng, (_form(fact),))
    return _with_slot_of(foreign, slot, fact)


def _with_slot_of(other: Facts, slot: str, fact: Facts) -> Facts:
    if slot in ("past", "base"):
        return replace(fact, past=other.past, base=other.base)
    changes = {slot: _slot(other, slot)}
    return replace(fact, **changes)


def _foreign(rng: Random, forms: tuple[Form, ...]) -> Facts:
    """Draw the facts of a clause of one of the forms."""
    while True:
        facts = draw_clause(rng, "train").facts
        if facts is not None and _form(facts) in forms:
            return facts


def _heard(phrase: str, heard: set[str]) -> bool:
    last = phrase.split()[-1]
    return not heard.isdisjoint((last, _SINGULAR.get(last, last), _PLURAL.get(last, last)))


def _told(patterns: Sequence[_Pattern], facts: list[Facts]) -> list[tuple[_Pattern, Facts]]:
    return [
        (pattern, fact) for pattern in patterns for fact in facts if _form(fact) in pattern.forms
    ]


def _answers(pattern: _Pattern, fact: Facts, facts: list[Facts]) -> set[str]:
    """Collect what the clauses answer; whatever lay in the kitchen "was in the kitchen" too."""
    fitting = (other for other in facts if _fits(pattern, pattern.named, fact, other))
    return {_slot(other, pattern.asked) for other in fitting}


def _fits(pattern: _Pattern, named: Sequence[str], fact: Facts, other: Facts) -> bool:
    """Whether another clause has what is named of this one."""
    return (pattern.forms == ("located",) or _form(other) in pattern.forms) and all(
        _same(_slot(fact, slot), _slot(other, slot)) for slot in named
    )


def _same(one: str, other: str) -> bool:
    """Compare slots; "the apple" may be one of "the apples"."""
    return singular(one) == singular(other)


def _uncountable(pattern: _Pattern, fact: Facts) -> bool:
    """Whether the count is asked of a single thing, which is no open question."""
    return pattern.kind == "many" and fact.noun not in _SINGULAR


def _asked(pattern: _Pattern, fact: Facts, answer: str, facts: list[Facts]) -> Question:
    noun = _PLURAL.get(fact.noun, fact.noun) if pattern.kind == "many" else fact.noun
    words: list[str] = []
    named: list[str] = []
    marks = []
    for piece in pattern.wording.split():
        slot = piece.strip("{}")
        if piece == slot:
            words.append(piece)
            continue
        words += (noun if slot == "noun" else _slot(fact, slot)).split()
        if slot in pattern.named:
            named.append(slot)
            fits = tuple(_fits(pattern, named, fact, other) for other in facts)
            said = fact.past if slot == "base" else words[-1]
            marks.append(Mark(len(words) - 1, singular(said), fits))
    return Question(pattern.kind, " ".join(words), answer, tuple(marks))


def _slot(fact: Facts, name: str) -> str:
    return str(getattr(fact, name))


def _form(fact: Facts) -> Form:
    if fact.number:
        return "number"
    if not fact.subject:
        return "located"
    if not fact.noun:
        return "stay"
    return "gift" if fact.receiver else "act"
