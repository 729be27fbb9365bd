"""A run on many machines: the same stages on Ray Data, one model for each worker.

The driver, here, finds what is to be done and holds the results; see `worker` for the others.
Recordings must lie at the same paths on every machine.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import chdir, closing
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from . import errors, pipeline, worker
from .config import RunConfig
from .errors import StartError, first_line
from .pipeline import Event, recorded
from .records import Json, Recording, Report, Transcript
from .results import report as reports
from .results.assemble import Heard, assemble
from .results.lines import record_of
from .results.store import Sink
from .stages import Rooms, Stages
from .template import template_of
from .wanted import Wanted, check_asked, hopeless, wanted
from .worker import Ledger, Once, Worker, to_json

Records = list[Transcript]
"""Of one recording, one a task."""

MOST_FILES = 16
"""Recordings that a worker takes at a time: a run that is interrupted loses so many a worker."""

_SHARES = 4  # of the work for each worker, so that no one waits long for the last
_CODE = Path(__file__).parents[1]
_OBJECT_STORE_BYTES = 100 * 2**20  # names and records are all that travels


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
    rooms = Once(cluster.rooms)
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
        for unsaved in chain(_given_up(todo), _started(records, on_event)):
            made = [sink.write(record) for record in unsaved]
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
    ray = worker.ray()
    _connect(ray, cluster)
    try:
        size = max(1, min(MOST_FILES, len(todo) // (_SHARES * cluster.workers)))
        rows = [{"recording": to_json(config, one)} for one in todo]
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
        # workers import from where Ray is started, before all else: not from among recordings
        with chdir(_CODE):
            ray.init(**here)
    except Exception as error:  # Ray says it with the base of all, when a node does not come up
        where = cluster.address or "this machine"
        raise StartError(f"Ray does not start on {where}: {first_line(error)}") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False


def _gpus(ray: Any, cluster: Cluster) -> float:
    if cluster.gpus is not None:
        return cluster.gpus
    there = ray.cluster_resources()
    if "GPU" not in there and any(name.startswith("accelerator_type:") for name in there):
        raise StartError(
            "Ray has accelerators and none by the name GPU: say how many each worker takes with"
            " --gpus-per-worker, 0 for none"
        )
    return 1.0 if there.get("GPU") else 0.0
