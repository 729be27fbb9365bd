"""Files that are whole or not there, and a lock that dies with its process.

Others may write into a folder of results too. What they plant there, a link above all, is never
written through: new files have names that nobody can guess, and links are refused.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from ..errors import OutputError, UsageError

_TEMPORARY = re.compile(r"(\.[0-9a-f]{16}-)[0-9a-f]{16}\.tmp")
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` beside `path` and move it there, so a kill never leaves half a file.

    A link at `path` is replaced, not followed.
    """
    # short, where a name may not be longer
    prefix = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}-"
    for left in _left_behind(path.parent).pop(prefix, ()):
        with suppress(OSError):
            left.unlink()
    temporary = path.with_name(f"{prefix}{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb", opener=_opened) as file:
            file.write(data)
            sync(file)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


@cache
def _left_behind(folder: Path) -> dict[str, list[Path]]:
    """Temporary files of killed runs, by the beginning of their names, which tells whose they are.

    Only who writes that file again may remove them: another run may be at work on the others. It
    is looked once a process, for folders are large.
    """
    found: dict[str, list[Path]] = {}
    with suppress(OSError), os.scandir(folder) as entries:  # one may write into it, not read it
        for entry in entries:
            if name := _TEMPORARY.fullmatch(entry.name):
                found.setdefault(name[1], []).append(Path(entry.path))
    return found


def append(path: Path) -> BinaryIO:
    """Open a file to write at its end; a new one will be there after a power cut.

    Raises:
        UsageError: it is a link, or no file.
    """
    check_plain(path)
    file = open(path, "ab", opener=_opened)  # noqa: SIM115
    sync_folder(path.parent)
    return file


def check_plain(path: Path) -> None:
    """See that a file that is to be read or added to is one, or not there yet.

    Raises:
        UsageError: it is a link, and leads who knows where, or a pipe or a folder.
    """
    if path.is_symlink():
        raise UsageError(_link(path))
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no file: remove it, or choose another -o DIR")


def check_inside(path: Path, folder: Path) -> None:
    """See that no link on the way to `path` leads out of the folder that it is below.

    Raises:
        OutputError: one does.
    """
    if not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(folder)):
        raise OutputError(_link(path.parent))


def is_plain(path: Path) -> bool:
    """Whether there is a file, which is no link."""
    return path.is_file() and not path.is_symlink()


def _link(path: Path | str) -> str:
    return f"{path} is a link and leads elsewhere: remove it, or choose another -o DIR"


def _opened(name: str, flags: int) -> int:
    """Opens as `open` does, but never through a link."""
    try:
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(_link(name)) from None
        raise


def sync(file: BinaryIO) -> None:
    """Hand the file's content over to the disk."""
    file.flush()
    _sync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Hand a folder's list of names over to the disk, where the system can."""
    if sys.platform == "win32":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # one may write into it, not read it
        return
    try:
        _sync(handle)
    finally:
        os.close(handle)


def _sync(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:  # pipes and some network drives
            raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` for this process; the system lets go of it when the process ends.

    Raises:
        UsageError: another process holds it.
    """
    lock = path.with_name(f".{path.name}.lock")
    with open(lock, "a+b", opener=_opened) as file:
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
