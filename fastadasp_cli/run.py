"""`fastadasp run`: recordings in, records out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from core.config import OutputConfig, RunConfig
from core.errors import UsageError
from core.flags import Flags, notices, resolve_output, resolve_tasks
from core.reduction_flags import choice

from . import console, streams
from . import options as opt
from .interrupts import Interrupts

if TYPE_CHECKING:
    from core.cluster import Cluster
    from core.records import Report


def run(
    inputs: opt.Inputs,
    task: opt.Tasks = "asr",
    lang: opt.Lang = None,
    language: opt.Language = None,
    question: opt.Question = None,
    prompt: opt.Prompt = None,
    segment: opt.Segment = None,
    chunk_length: opt.ChunkLength = None,
    audio_track: opt.AudioTrack = "auto",
    channels: opt.Channels = "mix",
    preset: opt.Preset = None,
    reduce: opt.Reduce = None,
    method: opt.Method = None,
    schedule: opt.Schedule = None,
    start_layer: opt.StartLayer = None,
    threshold: opt.Threshold = None,
    model: opt.Model = "embedded",
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    quantize: opt.Quantize = None,
    offline: opt.Offline = False,
    batch_size: opt.BatchSize = "auto",
    max_memory: opt.MaxMemory = None,
    num_beams: opt.NumBeams = 1,
    max_new_tokens: opt.MaxNewTokens = None,
    engine: opt.Engine = "local",
    ray_address: opt.RayAddress = None,
    workers: opt.Workers = None,
    gpus_per_worker: opt.GpusPerWorker = None,
    output_dir: opt.OutputDir = None,
    format_: opt.Format = "jsonl",
    shard: opt.Shard = None,
    hash_: opt.Hash = False,
    overwrite: opt.Overwrite = False,
    skip_existing: opt.SkipExisting = False,
    fail_fast: opt.FailFast = False,
    null: opt.Null = False,
    quiet: opt.Quiet = False,
    no_progress: opt.NoProgress = False,
    verbose: opt.Verbose = False,
) -> None:
    """Transcribe, translate or label recordings.

    One JSON line a recording (and task) on stdout, or DIR/results.jsonl with -o DIR.

    Exit codes: 0 all done, 1 some recordings failed, 2 usage, 3 cannot start, 130 interrupted.
    """
    flags: Flags = {
        "task": task,
        "lang": lang,
        "language": language,
        "question": question,
        "prompt": prompt,
        "segment": segment,
        "chunk_length": chunk_length,
        "audio_track": audio_track,
        "channels": channels,
        "preset": preset,
        "reduce": reduce,
        "method": method,
        "schedule": schedule,
        "start_layer": start_layer,
        "threshold": threshold,
        "model": model,
        "device": device,
        "dtype": dtype,
        "quantize": quantize,
        "offline": offline,
        "batch_size": batch_size,
        "max_memory": max_memory,
        "num_beams": num_beams,
        "max_new_tokens": max_new_tokens,
        "hash": hash_,
    }
    output = resolve_output(
        output_dir,
        format_,
        shard,
        overwrite=overwrite,
        skip_existing=skip_existing,
        fail_fast=fail_fast,
        null=null,
        quiet=quiet,
        no_progress=no_progress,
    )
    prepare(offline=offline, verbose=verbose, kept=output_dir is not None)
    config = resolve_tasks(**flags)
    cluster = _cluster(engine, ray_address, workers, gpus_per_worker)
    if not quiet:
        for text in notices(**flags):
            console.warn(text)
    raise typer.Exit(_work(inputs, config, output, cluster))


def _cluster(
    engine: str, address: str | None, workers: int | None, gpus: float | None
) -> Cluster | None:
    """Where workers run; None for a run in this process."""
    if choice("--engine", engine, ("local", "ray")) == "local":
        if (address, workers, gpus) != (None, None, None):
            raise UsageError(
                "--ray-address, --workers and --gpus-per-worker go with --engine ray: add it"
            )
        return None
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: must be at least 1")
    if gpus is not None and gpus < 0:
        raise UsageError(f"--gpus-per-worker {gpus:g}: must not be below 0")
    from core.cluster import Cluster

    return Cluster(address, workers or 1, gpus)


def prepare(*, offline: bool, verbose: bool, kept: bool = False) -> None:
    """What must be settled before a library is imported.

    Args:
        offline: ask no network.
        verbose: let libraries talk.
        kept: the answer goes into a file, so nobody needs to read stdout.
    """
    if not kept:
        streams.check_stdout()
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    if not verbose:
        console.hush_libraries()


def _work(
    inputs: Sequence[str], config: RunConfig, output: OutputConfig, cluster: Cluster | None
) -> int:
    from core.media.discover import discover
    from core.media.existing import Existing
    from core.media.split import by_channel
    from core.naming import settle
    from core.pinning import pinned
    from core.results.report import exit_code

    passed: list[str] = []
    found = discover(inputs, stdin=sys.stdin.buffer, null=output.null, passed=passed)
    if config.channels == "split":
        found = by_channel(found, config.audio_track)
    # paths from a pipe are used as they come; all else is counted first, for the bar and the names
    recordings = found if "-" in inputs and cluster is None else list(found)
    config = pinned(config)
    existing = Existing(output.output_dir, output.side_formats)
    skip = existing if output.skip_existing else lambda recording: False
    with _sink(config, output) as sink:
        mine = settle(recordings, sink, output.shard, hashed=config.hash, skip=skip)
        total = len(mine) if isinstance(mine, list) else None
        watcher = console.Watcher(output, total, len(config.each))
        watcher.caution = _caution(sink)
        with Interrupts() as interrupts, watcher.watching():
            report = _runner(cluster)(
                config,
                mine,
                sink,
                fail_fast=output.fail_fast,
                on_event=interrupts.watch(watcher.on_event),
            )
    watcher.summarise(report)
    if not output.quiet:
        _left_out(passed, existing.found, sink.left_alone)
    if report.stopped:
        raise KeyboardInterrupt
    return exit_code(report)


def _left_out(passed: Sequence[str], existing: int, alone: Sequence[str]) -> None:
    """What of the inputs was not done, and what of the results was not written."""
    from core.media.discover import shortened

    if passed:
        console.note(f"{len(set(passed))} passed over, no recordings: {shortened(passed)}")
    if existing:
        console.note(f"{existing} left out, with subtitles or a text already")
    if alone:
        console.warn(
            f"{len(set(alone))} left alone, not written by this tool or changed since: "
            f"{shortened(alone)}; move them away and repeat, or replace them with --overwrite"
        )


def _runner(cluster: Cluster | None) -> Callable[..., Report]:
    if cluster is None:
        from core.pipeline import run as run_here

        return run_here
    from core.cluster import run as run_there

    return partial(run_there, cluster)


def _caution(sink: Any) -> str | None:
    """What to say when a folder is gone on with by other versions than it was begun with."""
    from core import __version__
    from core.results.store import Store
    from core.template import versions

    now = {"fastadasp": __version__, **versions()}
    return sink.other_versions(now) if isinstance(sink, Store) else None


def _sink(config: RunConfig, output: OutputConfig) -> AbstractContextManager[Any]:
    from core.results.store import Store, StreamSink

    if output.output_dir is None:
        return nullcontext(StreamSink(sys.stdout))
    return Store(
        output.output_dir,
        config.settings,
        output.side_formats,
        part=output.part,
        overwrite=output.overwrite,
    )
