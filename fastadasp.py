"""fastadasp in Python: `import fastadasp; fastadasp.transcribe("talks/")`.

Re-exports, and one function. Errors are children of `FastAdaSPError`; a recording that cannot be
done is a record with `status` failed or partial, not an exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Unpack

try:
    from core import __version__
    from core.config import ReductionConfig, RunConfig
    from core.errors import FastAdaSPError, MediaError, StartError, TranscriptionError, UsageError
    from core.flags import Flags, resolve, resolve_output, resolve_tasks
    from core.records import Recording, Report, Segment, Span, Transcript
except Exception:  # whatever code of that name does
    from fastadasp_cli.start import collision

    reason = collision()
    if reason is None:
        raise
    raise ImportError(reason) from None

__all__ = [
    "FastAdaSPError",
    "MediaError",
    "Recording",
    "ReductionConfig",
    "Report",
    "RunConfig",
    "Segment",
    "Span",
    "StartError",
    "Transcript",
    "TranscriptionError",
    "UsageError",
    "__version__",
    "resolve",
    "transcribe",
]

Path_ = str | PathLike[str]


def transcribe(
    inputs: Path_ | Sequence[Path_],
    *,
    output_dir: Path_ | None = None,
    formats: str | Sequence[str] | None = None,
    shard: str | None = None,
    overwrite: bool = False,
    **flags: Unpack[Flags],
) -> list[Transcript]:
    """Transcribe, translate or label recordings.

    Args:
        inputs: files, folders, globs or manifests, as on the command line.
        output_dir: keep results there; what it holds already is not done again.
        formats: side files to write into `output_dir`, such as "srt,txt".
        shard: do only a part of the inputs, such as "3/16"; the same part on every machine.
        overwrite: redo what `output_dir` holds.
        **flags: the flags of `fastadasp run`, such as task="st", lang="de", reduce=0.3.

    Returns:
        The record of every input (of this shard), finished earlier or now, in their order; of
        several tasks, such as task="asr,st", one a task.

    Raises:
        UsageError: the request cannot be meant as written.
        StartError: the model does not load.
    """
    from core.media.discover import discover
    from core.media.split import by_channel
    from core.naming import settle
    from core.pinning import pinned
    from core.pipeline import run
    from core.results.store import MemorySink, Store

    config = pinned(resolve_tasks(**flags))
    folder = None if output_dir is None else Path(output_dir)
    output = resolve_output(folder, formats, shard, overwrite=overwrite)
    paths = [inputs] if isinstance(inputs, str | PathLike) else inputs
    found_here = discover([fspath(path) for path in paths])
    if config.channels == "split":
        found_here = by_channel(found_here, config.audio_track)
    listed = list(found_here)
    if output.output_dir is None:
        memory = MemorySink()
        recordings = list(settle(listed, memory, output.shard))
        run(config, recordings, memory)
        found = memory.kept
    else:
        store = Store(
            output.output_dir,
            config.settings,
            output.side_formats,
            part=output.part,
            overwrite=overwrite,
        )
        with store:
            recordings = list(settle(listed, store, output.shard, hashed=config.hash))
            run(config, recordings, store)
        stored = {one.task: store.records(one.task) for one in config.each}
        found = {(name, task): made for task in stored for name, made in stored[task].items()}
    return [found[one.id, task.task] for one in recordings for task in config.each]
