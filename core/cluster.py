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
from typing import TYPE_CHECKING, Any

from . import errors, pipeline
from .config import RunConfig
from .errors import FastAdaSPError, StartError, first_line
from .pipeline import Event, hopeless
from .reading import Read
from .records import Json, Recording, Report, Source, Transcript
from .results import report as reports
from .results.assemble import Heard, assemble
from .results.lines import record_of
from .results.store import MemorySink, Sink
from .stages import Rooms, Stages, Transcriber
from .template import template_of

if TYPE_CHECKING:
    from .models.base import SpeechLM

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
    todo = [one for one in recordings if not _done(config, one, sink, rooms)]
    usable = [one for one in todo if hopeless(config, one) is None]
    if not usable:  # then no model is needed, and nobody but this process
        return pipeline.run(
            config, recordings, sink, fail_fast=fail_fast, on_event=on_event, stages=rooms
        )
    left = {recording.id for recording in todo}
    skipped = [one.id for one in recordings if one.id not in left]
    for name in skipped:
        on_event(Event("skipped", name))
    on_event(Event("loading", record=template_of(config)))
    report, begun = Report(skipped=len(skipped)), time.perf_counter()
    records = _records(cluster, config, usable, rooms)
    with closing(records):  # which ends the workers
        for record in chain(_given_up(config, todo, rooms), _started(records, on_event)):
            sink.write(record)
            report = reports.add(report, record)
            stop = on_event(Event("record", record.id, record.duration or 0.0, record))
            report = replace(report, stopped=bool(stop))
            if stop or (fail_fast and record.status != "ok"):
                break
    return replace(report, wall_s=time.perf_counter() - begun)


def _given_up(
    config: RunConfig, recordings: Sequence[Recording], rooms: Stages
) -> Iterator[Transcript]:
    for recording in recordings:
        if failure := hopeless(config, recording):
            heard = Heard(recording, rooms.source(recording, config.hash), failure=failure)
            yield assemble(template_of(config), heard, [])


def _started(
    records: Iterator[Transcript], on_event: Callable[[Event], bool | None]
) -> Iterator[Transcript]:
    """Say with the first record what the workers run on: they alone know."""
    for number, record in enumerate(records):
        if number == 0:
            on_event(Event("started", record=record))
        yield record


def _done(config: RunConfig, recording: Recording, sink: Sink, rooms: Stages) -> bool:
    asked, key = config.asked(recording.question), (recording.id, config.task)
    return recording.error is None and sink.done(key, rooms.source(recording, config.hash), asked)


def _records(
    cluster: Cluster, config: RunConfig, todo: Sequence[Recording], rooms: Stages
) -> Generator[Transcript]:
    """Records as the workers finish them."""
    ray = _ray()
    _connect(ray, cluster)
    try:
        size = max(1, min(MOST_FILES, len(todo) // (_SHARES * cluster.workers)))
        rows = [{"recording": _to_json(one, rooms.source(one, config.hash))} for one in todo]
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
            yield record_of(found)
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
        """Records of a group, one JSON text each."""
        if self._fatal is not None:
            return {"record": [json.dumps(self._fatal)]}
        found = [_of_json(str(text)) for text in batch["recording"]]
        self._stages.known = {recording.id: source for recording, source in found}
        recordings = [recording for recording, _ in found]
        try:
            return {"record": self._records(recordings)}
        except FastAdaSPError as error:
            return {"record": [json.dumps(_fatal(error))]}

    def _records(self, recordings: Sequence[Recording]) -> list[str]:
        if self._tell("begin", tuple(one.id for one in recordings)) <= _TRIES:
            return self._run(recordings)
        # one of them ends the process
        return [record for one in recordings for record in self._alone(one)]

    def _alone(self, recording: Recording) -> list[str]:
        made: list[str] | None = self._tell("kept", recording.id)
        if made is None:
            if self._tell("begin", (recording.id,)) > _TRIES:
                recording = replace(recording, error=_FATAL)
            made = self._run([recording])
            self._tell("keep", recording.id, made)
        return made

    def _run(self, recordings: Sequence[Recording]) -> list[str]:
        sink = MemorySink()
        pipeline.run(self._config, recordings, sink, stages=self._stages)
        return [json.dumps(record.to_json()) for record in sink.records.values()]

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


def _to_json(recording: Recording, source: Source) -> str:
    known = asdict(source)
    return json.dumps({**asdict(recording), "path": str(recording.path), "known": known})


def _of_json(text: str) -> tuple[Recording, Source]:
    data = json.loads(text)
    source = Source(**data.pop("known"))
    return Recording(**{**data, "path": Path(data["path"])}), source
