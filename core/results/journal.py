"""What a store remembers beside its lines: whose an id is, and which side files are its own.

`.results.jsonl.files` gets a line before the side files of a record are written, so also a kill
leaves no file that looks like a stranger's. Absolute paths stand here and in no record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from ..records import Json
from .files import append, check_plain, replace_file, sync
from .lines import Key


class Journal:
    """Of one results file; what the other shards in the folder have written it knows too.

    Args:
        results: the results file it goes with.
    """

    def __init__(self, results: Path) -> None:
        """Read nothing yet."""
        self._path = _beside(results)
        self._paths: dict[str, str] = {}
        self._keys: set[Key] = set()
        self._places: set[str] = set()
        self._written: set[bytes] = set()
        self._file: BinaryIO | None = None

    def read(self) -> None:
        """Take in what is there, and mend what a kill has torn."""
        for path in sorted(self._path.parent.glob(".results*.jsonl.files")):
            check_plain(path)
            lines = path.read_bytes().splitlines(keepends=True)
            whole = [line for line in lines if self._take(line)]
            if path == self._path and whole != lines:
                replace_file(path, b"".join(whole))

    def note(self, key: Key, path: str, files: Mapping[str, str]) -> None:
        """Remember, on the disk too, a record that is about to be written.

        Args:
            key: of the record.
            path: of its recording, absolute.
            files: SHA-256 of each side file, by its place in the folder.
        """
        if self._has(key, path, files):
            return
        data = {"id": key[0], "task": key[1], "path": path, "files": dict(files)}
        line = json.dumps(data).encode() + b"\n"
        self._file = self._file or append(self._path)
        self._file.write(line)
        sync(self._file)
        self._take(line)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def knows(self, key: Key) -> bool:
        """Whether a record was noted; an older version noted none."""
        return key in self._keys

    def path_of(self, recording_id: str) -> str | None:
        """The file behind an id."""
        return self._paths.get(recording_id)

    def has(self, place: str) -> bool:
        """Whether a side file was noted, whatever stands in it now."""
        return place in self._places

    def wrote(self, place: str, digest: str, recording_id: str) -> bool:
        """Whether what stands in a side file was written for this recording, and by this tool."""
        return _mark(place, digest, recording_id) in self._written

    def _has(self, key: Key, path: str, files: Mapping[str, str]) -> bool:
        written = (self.wrote(place, digest, key[0]) for place, digest in files.items())
        return key in self._keys and self._paths[key[0]] == path and all(written)

    def _take(self, line: bytes) -> bool:
        if not line.endswith(b"\n"):
            return False
        try:
            data: Json = json.loads(line)
            name = data["id"]
            self._keys.add((name, data["task"]))
            self._paths[name] = data["path"]
            for place, digest in data["files"].items():
                self._places.add(place)
                self._written.add(_mark(place, digest, name))
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        return True


def _beside(results: Path) -> Path:
    return results.with_name(f".{results.name}.files")


def _mark(*words: str) -> bytes:
    """Few bytes that stand for all of the words; there are many recordings."""
    return hashlib.sha256(json.dumps(words).encode()).digest()[:16]
