"""Rooms without sound and without a model: a recording is a text file, a line is a segment.

A line's text comes back as the answer. Lines that begin with `!` go wrong on purpose:
`!media why` (the file breaks off), `!crash why` (a bug while reading), `!engine why` (the segment
fails), `!only task why` (it fails for one task), `!warn name` (a warning), `!sleep seconds`,
`!fatal why`, `!ask` (answers with the question), `!pid` (answers with the process), `!kill file`
(the process dies; once, which the file remembers), `!die file` (every time, which the file counts).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from core.config import RunConfig
from core.errors import MediaError, StartError
from core.ids import source_of
from core.reading import Read
from core.records import Cost, Hypothesis, Recording, Segment, Source

RATE = 10
SECONDS = 2.0
COST = Cost(0.1, 0.2, 0.3, 0.25, 12, 10, 8, 5, 1000, 500, 400, 300, 250, 64, 48, 0)


class FakeCut:
    """Segments of two seconds, one for each line."""

    def __init__(
        self, recording: Recording, check: Callable[[], None], tasks: tuple[str, ...] = ()
    ) -> None:
        self._recording, self._tasks = recording, tasks
        self.audio_s = 0.0
        self.load_s, self.segment_s = 0.01, 0.02
        self.warnings: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Segment]:
        lines = self._recording.path.read_text(encoding="utf-8").splitlines()
        texts = [text for text in lines if text]
        for index, text in enumerate(texts):
            _raise(text)
            samples = np.frombuffer(text.encode().ljust(80), np.uint8).astype(np.float32)
            self.audio_s += SECONDS
            # the text travels as the samples, whatever their number they are two seconds
            yield Segment(
                self._recording.id,
                index,
                index * SECONDS,
                samples,
                len(samples) // 2,
                tasks=self._tasks,
            )


def _raise(text: str) -> None:
    word, _, why = text.partition(" ")
    if word == "!media":
        raise MediaError(why)
    if word == "!crash":
        raise RuntimeError(why)
    if word == "!fatal":
        raise StartError(why)


class FakeEngine:
    """Echoes; batches of two across files."""

    def __init__(self, log: list[Any]) -> None:
        self._log = log

    def transcribe(self, segments: Iterator[Segment]) -> Iterator[Hypothesis]:
        source = iter(segments)
        while batch := list(islice(source, 2)):
            self._log.append([(segment.recording_id, segment.index) for segment in batch])
            yield from (
                self._answer(replace(segment, tasks=segment.tasks[at : at + 1]), len(batch))
                for segment in reversed(batch)
                for at in range(max(1, len(segment.tasks)))
            )

    def _answer(self, segment: Segment, size: int) -> Hypothesis:
        task = segment.tasks[0] if segment.tasks else None
        text = segment.samples.astype(np.uint8).tobytes().decode().strip()
        word, _, why = text.partition(" ")
        answer: dict[str, Any] = {"text": text, "cost": COST, "batch_size": size, "task": task}
        if word == "!only":  # one task fails
            other, _, why = why.partition(" ")
            word = "!engine" if task == other else ""
        if word == "!sleep":
            time.sleep(float(why))
        if word == "!engine":
            answer |= {"text": "", "error": why}
        if word == "!kill" and not Path(why).exists():
            Path(why).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "!die":
            with Path(why).open("a") as deaths:
                deaths.write("x")
            os._exit(1)
        if word == "!pid":
            answer["text"] = str(os.getpid())
        if word == "!ask":
            answer["text"] = str(segment.question)
        if word == "!warn":
            answer |= {"text": "warned", "warnings": (why,)}
        return Hypothesis(
            segment.recording_id, segment.index, segment.start, segment.start + SECONDS, **answer
        )


class FakeStages:
    """Stages for `core.pipeline.run`; `log` holds what was started and which batches ran."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def start(self, config: RunConfig) -> tuple[Any, Any]:
        if config.model == "absent":
            raise StartError("model 'absent' cannot be loaded: no such model")
        self.log.append("start")
        model = SimpleNamespace(
            facts=SimpleNamespace(sample_rate=RATE, source_languages=None),
            prompt_ids=lambda request: ([], [request.language if request.task == "asr" else None]),
            revision="r1",
            decoder_shape=SimpleNamespace(layers=32),
            device="cpu",
            dtype="torch.float32",
        )
        return model, self._entered()

    @contextmanager
    def _entered(self) -> Iterator[FakeEngine]:
        self.log.append("enter")
        try:
            yield FakeEngine(self.log)
        finally:
            self.log.append("exit")

    def reader(self, config: RunConfig, facts: Any) -> Read:
        tasks = tuple(one.task for one in config.each) if config.also else ()
        return partial(FakeCut, tasks=tasks) if tasks else FakeCut

    def source(self, recording: Recording, hashed: bool) -> Source:
        return source_of(recording.path, hashed=hashed)
