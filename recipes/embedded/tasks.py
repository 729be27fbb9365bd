"""What the embedded model is taught to do. A new task is one more row.

The prompts are the texts that follow the audio in the chat template.
"""

from collections.abc import Callable
from typing import NamedTuple


class Texts(NamedTuple):
    """The texts of an utterance that a task may ask for."""

    text: str
    translation: str


class Task(NamedTuple):
    """A prompt and the answer that it asks for."""

    prompt: str
    answer: Callable[[Texts], str]


TASKS: dict[str, Task] = {
    "asr": Task("transcribe the speech", lambda texts: texts.text),
    "st": Task("translate the speech into german", lambda texts: texts.translation),
}
"""Tasks by name; all of them are trained together on every utterance."""
