"""Files that are whole or not there, and a lock that dies with its process."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import UsageError


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` beside `path` and move it there, so a kill never leaves half a file."""
    # always the same, so that what a kill leaves is used up; short, where a name may not be longer
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()
    temporary = path.with_name(f".{digest[:16]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            sync(file)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def sync(file: BinaryIO) -> None:
    """Hand the file's content over to the disk."""
    file.flush()
    with suppress(OSError):  # pipes and some network drives cannot
        os.fsync(file.fileno())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` for this process; the system lets go of it when the process ends.

    Raises:
        UsageError: another process holds it.
    """
    with path.with_name(f".{path.name}.lock").open("a+b") as file:
        try:
            _lock(file)
        except (BlockingIOError, PermissionError) as error:
            raise UsageError(
                f"another run is writing into {path}: wait for it, or choose another -o DIR"
            ) from error
        yield


def _lock(file: BinaryIO) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
