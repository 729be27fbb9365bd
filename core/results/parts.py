"""Several results files in one folder: shards of one run get on, everything else is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import UsageError
from ..records import Json
from .files import check_plain
from .lines import Entry, entries

_NAME = re.compile(r"results(?:-\d+-of-(\d+))?\.jsonl")


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


def other_than(settings: str | Mapping[str, str], entry: Entry) -> bool:
    """Whether a line was made with other settings; what it is of another task does not count.

    Args:
        settings: fingerprint, or fingerprints by task.
        entry: a line; one that is no record has no settings.
    """
    if entry.key is None:
        return False
    hashed: str = entry.data["settings_hash"]
    if isinstance(settings, str):
        return hashed != settings
    return hashed != settings.get(entry.key[1], hashed)


def check_settings(path: Path, settings: str | Mapping[str, str]) -> None:
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


def _count(path: Path) -> str | None:
    found = _NAME.fullmatch(path.name)
    return found[1] if found else None


def _settings(data: Json) -> str:
    names = ("task", "target_language", "model", "model_revision", "preset", "num_beams")
    said = [f"{name} {data[name]}" for name in names if data.get(name) is not None]
    changed = [f"{name} {value}" for name, value in (data.get("overrides") or {}).items()]
    return ", ".join(said + changed)
