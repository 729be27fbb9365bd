"""The run: recordings in, records out, each as soon as it is complete.

Everything is drawn through generators: what is done is left out, the rest is decoded ahead in
threads, batched across files, answered by the model, put together for each file and handed to the
sink at once. A bad file costs its own record, never the run.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Literal

from .config import RunConfig
from .errors import UsageError
from .flags import no_question
from .reading import Cut, Read, ReadAhead, Reading
from .records import Hypothesis, Recording, Report, Seconds, Segment, Transcript
from .results import report as reports
from .results.assemble import Heard, assemble, in_equal_parts
from .results.store import Sink
from .stages import Rooms, Stages, Transcriber
from .template import template_of
from .wanted import Wanted, check_asked, hopeless, wanted

if TYPE_CHECKING:
    from .models.base import SpeechLM


@dataclass(frozen=True, slots=True)
class Event:
    """What happens during a run, for whoever watches.

    Attributes:
        kind: loading (the model; `record` shows which), started (model loaded; `record` shows
            device and dtype too), skipped (already done), reading (it is next), segment (one was
            answered), record (a recording is complete).
        id: of the recording.
        seconds: of audio, for a segment; each of several tasks has its share.
        record: the finished record.
        last: whether a record is the recording's last, where there are several tasks.
    """

    kind: Literal["loading", "started", "skipped", "reading", "segment", "record"]
    id: str = ""
    seconds: Seconds = 0.0
    record: Transcript | None = None
    last: bool = True


def run(
    config: RunConfig,
    recordings: Iterable[Recording],
    sink: Sink,
    *,
    fail_fast: bool = False,
    on_event: Callable[[Event], bool | None] = lambda event: None,
    stages: Stages | None = None,
) -> Report:
    """Transcribe recordings into a sink.

    The model is loaded when the first recording needs it: with nothing to do the run is instant.
    A recording's tasks share its decoding, and where they cut it alike its encoding; their records
    come together, in the order of the tasks. What the sink knows as done is left out task by task.

    Args:
        config: what to do, one task or several.
        recordings: found, unread; a list lets side files with one stem be told apart.
        sink: takes the records and knows which are done already.
        fail_fast: end at the first recording that is not ok.
        on_event: called on the caller's thread; once it returns True no other recording is begun,
            and the run ends when those in hand are done.
        stages: other rooms, for tests.

    Raises:
        UsageError: the method does not exist, or the model cannot do what is asked.
        StartError: the model does not load.
    """
    if isinstance(recordings, Sequence):
        sink.expect(recording.id for recording in recordings)
        check_asked(config, recordings)
    return _Run(config, sink, fail_fast, on_event, stages or Rooms()).go(iter(recordings))


@dataclass
class _InFlight:
    """A recording whose segments are on their way."""

    reading: Reading
    wanted: Wanted
    read: bool = False
    asked: int = 0
    answers: list[Hypothesis] = field(default_factory=list)


class _Stop(Exception):
    """`fail_fast` had its reason."""


class _Run:
    def __init__(
        self,
        config: RunConfig,
        sink: Sink,
        fail_fast: bool,
        on_event: Callable[[Event], bool | None],
        stages: Stages,
    ) -> None:
        self._config = config
        self._sink = sink
        self._fail_fast = fail_fast
        self._watch = on_event
        self._stopping = False
        self._stages = stages
        self._templates = {one.task: template_of(one) for one in config.each}
        self._report = Report()
        self._wanted: dict[str, Wanted] = {}
        self._reads: dict[tuple[RunConfig, ...], Read] = {}
        self._flying: dict[str, _InFlight] = {}

    def go(self, recordings: Iterator[Recording]) -> Report:
        """Look for the first recording that needs the model, then work through them all."""
        unusable: list[Wanted] = []
        todo = self._undone(recordings)
        first = next((one for one in todo if not self._set_aside(one, unusable)), None)
        begun = time.perf_counter()
        with suppress(_Stop):
            if first is None:
                self._check_questions(unusable)
                deque(self._usable(unusable), maxlen=0)
            else:
                model, engine = self._start()
                begun = time.perf_counter()
                with engine as entered:
                    self._work(model, entered, chain(unusable, [first], todo))
        return replace(self._report, wall_s=time.perf_counter() - begun)

    def _on_event(self, event: Event) -> None:
        self._stopping = bool(self._watch(event)) or self._stopping

    def _start(self) -> tuple[SpeechLM, AbstractContextManager[Transcriber]]:
        self._on_event(Event("loading", record=self._templates[self._config.task]))
        model, engine = self._stages.start(self._config)
        self._templates = {one.task: template_of(one, model) for one in self._config.each}
        for template in self._templates.values():
            self._sink.begin(template)
            self._on_event(Event("started", record=template))
        return model, engine

    def _work(self, model: SpeechLM, engine: Transcriber, todo: Iterator[Wanted]) -> None:
        self._reads[self._config.each] = self._stages.reader(self._config, model)

        def read(recording: Recording, check: Callable[[], None]) -> Cut:
            return self._read(self._wanted[recording.id].able, model)(recording, check)

        with ReadAhead(self._usable(todo), read) as readings:
            for answer in engine.transcribe(self._segments(readings)):
                self._take(answer)

    def _read(self, tasks: tuple[RunConfig, ...], model: SpeechLM) -> Read:
        """What cuts as these tasks want it, and no others."""
        if tasks not in self._reads:
            only = replace(tasks[0], also=tasks[1:])
            self._reads[tasks] = self._stages.reader(only, model)
        return self._reads[tasks]

    def _undone(self, recordings: Iterator[Recording]) -> Iterator[Wanted]:
        for recording in recordings:
            source = self._stages.source(recording, self._config.hash)
            found = wanted(self._config, recording, source, self._sink)
            if found is None:
                self._report = replace(self._report, skipped=self._report.skipped + 1)
                self._on_event(Event("skipped", recording.id))
            else:
                yield found

    def _usable(self, todo: Iterable[Wanted]) -> Iterator[Recording]:
        """Recordings that can be tried; the others get their records here."""
        for one in todo:
            if one.able:
                self._wanted[one.recording.id] = one
                yield one.recording
            else:
                self._finish(self._records(one, Heard(one.recording, one.source), []))

    def _set_aside(self, one: Wanted, unusable: list[Wanted]) -> bool:
        if one.able:
            return False
        unusable.append(one)
        return True

    def _check_questions(self, unusable: Iterable[Wanted]) -> None:
        """When nobody has a question, and nobody had one before, it was forgotten."""
        unasked = any(one.recording.error is None for one in unusable)
        if unasked and not self._report.skipped:
            raise UsageError(no_question(self._config.task))

    def _segments(self, readings: Iterable[Reading]) -> Iterator[Segment]:
        for reading in readings:
            name = reading.recording.id
            self._on_event(Event("reading", name))
            if self._stopping:
                self._report = replace(self._report, stopped=True)
                return
            flight = _InFlight(reading, self._wanted[name])
            self._flying[name] = flight
            question, tasks = flight.wanted.question, self._tasks(flight.wanted)
            for segment in reading:
                segment = replace(segment, tasks=segment.tasks or tasks, question=question)
                flight.asked += max(1, len(segment.tasks))
                yield segment
            flight.read = True
            self._land(name)

    def _tasks(self, one: Wanted) -> tuple[str, ...]:
        """What pieces are for that name no task: the only one, which is named if it has company."""
        return (one.able[0].task,) if self._config.also else ()

    def _take(self, answer: Hypothesis) -> None:
        flight = self._flying[answer.recording_id]
        flight.answers.append(answer)
        seconds = (answer.end - answer.start) / len(flight.wanted.able)
        self._on_event(Event("segment", answer.recording_id, seconds))
        self._land(answer.recording_id)

    def _land(self, name: str) -> None:
        """Finish a recording once it is read to its end and all its segments are answered."""
        flight = self._flying[name]
        if flight.read and flight.asked == len(flight.answers):
            del self._flying[name], self._wanted[name]
            self._finish(self._records(flight.wanted, _heard(flight), flight.answers))

    def _records(
        self, one: Wanted, heard: Heard, answers: Sequence[Hypothesis]
    ) -> list[Transcript]:
        """A record for each task; those that could be tried bear what they share in equal parts."""
        answers = in_equal_parts(answers)
        return [self._record(config, one, heard, answers) for config in one.tasks]

    def _record(
        self, config: RunConfig, one: Wanted, heard: Heard, answers: Sequence[Hypothesis]
    ) -> Transcript:
        template = self._templates[config.task]
        if failure := hopeless(config, one.recording):
            return assemble(template, Heard(one.recording, one.source, failure=failure), [])
        others = tuple(able.task for able in one.able if able.task != config.task)
        several = bool(self._config.also)
        mine = [answer for answer in answers if not several or answer.task == config.task]
        template = replace(template, question=config.asked(one.recording.question))
        return assemble(template, replace(heard, shared_with=others), mine)

    def _finish(self, records: Sequence[Transcript]) -> None:
        """Write the records of one recording, together."""
        records = [self._sink.write(record) for record in records]
        self._report = reports.add(self._report, *records)
        for event in recorded(records):
            self._on_event(event)
        if self._fail_fast and any(record.status != "ok" for record in records):
            raise _Stop


def recorded(records: Sequence[Transcript]) -> Iterator[Event]:
    """What is told of the records of one recording."""
    for record in records:
        last = record is records[-1]
        yield Event("record", record.id, record.duration or 0.0, record, last)


def _heard(flight: _InFlight) -> Heard:
    reading, cut = flight.reading, flight.reading.cut
    heard = Heard(reading.recording, flight.wanted.source, failure=reading.failure)
    if cut is None:
        return heard
    return replace(
        heard,
        audio_s=cut.audio_s,
        load_s=cut.load_s,
        segment_s=cut.segment_s,
        warnings=cut.warnings,
    )
