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
from .reading import ReadAhead, Reading
from .records import (
    Failure,
    Hypothesis,
    Recording,
    Report,
    Seconds,
    Segment,
    Source,
    Transcript,
)
from .results import report as reports
from .results.assemble import Heard, assemble
from .results.store import Sink
from .stages import Rooms, Stages, Transcriber
from .template import template_of

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
        seconds: of audio, for a segment.
        record: the finished record.
    """

    kind: Literal["loading", "started", "skipped", "reading", "segment", "record"]
    id: str = ""
    seconds: Seconds = 0.0
    record: Transcript | None = None


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

    Args:
        config: what to do.
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
    return _Run(config, sink, fail_fast, on_event, stages or Rooms()).go(iter(recordings))


def hopeless(config: RunConfig, recording: Recording) -> Failure | None:
    """Why a recording can be given up before it is opened."""
    if recording.error is not None:
        return Failure("MediaError", recording.error)
    if config.asks_each and not recording.question:
        return Failure("UsageError", "the manifest asks no question about it")
    return None


@dataclass
class _InFlight:
    """A recording whose segments are on their way."""

    reading: Reading
    source: Source
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
        self._template = template_of(config)
        self._report = Report()
        self._sources: dict[str, Source] = {}
        self._flying: dict[str, _InFlight] = {}

    def go(self, recordings: Iterator[Recording]) -> Report:
        """Look for the first recording that needs the model, then work through them all."""
        unusable: list[Recording] = []
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
        self._on_event(Event("loading", record=self._template))
        model, engine = self._stages.start(self._config)
        self._template = template_of(self._config, model)
        self._on_event(Event("started", record=self._template))
        return model, engine

    def _work(self, model: SpeechLM, engine: Transcriber, todo: Iterator[Recording]) -> None:
        read = self._stages.reader(self._config, model)
        with ReadAhead(self._usable(todo), read) as readings:
            for answer in engine.transcribe(self._segments(readings)):
                self._take(answer)

    def _undone(self, recordings: Iterator[Recording]) -> Iterator[Recording]:
        for recording in recordings:
            key = (recording.id, self._config.task)
            source = self._stages.source(recording, self._config.hash)
            asked = self._config.asked(recording.question)
            if recording.error is None and self._sink.done(key, source, asked):
                self._report = replace(self._report, skipped=self._report.skipped + 1)
                self._on_event(Event("skipped", recording.id))
            else:
                # taken before reading: a file that changes meanwhile will be redone
                self._sources[recording.id] = source
                yield recording

    def _usable(self, recordings: Iterable[Recording]) -> Iterator[Recording]:
        """Recordings that can be tried; the others get their record here."""
        for recording in recordings:
            if (failure := hopeless(self._config, recording)) is None:
                yield recording
            else:
                source = self._sources.pop(recording.id, Source())
                heard = Heard(recording, source, failure=failure)
                self._finish(assemble(self._template, heard, []))

    def _set_aside(self, recording: Recording, unusable: list[Recording]) -> bool:
        if hopeless(self._config, recording) is None:
            return False
        unusable.append(recording)
        return True

    def _check_questions(self, unusable: Iterable[Recording]) -> None:
        """When nobody has a question, and nobody had one before, it was forgotten."""
        unasked = any(recording.error is None for recording in unusable)
        if unasked and not self._report.skipped:
            raise UsageError(no_question(self._config.task))

    def _segments(self, readings: Iterable[Reading]) -> Iterator[Segment]:
        for reading in readings:
            name = reading.recording.id
            self._on_event(Event("reading", name))
            if self._stopping:
                self._report = replace(self._report, stopped=True)
                return
            flight = _InFlight(reading, self._sources.pop(name, Source()))
            self._flying[name] = flight
            question = self._config.asked(reading.recording.question)
            for segment in reading:
                flight.asked += 1
                yield replace(segment, question=question) if question else segment
            flight.read = True
            self._land(name)

    def _take(self, answer: Hypothesis) -> None:
        self._flying[answer.recording_id].answers.append(answer)
        self._on_event(Event("segment", answer.recording_id, answer.end - answer.start))
        self._land(answer.recording_id)

    def _land(self, name: str) -> None:
        """Finish a recording once it is read to its end and all its segments are answered."""
        flight = self._flying[name]
        if flight.read and flight.asked == len(flight.answers):
            del self._flying[name]
            asked = self._config.asked(flight.reading.recording.question)
            template = replace(self._template, question=asked)
            self._finish(assemble(template, _heard(flight), flight.answers))

    def _finish(self, record: Transcript) -> None:
        self._sink.write(record)
        self._report = reports.add(self._report, record)
        self._on_event(Event("record", record.id, record.duration or 0.0, record))
        if self._fail_fast and record.status != "ok":
            raise _Stop


def _heard(flight: _InFlight) -> Heard:
    reading, cut = flight.reading, flight.reading.cut
    heard = Heard(reading.recording, flight.source, failure=reading.failure)
    if cut is None:
        return heard
    return replace(
        heard,
        audio_s=cut.audio_s,
        load_s=cut.load_s,
        segment_s=cut.segment_s,
        warnings=cut.warnings,
    )
