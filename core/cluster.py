"""A run on many machines: the same stages on Ray Data, one model for each worker.

The driver finds what is to be done and holds the results; each worker runs the pipeline over a
few recordings at a time and sends their records back as JSON. What a worker had in hand when it
died is done again by another, at last each recording alone; one that ends every worker fails.
Recordings must lie at the same paths on every machine.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import errors, pipeline
from .config import RunConfig
from .errors import FastAdaSPError, StartError, first_line
from .pipeline import Event, recorded
from .reading import Read
from .records import Json, Recording, Report, Source, Transcript
from .results import report as reports
from .results.assemble import Heard, assemble
from .results.lines import Key, record_of
from .results.store import MemorySink, Sink
from .stages import Rooms, Stages, Transcriber
from .template import template_of
from .wanted import Wanted, check_asked, hopeless, wanted

if TYPE_CHECKING:
    from .models.base import SpeechLM

Records = list[Transcript]
"""Of one recording, one a task."""

MOST_FILES = 16
"""Recordings that a worker takes at a time: a run that is interrupted loses so many a worker."""

_TRIES = 2
"""Workers that may die over a group of recordings, and then over one of those alone."""

_SHARES = 4  # of the work for each worker, so that no one waits long for the last
_OBJECT_STORE_BYTES = 100 * 2**20  # names and records are all that travels
_FATAL = f"{_TRIES} workers that took it alone died of it: try it without --engine ray to see why"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where workers run.

    Attributes:
        address: of a Ray cluster; None = start one here, for this run.
        workers: how many; each holds a model.
        gpus: that each of them takes, may be a fraction; None = one if the cluster has any.
        rooms: that they walk through; tests bring others, which must bear to be pickled.
    """

    address: str | None = None
    workers: int = 1
    gpus: float | None = None
    rooms: Stages = field(default_factory=Rooms)


def run(
    cluster: Cluster,
    config: RunConfig,
    recordings: Sequence[Recording],
    sink: Sink,
    *,
    fail_fast: bool = False,
    on_event: Callable[[Event], bool | None] = lambda event: None,
) -> Report:
    """Transcribe recordings into a sink, like `pipeline.run`; records come in groups.

    Args:
        cluster: where.
        config: what to do.
        recordings: found, unread.
        sink: takes the records and knows which are done already.
        fail_fast: end at the first recording that is not ok.
        on_event: called on the caller's thread; once it returns True the run ends with the
            recording at hand.

    Raises:
        StartError: Ray is not installed or does not start, or the model does not load.
        UsageError: as `pipeline.run`.
    """
    rooms = _Once(cluster.rooms)
    sink.expect(recording.id for recording in recordings)
    check_asked(config, recordings)
    todo = list(_todo(config, recordings, sink, rooms))
    usable = [one for one in todo if one.able]
    if not usable:  # then no model is needed, and nobody but this process
        return pipeline.run(
            config, recordings, sink, fail_fast=fail_fast, on_event=on_event, stages=rooms
        )
    left = {one.recording.id for one in todo}
    skipped = [one.id for one in recordings if one.id not in left]
    for name in skipped:
        on_event(Event("skipped", name))
    on_event(Event("loading", record=template_of(config)))
    report, begun = Report(skipped=len(skipped)), time.perf_counter()
    records = _records(cluster, config, usable)
    with closing(records):  # which ends the workers
        for made in chain(_given_up(todo), _started(records, on_event)):
            for record in made:
                sink.write(record)
            report = reports.add(report, *made)
            stop = [on_event(event) for event in recorded(made)]
            report = replace(report, stopped=any(stop))
            if any(stop) or (fail_fast and any(record.status != "ok" for record in made)):
                break
    return replace(report, wall_s=time.perf_counter() - begun)


def _todo(
    config: RunConfig, recordings: Sequence[Recording], sink: Sink, rooms: Stages
) -> Iterator[Wanted]:
    for recording in recordings:
        found = wanted(config, recording, rooms.source(recording, config.hash), sink)
        if found is not None:
            yield found


def _given_up(todo: Sequence[Wanted]) -> Iterator[Records]:
    for one in todo:
        if not one.able:
            yield [
                assemble(
                    template_of(task),
                    Heard(one.recording, one.source, failure=hopeless(task, one.recording)),
                    [],
                )
                for task in one.tasks
            ]


def _started(
    records: Iterator[Records], on_event: Callable[[Event], bool | None]
) -> Iterator[Records]:
    """Say with the first records what the workers run on: they alone know."""
    for number, made in enumerate(records):
        for record in made if number == 0 else ():
            on_event(Event("started", record=record))
        yield made


def _records(cluster: Cluster, config: RunConfig, todo: Sequence[Wanted]) -> Generator[Records]:
    """Records as the workers finish them, those of one recording together."""
    ray = _ray()
    _connect(ray, cluster)
    try:
        size = max(1, min(MOST_FILES, len(todo) // (_SHARES * cluster.workers)))
        rows = [{"recording": _to_json(config, one)} for one in todo]
        ledger = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Ledger).remote()
        groups = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // size))
        made = groups.map_batches(
            Worker,
            fn_constructor_args=(config, cluster.rooms, os.getcwd(), ledger),
            batch_size=size,
            compute=ray.data.ActorPoolStrategy(size=cluster.workers),
            num_gpus=_gpus(ray, cluster),
            num_cpus=1,
        )
        for row in made.iter_rows():
            found = json.loads(str(row["record"]))
            if "fatal" in found:
                raise getattr(errors, found["fatal"])(found["message"])
            yield [record_of(record) for record in found]
    except ray.exceptions.RayError as error:
        raise StartError(f"--engine ray: {first_line(error)}; what is done is kept") from error
    finally:
        ray.shutdown()


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
        group = [_of_json(str(text)) for text in batch["recording"]]
        self._stages.known = {one.recording.id: one.source for one in group}
        try:
            return {"record": self._records(group)}
        except FastAdaSPError as error:
            return {"record": [json.dumps(_fatal(error))]}

    def _records(self, group: Sequence[_Row]) -> list[str]:
        if self._tell("begin", tuple(one.recording.id for one in group)) <= _TRIES:
            return self._run(group)
        # one of them ends the process
        return [records for one in group for records in self._alone(one)]

    def _alone(self, one: _Row) -> list[str]:
        made: list[str] | None = self._tell("kept", one.recording.id)
        if made is None:
            if self._tell("begin", (one.recording.id,)) > _TRIES:
                one = one._replace(recording=replace(one.recording, error=_FATAL))
            made = self._run([one])
            self._tell("keep", one.recording.id, made)
        return made

    def _run(self, group: Sequence[_Row]) -> list[str]:
        sink = MemorySink(key for one in group for key in one.done)
        pipeline.run(self._config, (one.recording for one in group), sink, stages=self._stages)
        made: dict[str, list[Json]] = {}
        for record in sink.kept.values():
            made.setdefault(record.id, []).append(record.to_json())
        return [json.dumps(records) for records in made.values()]

    def _tell(self, what: str, *about: Any) -> Any:
        return _ray().get(getattr(self._ledger, what).remote(*about))


class _Once:
    """Rooms that look at each file once, `--hash` reads it all; `known` may be set beforehand."""

    def __init__(self, rooms: Stages) -> None:
        self._rooms = rooms
        self.known: dict[str, Source] = {}

    def start(self, config: RunConfig) -> tuple[SpeechLM, AbstractContextManager[Transcriber]]:
        return self._rooms.start(config)

    def reader(self, config: RunConfig, model: SpeechLM) -> Read:
        return self._rooms.reader(config, model)

    def source(self, recording: Recording, hashed: bool) -> Source:
        if recording.id not in self.known:
            self.known[recording.id] = self._rooms.source(recording, hashed)
        return self.known[recording.id]


class _Started(_Once):
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


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise StartError("--engine ray needs Ray: pip install 'fastadasp[ray]'") from error
    return ray


def _connect(ray: Any, cluster: Cluster) -> None:
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    here: Json = {"log_to_driver": False, "logging_level": logging.ERROR}
    if cluster.address is None:
        # a core for each worker, or they would wait for one for ever
        cores = max(os.cpu_count() or 1, cluster.workers)
        here |= {"num_cpus": cores, "object_store_memory": _OBJECT_STORE_BYTES}
        here |= {"include_dashboard": False, "address": "local"}
    else:
        here["address"] = cluster.address
    try:
        ray.init(**here)
    except Exception as error:  # Ray says it with the base of all, when a node does not come up
        where = cluster.address or "this machine"
        raise StartError(f"Ray does not start on {where}: {first_line(error)}") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False


def _gpus(ray: Any, cluster: Cluster) -> float:
    if cluster.gpus is not None:
        return cluster.gpus
    return 1.0 if ray.cluster_resources().get("GPU") else 0.0


class _Row(NamedTuple):
    """What a worker is told of a recording: also which of its tasks are done already."""

    recording: Recording
    source: Source
    done: list[Key]


def _to_json(config: RunConfig, one: Wanted) -> str:
    done = [task.task for task in config.each if task not in one.tasks]
    recording = {**asdict(one.recording), "path": str(one.recording.path)}
    return json.dumps({"recording": recording, "source": asdict(one.source), "done": done})


def _of_json(text: str) -> _Row:
    data = json.loads(text)
    recording = data["recording"]
    done = [(recording["id"], task) for task in data["done"]]
    found = Recording(**{**recording, "path": Path(recording["path"])})
    return _Row(found, Source(**data["source"]), done)
