"""Side files: their names, and whose they are.

What stands at a name already is replaced when the journal knows that this tool wrote it, as it
stands there now; all else is somebody's own and left alone. A file that cannot be written fails its
record; a disk that takes no more ends the run.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import NamedTuple

from ..errors import FastAdaSPError, OutputError
from ..ids import real_path
from ..records import Failure, Transcript
from .files import check_inside, is_plain, replace_file
from .journal import Journal
from .writers import WRITERS, is_of

LEFT_ALONE = "left_alone:"
"""Begins a warning that names a file which was not replaced, by its place in the folder."""

_LONGEST_NAME = 255  # bytes
_NO_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


class _File(NamedTuple):
    """A side file as it is to be; `place` is its path in the folder."""

    place: str
    path: Path
    data: bytes


class SideFiles:
    """Writes the side files of records into a tree that mirrors the input.

    Args:
        folder: root of the tree.
        formats: names out of `WRITERS`.
        journal: knows what was written before.
        overwrite: replace what is there, whoever wrote it.

    Attributes:
        by_task: whether the task is part of a name, `talk.asr.srt`: there are several.
    """

    def __init__(
        self, folder: Path, formats: Iterable[str], journal: Journal, *, overwrite: bool = False
    ) -> None:
        """Write nothing yet."""
        self._folder = folder
        self._formats = tuple(formats)
        self._journal = journal
        self._overwrite = overwrite
        self.by_task = False
        self._stems: Counter[str] = Counter()
        self._ids: set[str] = set()

    def expect(self, ids: Iterable[str]) -> None:
        """Announce recordings, so that those which share a stem keep their source extension."""
        new = set(ids) - self._ids
        self._ids |= new
        self._stems.update(_stem(name) for name in new)

    def write(self, record: Transcript, formats: Sequence[str] | None = None) -> Transcript:
        """Write side files of `record`, each whole or not at all.

        Args:
            record: whose.
            formats: only these; None = all.

        Returns:
            The record, with a warning for each file that was left alone, and failed where one could
            not be written.

        Raises:
            OSError: the disk takes no more.
        """
        self.expect([record.id])
        chosen = self._formats if formats is None else formats
        files = [self._file(record, name) for name in chosen]
        self._note(record, files)
        alone = set()
        for file in files:
            try:
                if not self._put(file, record.id):
                    alone.add(f"{LEFT_ALONE}{file.place}")
            except (OSError, FastAdaSPError) as error:
                record = _failed(record, file.path, error)
        kept = set(record.warnings) - {f"{LEFT_ALONE}{file.place}" for file in files}
        return replace(record, warnings=tuple(sorted(kept | alone)))

    def adopt(self, record: Transcript) -> None:
        """Note the side files that a version without a journal has written of a record."""
        self.expect([record.id])
        found = []
        for name in WRITERS:
            file = self._file(record, name)
            there = file.path.read_bytes() if is_plain(file.path) else None
            if there is not None and is_of(record, name, there.decode("utf-8", "replace")):
                found.append(file._replace(data=there))
        self._note(record, found)

    def lacking(self, recording_id: str, task: str) -> tuple[str, ...]:
        """Formats of a finished record that are not there, or may be somebody's own."""
        self.expect([recording_id])

        def fine(name: str) -> bool:
            place = self.place(recording_id, task, name)
            return self._journal.has(place) and is_plain(self._folder / place)

        return tuple(name for name in self._formats if not fine(name))

    def place(self, recording_id: str, task: str, extension: str) -> str:
        """Where one side file lies in the folder."""
        stem = _stem(recording_id)
        shared = self._stems[stem] > 1 or stem in self._ids
        name = _inside(recording_id) if shared else stem
        if self.by_task:
            name = f"{name}.{task}"
        return "/".join(map(_short, f"{name}.{extension}".split("/")))

    def _file(self, record: Transcript, extension: str) -> _File:
        place = self.place(record.id, record.task, extension)
        return _File(place, self._folder / place, WRITERS[extension](record).encode())

    def _note(self, record: Transcript, files: Iterable[_File]) -> None:
        digests = {file.place: _digest(file.data) for file in files}
        key = (record.id, record.task)
        self._journal.note(key, real_path(record.audio_filepath), digests)

    def _put(self, file: _File, recording_id: str) -> bool:
        """Write a file; False if what stands there is somebody's own."""
        check_inside(file.path, self._folder)
        if not self._overwrite and os.path.lexists(file.path) and not _is_folder(file.path):
            there = file.path.read_bytes() if is_plain(file.path) else None
            if there == file.data:
                return True
            if there is None or not self._journal.wrote(file.place, _digest(there), recording_id):
                return False
        file.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file.path, file.data)
        return True


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _failed(record: Transcript, path: Path, error: OSError | FastAdaSPError) -> Transcript:
    if isinstance(error, OSError) and error.errno in _NO_DISK:
        raise error
    said = str(error)
    if isinstance(error, OSError):
        why = error.strerror or error
        said = f"cannot write {path}: {why}: clear the way, or choose another -o DIR"
    if record.error is not None:
        said = f"{record.error.message}; {said}"
    return replace(record, status="failed", error=Failure(OutputError.__name__, said))


def _inside(recording_id: str, flavour: ModuleType = os.path) -> str:
    """The id as a path that cannot leave the output folder."""
    places = PurePosixPath(flavour.splitdrive(recording_id)[1].replace(flavour.sep, "/")).parts
    return "/".join(part for part in places if part not in ("/", "..", "."))


def _short(part: str) -> str:
    """A name that file systems take: an extension, or a manifest's id, may be too long."""
    name = part.encode("utf-8", "surrogateescape")
    if len(name) <= _LONGEST_NAME:
        return part
    mark = f"~{hashlib.sha256(name).hexdigest()[:8]}{PurePosixPath(part).suffix[:16]}"
    return name[: _LONGEST_NAME - len(mark.encode())].decode("utf-8", "ignore") + mark


def _stem(recording_id: str) -> str:
    inside = _inside(recording_id)
    return str(PurePosixPath(inside).with_suffix("")) if inside else "recording"
