"""What lives on each machine of a run by Ray: a model, and the pipeline over a few recordings.

Records go back as JSON. What a worker had in hand when it died is done again by another, at last
each recording alone; one that ends every worker fails.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import pipeline
from .config import RunConfig
from .errors import FastAdaSPError, StartError
from .reading import Read
from .records import Json, Recording, Source
from .results.lines import Key
from .results.store import MemorySink
from .stages import Stages, Transcriber
from .wanted import Wanted

if TYPE_CHECKING:
    from .models.base import SpeechLM

_TRIES = 2
"""Workers that may die over a group of recordings, and then over one of those alone."""

_FATAL = f"{_TRIES} workers that took it alone died of it: try it without --engine ray to see why"


def ray() -> Any:
    """The package.

    Raises:
        StartError: it is not installed.
    """
    try:
        import ray as found
        import ray.data
    except ImportError as error:
        raise StartError("--engine ray needs Ray: pip install 'fastadasp[ray]'") from error
    return found


class Row(NamedTuple):
    """What a worker is told of a recording: also which of its tasks are done already."""

    recording: Recording
    source: Source
    done: list[Key]


def to_json(config: RunConfig, one: Wanted) -> str:
    """What a worker is told of a recording; see `of_json`."""
    done = [task.task for task in config.each if task not in one.tasks]
    recording = {**asdict(one.recording), "path": str(one.recording.path)}
    return json.dumps({"recording": recording, "source": asdict(one.source), "done": done})


def of_json(text: str) -> Row:
    """What a worker is told of a recording, out of `to_json`."""
    data = json.loads(text)
    recording = data["recording"]
    done = [(recording["id"], task) for task in data["done"]]
    found = Recording(**{**recording, "path": Path(recording["path"])})
    return Row(found, Source(**data["source"]), done)


class Ledger:
    """What workers have begun, in a process of its own: it knows when one did not come back.

    Ray gives the group of a worker that died to another one, for ever.
    """

    def __init__(self) -> None:
        self._begun: Counter[tuple[str, ...]] = Counter()
        self._made: dict[str, list[str]] = {}

    def begin(self, names: tuple[str, ...]) -> int:
        """How often these recordings have been begun together, this time included."""
        self._begun[names] += 1
        return self._begun[names]

    def keep(self, name: str, records: list[str]) -> None:
        """Remember what a recording alone has brought, for when the next one ends the worker."""
        self._made[name] = records

    def kept(self, name: str) -> list[str] | None:
        """What a recording has brought before."""
        return self._made.get(name)


class Worker:
    """Lives on one machine with one model; called with groups of recordings."""

    def __init__(self, config: RunConfig, rooms: Stages, folder: str, ledger: Any) -> None:
        """Load the model; what goes wrong is told at the first call, as a row.

        Args:
            config: what to do.
            rooms: to walk through.
            folder: that relative paths start from.
            ledger: handle of the `Ledger` that all workers share.
        """
        with suppress(OSError):  # not needed where all paths are absolute
            os.chdir(folder)
        self._config, self._ledger = config, ledger
        self._fatal: Json | None = None
        try:
            self._stages = _Started(config, rooms)
        except FastAdaSPError as error:
            self._fatal = _fatal(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Records of a group, one JSON text for those of each recording."""
        if self._fatal is not None:
            return {"record": [json.dumps(self._fatal)]}
        group = [of_json(str(text)) for text in batch["recording"]]
        self._stages.known = {one.recording.id: one.source for one in group}
        try:
            return {"record": self._records(group)}
        except FastAdaSPError as error:
            return {"record": [json.dumps(_fatal(error))]}

    def _records(self, group: Sequence[Row]) -> list[str]:
        if self._tell("begin", tuple(one.recording.id for one in group)) <= _TRIES:
            return self._run(group)
        # one of them ends the process
        return [records for one in group for records in self._alone(one)]

    def _alone(self, one: Row) -> list[str]:
        made: list[str] | None = self._tell("kept", one.recording.id)
        if made is None:
            if self._tell("begin", (one.recording.id,)) > _TRIES:
                one = one._replace(recording=replace(one.recording, error=_FATAL))
            made = self._run([one])
            self._tell("keep", one.recording.id, made)
        return made

    def _run(self, group: Sequence[Row]) -> list[str]:
        sink = MemorySink(key for one in group for key in one.done)
        pipeline.run(self._config, (one.recording for one in group), sink, stages=self._stages)
        made: dict[str, list[Json]] = {}
        for record in sink.kept.values():
            made.setdefault(record.id, []).append(record.to_json())
        return [json.dumps(records) for records in made.values()]

    def _tell(self, what: str, *about: Any) -> Any:
        return ray().get(getattr(self._ledger, what).remote(*about))


class Once:
    """Rooms that look at each file once, `--hash` reads it all; `known` may be set beforehand."""

    def __init__(self, rooms: Stages) -> None:
        self._rooms = rooms
        self.known: dict[str, Source] = {}

    def start(self, config: RunConfig) -> tuple[SpeechLM, AbstractContextManager[Transcriber]]:
        """As the rooms."""
        return self._rooms.start(config)

    def reader(self, config: RunConfig, model: SpeechLM) -> Read:
        """As the rooms."""
        return self._rooms.reader(config, model)

    def source(self, recording: Recording, hashed: bool) -> Source:
        """As the rooms, looked at once."""
        if recording.id not in self.known:
            self.known[recording.id] = self._rooms.source(recording, hashed)
        return self.known[recording.id]


class _Started(Once):
    """Rooms whose model is loaded once and whose engine stays entered."""

    def __init__(self, config: RunConfig, rooms: Stages) -> None:
        super().__init__(rooms)
        self._model, engine = rooms.start(config)
        self._held = engine  # left when the process ends
        self._engine = engine.__enter__()

    def start(self, config: RunConfig) -> tuple[SpeechLM, AbstractContextManager[Transcriber]]:
        return self._model, nullcontext(self._engine)


def _fatal(error: FastAdaSPError) -> Json:
    return {"fatal": type(error).__name__, "message": str(error)}
