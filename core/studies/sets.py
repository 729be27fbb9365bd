"""Evaluation sets: manifests with references, found in folders, and what of them is scored.

A set is a manifest (JSON lines), or a folder with `manifest.jsonl` in it or in its subfolders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..config import ASKING
from ..errors import UsageError
from ..media.apart import probe_apart
from ..media.discover import discover
from ..records import Recording, Seconds
from ..results.scoring import REFERENCE_KEYS, Reference, reference

MANIFEST = "manifest.jsonl"
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class EvalSet:
    """A manifest with its recordings.

    Attributes:
        name: its folder's, unique among the sets of an evaluation.
        manifest: where it lies.
        recordings: all of its rows.
    """

    name: str
    manifest: Path
    recordings: tuple[Recording, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A set and a task: the recordings that are scored together.

    Attributes:
        of: the set's name.
        manifest: where it lies.
        task: asr | st | er | sv | sqa | ac.
        recordings: those that have a reference, evenly spaced when there is a limit.
        references: the right answers of each of them.
        left_out: recordings without a reference for the task.
    """

    of: str
    manifest: Path
    task: str
    recordings: tuple[Recording, ...]
    references: tuple[Reference, ...]
    left_out: int


def find_sets(inputs: Sequence[str | Path]) -> list[EvalSet]:
    """The sets behind manifests and folders.

    Raises:
        UsageError: no such path, no manifest, or nothing usable in it.
    """
    found: list[EvalSet] = []
    for manifest in dict.fromkeys(path for item in inputs for path in _manifests(Path(item))):
        recordings = tuple(discover([str(manifest)]))
        name = _name(manifest, {one.name for one in found})
        found.append(EvalSet(name, manifest, recordings))
    return found


def find_blocks(
    sets: Sequence[EvalSet], tasks: Sequence[str], able: Sequence[str], limit: int | None = None
) -> list[Block]:
    """What is scored: each set with each task that it has references for.

    Args:
        sets: where to look.
        tasks: what was asked for; empty = whatever the references and the model allow.
        able: tasks of the model; those of `tasks` that it lacks stay, and are refused by it.
        limit: most recordings of a block.

    Raises:
        UsageError: no set has a reference for a task that was asked for, or for any.
    """
    wanted = tasks or [task for task in REFERENCE_KEYS if task in able]
    blocks = [block for one in sets for task in wanted if (block := _block(one, task, limit))]
    missing = [task for task in wanted if all(block.task != task for block in blocks)]
    if (tasks and missing) or not blocks:
        names = ", ".join(str(one.manifest) for one in sets)
        raise UsageError(f"{names}: no references for {'; '.join(map(_expected, missing))}")
    return blocks


def _expected(task: str) -> str:
    keys = " or ".join(f'"{key}"' for key in REFERENCE_KEYS.get(task, ()))
    also = ' and "question"' if task in ASKING else ""
    return f"{task} ({keys or 'never scored'}{also})"


def _manifests(item: Path) -> list[Path]:
    if item.is_file():
        if item.suffix.lower() not in (".jsonl", ".json"):
            raise UsageError(f"{item}: eval needs a manifest in JSON lines, with references")
        return [item]
    if not item.is_dir():
        raise UsageError(f"{item}: no such manifest or folder")
    own = item / MANIFEST
    found = [own] if own.is_file() else sorted(item.glob(f"*/{MANIFEST}"))
    if not found:
        raise UsageError(f"{item}: neither it nor its subfolders hold a {MANIFEST}")
    return found


def _name(manifest: Path, taken: set[str]) -> str:
    folder = manifest.resolve().parent.name
    name = folder if manifest.name == MANIFEST else f"{folder}-{manifest.stem}"
    return next(
        one
        for number in range(1, len(taken) + 2)
        if (one := name if number == 1 else f"{name}-{number}") not in taken
    )


def _block(one: EvalSet, task: str, limit: int | None) -> Block | None:
    pairs = [(recording, _reference(one, task, recording)) for recording in one.recordings]
    usable = [pair for pair in pairs if pair[1]]
    asked = task not in ASKING or any(recording.question for recording, _ in usable)
    if not (usable and asked):
        return None
    chosen = evenly(usable, limit)
    recordings, references = zip(*chosen, strict=True)
    left_out = len(pairs) - len(usable)
    return Block(one.name, one.manifest, task, recordings, references, left_out)


def _reference(one: EvalSet, task: str, recording: Recording) -> Reference:
    try:
        return reference(task, recording.row)
    except UsageError as error:
        raise UsageError(f"{one.manifest}: {recording.id}: {error}") from None


def evenly(items: Sequence[Item], limit: int | None) -> list[Item]:
    """At most `limit` items, spread over all of them."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[index * len(items) // limit] for index in range(limit)]


def seconds(recording: Recording) -> Seconds:
    """Length as the manifest or the file's header says, 0 when neither does."""
    if recording.duration is not None:
        return recording.duration
    return max(0.0, (probe_apart(recording.path) or 0.0) - (recording.offset or 0.0))
