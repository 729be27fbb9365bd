"""A stretch of a file that is a recording by itself, and how it is read as if it were a file."""

from __future__ import annotations

import errno
import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

_BUFFER = 1 << 18  # bytes: each read of the libraries is a call into Python


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes [start, end) of a file.

    Attributes:
        path: of the file.
        start: its first byte.
        end: one past its last; None = to where the file ends.
        on: its header says less than there is: read on to `end`.
    """

    path: Path
    start: int = 0
    end: int | None = None
    on: bool = False

    @property
    def whole(self) -> bool:
        """Whether it is the file as it stands."""
        return self.start == 0 and self.end is None

    def size(self) -> int:
        """Bytes."""
        end = self.path.stat().st_size if self.end is None else self.end
        return max(0, end - self.start)

    def open(self) -> BinaryIO:
        """The bytes as a file of their own, to be closed.

        Raises:
            OSError: as for any file.
        """
        if self.whole:
            return self.path.open("rb")
        file = self.path.open("rb", buffering=0)
        return cast(BinaryIO, io.BufferedReader(_Window(file, self.start, self.size()), _BUFFER))


class _Window(io.RawIOBase):
    def __init__(self, file: io.FileIO, start: int, size: int) -> None:
        self._file, self._start, self._size = file, start, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "before the beginning")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self._size - self._at))
        self._file.seek(self._start + self._at)
        count = self._file.readinto(memoryview(buffer)[:wanted])
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
