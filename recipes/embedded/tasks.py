"""What the embedded model is taught to do. A new task is one more row.

The prompts are the texts that follow the audio in the chat template. Questions (`sqa`, `chat`) are
their own prompts.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, NamedTuple

from .grammar import Clause, Facts
from .moods import MOODS
from .questions import UNKNOWN, Mark, draw_lesson, draw_probes

Row = Mapping[str, Any]
"""A row of a shard's index."""

SPEAKERS = {1: "one", 2: "two"}
LABELS = (*MOODS, *SPEAKERS.values())
"""All answers of the tasks that ask for one word of a few."""

QUESTION = "{question}"
"""The prompt of sqa and chat: whatever is asked."""


class Task(NamedTuple):
    """A prompt, the answer that it asks for (None: nobody knows) and its weight in the loss.

    The weight makes up for the length: a label is two tokens, a transcript thirty.
    """

    prompt: str
    answer: Callable[[Row], str | None]
    weight: float = 1.0


class Example(NamedTuple):
    """A prompt, its answer, the weight of the answer's tokens, and the marks of a question."""

    prompt: str
    answer: str
    weight: float
    marks: tuple[Mark, ...] = ()


TASKS: dict[str, Task] = {
    "asr": Task("transcribe the speech", lambda row: row["text"] or None),
    "st": Task("translate the speech into german", lambda row: row["translation"] or None),
    "er": Task("name the mood of the voice", lambda row: row["mood"], 5.0),
    "sv": Task("count the voices", lambda row: SPEAKERS.get(row["speakers"]), 5.0),
}
"""Tasks with a fixed prompt, by name."""

_QUESTIONS = 4
"""Questions about one utterance, twins not counted."""

_QUESTION_WEIGHT = 1.5


def examples_of(row: Row, rng: Random) -> list[Example]:
    """Return all that can be asked about an utterance: every task, and new questions each time.

    The last one is no question but a list of words to look for; its answer weighs nothing.
    """
    asked = [(task, task.answer(row)) for task in TASKS.values()]
    found = [Example(task.prompt, answer, task.weight) for task, answer in asked if answer]
    clauses = [Clause(row["text"], "", Facts(**facts)) for facts in row["facts"]]
    if clauses:
        lesson = draw_lesson(rng, clauses, _QUESTIONS)
        found += [Example(one.question, one.answer, _QUESTION_WEIGHT, one.marks) for one in lesson]
        words, marks = draw_probes(rng, clauses)
        found.append(Example(words, UNKNOWN, 0.0, marks))
    return found
