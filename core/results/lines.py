"""Records as lines of JSON: written, read back, and read from a file that a kill may have torn."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..records import Failure, Flops, Json, Latency, Memory, Source, Span, Tokens, Transcript

Key = tuple[str, str]

# JSON lets these stand as they are, but some end a line for readers such as `str.splitlines`, and
# the others command a terminal on which the line is shown.
_NOT_PLAIN = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

# keys that lines of earlier versions lack
_JOINED: Json = {"quantize": None, "versions": {}}


class Entry(NamedTuple):
    """One line of a results file; `key` is None for a line that is no record."""

    key: Key | None
    raw: bytes
    data: Json


def line(record: Transcript) -> str:
    """The record as one line of JSON; a file name that is no UTF-8 is escaped, not an error."""
    text = json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False)
    return _NOT_PLAIN.sub(_escaped, text).encode("utf-8", "backslashreplace").decode() + "\n"


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def record_of(data: Json) -> Transcript:
    """The record behind a line, the inverse of `Transcript.to_json`."""
    nested = {
        "error": data["error"] and Failure(**data["error"]),
        "warnings": tuple(data["warnings"]),
        "segments": tuple(map(_span, data["segments"])),
        "latency": Latency(**data["latency"]),
        "tokens": Tokens(**data["tokens"]),
        "flops": Flops(**data["flops"]),
        "memory": Memory(**data["memory"]),
        "source": Source(**data["source"]),
    }
    return Transcript(**{**_JOINED, **data, **nested})


def _span(data: Json) -> Span:
    speech = data.get("speech")
    stretches = None if speech is None else tuple((start, end) for start, end in speech)
    return Span(**{**data, "speech": stretches})


def read_results(path: Path) -> Iterator[Json]:
    """The records of a `results.jsonl`, the newest of each (id, task), without a torn last line."""
    yield from (entry.data for entry in newest(entries(path)) if entry.key is not None)


def entries(path: Path) -> Iterator[Entry]:
    """Lines of the file; a last line without its end counts only when it is whole."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for raw in file:
            data = _parse(raw)
            if data is not None:
                yield Entry((data["id"], data["task"]), raw.rstrip(b"\r\n") + b"\n", data)
            elif raw.endswith(b"\n"):
                yield Entry(None, raw, {})


def newest(lines: Iterable[Entry]) -> list[Entry]:
    """One entry for each key: the place of the first, the content of the last."""
    found: dict[object, Entry] = {}
    for number, entry in enumerate(lines):
        found[entry.key or number] = entry
    return list(found.values())


def _parse(raw: bytes) -> Json | None:
    try:
        data = json.loads(raw)
    except ValueError:
        return None
    wanted = {"id", "task", "status", "source", "settings_hash"}
    return data if isinstance(data, dict) and wanted <= data.keys() else None
