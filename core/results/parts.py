"""Several results files in one folder: shards of one run get on, everything else is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ..errors import UsageError
from ..records import Json, Transcript
from .files import check_plain
from .lines import Entry, entries

_NAME = re.compile(r"results(?:-\d+-of-(\d+))?\.jsonl")

Versions = frozenset[tuple[str, str]]
"""Name and version of what a line was made by."""
NO_MODEL = "auto"
"""`dtype` of records that needed no model, where the choice was left to it."""
Settings = str | Mapping[str, frozenset[tuple[str, str]]]
"""What a run's lines have: `settings_hash` alone, or by task one of some, each with its `dtype`."""


def check_company(path: Path) -> None:
    """See that the other results files in the folder share the work out as this one does.

    Each shard writes a file of its own, so that machines need no lock that works across a network
    drive; that is safe only while no two files hold the same recordings.

    Raises:
        UsageError: they are of another number of shards, or of none.
    """
    for other in sorted(path.parent.glob("results*.jsonl")):
        if (found := _NAME.fullmatch(other.name)) and found[1] != _count(path):
            how = (
                f"in {found[1]} shards: use --shard N/{found[1]}" if found[1] else "without shards"
            )
            raise UsageError(f"{path.parent} was begun {how}, or choose another -o DIR")


def other_parts(path: Path) -> Iterator[Path]:
    """The results files of the other shards in the folder.

    Raises:
        UsageError: one is a link.
    """
    for other in sorted(path.parent.glob("results-*.jsonl")):
        if other != path and _NAME.fullmatch(other.name):
            check_plain(other)
            yield other


def other_than(settings: Settings, entry: Entry) -> bool:
    """Whether a line was made with other settings; what it is of another task does not count.

    Args:
        settings: what lines may have.
        entry: a line; one that is no record has no settings.
    """
    if entry.key is None:
        return False
    hashed: str = entry.data["settings_hash"]
    if isinstance(settings, str):
        return hashed != settings
    able = settings.get(entry.key[1])
    return able is not None and (hashed, entry.data.get("dtype")) not in able


def narrowed(settings: Settings, record: Transcript) -> Settings:
    """The same once it is known in which numbers the model of a record's task runs."""
    if isinstance(settings, str) or record.dtype == NO_MODEL:
        return settings
    able = settings.get(record.task, frozenset())
    left = frozenset(one for one in able if one[1] in (record.dtype, NO_MODEL))
    return {**settings, record.task: left}


def check_settings(path: Path, settings: Settings) -> None:
    """See that the other shards in the folder have these settings, by their first lines.

    Raises:
        UsageError: one has others.
    """
    for other in other_parts(path):
        first = next((entry for entry in entries(other) if entry.key is not None), None)
        if first is not None and other_than(settings, first):
            raise other_settings(other, first.data)


def other_settings(path: Path, data: Json) -> UsageError:
    """What to say of a line that was made with other settings."""
    return UsageError(
        f"{path} was made with other settings ({_settings(data)}): "
        "choose another -o DIR, or redo it with --overwrite"
    )


def versions_of(data: Json) -> Versions:
    """Of fastadasp and what is below it, as a line tells them."""
    return frozenset({"fastadasp": data["version"], **data.get("versions", {})}.items())


def of_other_versions(path: Path, made: Iterable[Versions], now: Mapping[str, str]) -> str | None:
    """What to say where lines were made by other versions than today's; None if none were.

    Args:
        path: the results file.
        made: of its lines; names that a line does not tell are not compared.
        now: versions by name.
    """
    other = {(name, one) for line in made for name, one in line if now.get(name, one) != one}
    if not other:
        return None
    today = ", ".join(f"{name} {now[name]}" for name in sorted({name for name, _ in other}))
    return (
        f"{path} has lines by {', '.join(map(' '.join, sorted(other)))}, and now it is {today}:"
        " what joins them may read differently; --overwrite does all of it again"
    )


def _count(path: Path) -> str | None:
    found = _NAME.fullmatch(path.name)
    return found[1] if found else None


def _settings(data: Json) -> str:
    model = ("model", "model_revision", "dtype", "quantize")
    names = ("task", "target_language", *model, "preset", "num_beams")
    said = [f"{name} {data[name]}" for name in names if data.get(name) is not None]
    changed = [f"{name} {value}" for name, value in (data.get("overrides") or {}).items()]
    return ", ".join(said + changed)
