"""Who a recording is: its file, and a name that is readable, UTF-8 and a place below a folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath
from types import ModuleType

from .records import Source


def safe_id(written: str, flavour: ModuleType = os.path) -> str:
    """A posix path that is UTF-8, relative and does not climb, whatever was written.

    NUL and bytes that are no UTF-8 (surrogates in `written`) become %XX; a drive is left out.
    """
    if flavour.isabs(written) or ".." in written.replace(flavour.sep, "/").split("/"):
        written = flavour.abspath(written)
    places = flavour.splitdrive(written)[1].replace(flavour.sep, "/").split("/")
    parts = [part for part in places if part not in ("", ".")]
    text = "/".join(parts).replace("\0", "%00") or "."
    return "".join(map(_utf8, text)) if not text.isascii() else text


def tell_apart(name: str, by: str) -> str:
    """The name with a short hash of what sets it apart, before its extension."""
    digest = hashlib.sha256(by.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem}~{digest}{path.suffix}"))


def real_path(path: str) -> str:
    """The one absolute path of a file, however it was written and whatever links lead to it."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return path


def source_of(path: Path, *, hashed: bool = False) -> Source:
    """Size and time of change of a file, and on request its content; empty when it is not there.

    Args:
        path: of the file; a pipe or device is not read.
        hashed: read it all for its SHA-256.
    """
    try:
        stat = path.stat()
        digest = _digest(path) if hashed and path.is_file() else None
    except (OSError, ValueError):
        return Source()
    return Source(size=stat.st_size, mtime_ns=stat.st_mtime_ns, sha256=digest)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _utf8(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a stray byte
        return f"%{code - 0xDC00:02X}"
    return "?" if 0xD800 <= code <= 0xDFFF else char
