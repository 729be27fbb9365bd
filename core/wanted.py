"""What is left to be done for each recording, task by task.

Knows settings, records and where results go; opens no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .config import RunConfig
from .errors import UsageError
from .flags import no_question
from .records import Failure, Recording, Source
from .results.store import Sink


@dataclass(frozen=True, slots=True)
class Wanted:
    """The tasks of one recording that are not done yet.

    Attributes:
        recording: which one.
        source: its file, before it is read: one that changes meanwhile will be redone.
        tasks: in the order of the run, at least one.
    """

    recording: Recording
    source: Source
    tasks: tuple[RunConfig, ...]

    @property
    def able(self) -> tuple[RunConfig, ...]:
        """Those that can be tried; they share the cost of what is done once for all of them."""
        return tuple(one for one in self.tasks if hopeless(one, self.recording) is None)

    @property
    def question(self) -> str | None:
        """What is asked about it in particular."""
        asked = (one.asked(self.recording.question) for one in self.able)
        return next(filter(None, asked), None)


def wanted(config: RunConfig, recording: Recording, source: Source, sink: Sink) -> Wanted | None:
    """What a sink does not know as done of a recording; None if it knows it all."""

    def done(one: RunConfig) -> bool:
        asked = one.asked(recording.question)
        return recording.error is None and sink.done((recording.id, one.task), source, asked)

    tasks = tuple(one for one in config.each if not done(one))
    return Wanted(recording, source, tasks) if tasks else None


def hopeless(config: RunConfig, recording: Recording) -> Failure | None:
    """Why one task of a recording can be given up before it is opened."""
    if recording.error is not None:
        return Failure("MediaError", recording.error)
    if config.asks_each and not recording.question:
        return Failure("UsageError", "the manifest asks no question about it")
    return None


def check_asked(config: RunConfig, recordings: Sequence[Recording]) -> None:
    """Refuse a task among others that needs a question where no recording brings one.

    Raises:
        UsageError: with the ways to ask. For a run with this task alone that shows by itself.
    """
    asked = any(recording.question for recording in recordings)
    for one in config.each if config.also and recordings and not asked else ():
        if one.asks_each:
            raise UsageError(no_question(one.task))
