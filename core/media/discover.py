"""From what the user typed to recordings: files, folders, globs, manifests, paths on stdin.

Opens manifests, never a recording. Manifests are checked before the first recording is handed out,
folders are walked as the run goes on.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import IO

from ..errors import UsageError
from ..records import Json, Recording, Source
from .manifest import Entry, is_manifest, paths_from_stream, read_manifest

# Containers that hold sound; a folder's other files are passed over. ".ts" is left out, because
# folders of source code are full of it: name such a file itself.
_EXTENSIONS = (
    "3g2 3gp 3gpp aac ac3 aif aifc aiff amr ape asf au avi awb bwf caf dts eac3 flac flv gsm m2ts "
    "m4a m4b m4v mka mkv mov mp2 mp3 mp4 mpeg mpg mpga mts mxf oga ogg ogv ogx opus qt ra rf64 snd "
    "spx tta voc vob w64 wav wave weba webm wma wmv wv"
)
MEDIA_SUFFIXES = frozenset(f".{name}" for name in _EXTENSIONS.split())


@dataclass(frozen=True, slots=True)
class _Found:
    """A path on its way to a recording; `fixed` says that the manifest itself named the id."""

    path: str
    id: str
    text: str | None = None
    error: str | None = None
    fixed: bool = False
    question: str | None = None
    row: Json = field(default_factory=dict)


def discover(
    inputs: Sequence[str], *, stdin: IO[bytes] | None = None, null: bool = False
) -> Iterator[Recording]:
    """Recordings among the inputs, in the order given, folders sorted, each file once.

    An input is a file (whatever its extension), a folder (recursive; hidden entries and files
    that are no media by extension are passed over), a glob, a manifest (`.jsonl`/`.json` with
    `audio_filepath` and optional `text`, `question` and `id`, or `.txt` with a path a line; paths
    are relative to the manifest) or `-` (paths on stdin). A manifest that asks one file several
    questions brings a recording for each.

    Ids are posix paths, safe as UTF-8 and as a place below an output folder: relative to the
    folder given (below the folder's own name when several are given), else the path as written,
    an absolute one without its root. Two files that would share an id are told apart by a short
    hash of their path.

    Args:
        inputs: what the user typed.
        stdin: binary stream that `-` reads.
        null: paths on stdin end with NUL, not with a line break.

    Returns:
        Recordings; one with `error` for each path that cannot be used. Consuming it raises
        UsageError when nothing at all can be used.

    Raises:
        UsageError: a malformed manifest, or audio where paths are expected.
    """
    many = sum(os.path.isdir(item) for item in inputs) > 1 or "-" in inputs
    sources = [_source(item, many, stdin, null) for item in inputs]
    return _usable(_unique(found for source in sources for found in source))


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


def _source(item: str, many: bool, stdin: IO[bytes] | None, null: bool) -> Iterable[_Found]:
    """What one input brings; reads manifests and the first bytes of stdin at once."""
    if item == "-":
        if stdin is None:
            raise UsageError("'-' reads paths from stdin, but there is no stdin")
        return (f for path in paths_from_stream(stdin, null) for f in _expand(path, True))
    if os.path.isfile(item) and is_manifest(item):
        return _from_manifest(item)
    if glob.has_magic(item) and not os.path.lexists(item):
        return _glob(item, many)
    return _expand(item, many)


def _from_manifest(manifest: str) -> list[_Found]:
    first: dict[str, str | None] = {}  # path -> the first question about it
    found = []
    for entry in read_manifest(manifest):
        another = first.setdefault(entry.path, entry.question) != entry.question
        found.append(_listed(entry, another))
    # somebody's notes beside the recordings, caught by the shell's "*"
    if manifest.lower().endswith(".txt") and all(item.error for item in found):
        raise UsageError(f"{manifest}: none of its {len(found)} lines is the path of a file")
    return found


def _listed(entry: Entry, another: bool) -> _Found:
    """A row of a manifest; another question about a file is another recording."""
    name = _safe_id(entry.id or entry.written)
    if another and entry.id is None:
        name = _tell_apart(name, entry.question or "")
    return _Found(
        path=entry.path,
        id=name,
        text=entry.text,
        error=_trouble(entry.path),
        fixed=another or entry.id is not None,
        question=entry.question,
        row=entry.row,
    )


def _expand(item: str, many: bool) -> Iterator[_Found]:
    """A file as itself, a folder as what lies in it."""
    if not os.path.isdir(item):
        yield _Found(item, _safe_id(item), error=_trouble(item))
        return
    prefix = _safe_id(item) if many else ""
    for path, error in _walk(item, set()):
        inner = os.path.relpath(path, item)
        yield _Found(path, _safe_id(os.path.join(prefix, inner) if prefix else inner), error=error)


def _glob(pattern: str, many: bool) -> Iterator[_Found]:
    """Matches in order; a pattern that does not name an extension takes media files only."""
    named = os.path.splitext(pattern)[1]
    any_kind = bool(named) and not glob.has_magic(named)
    matches = sorted(glob.glob(pattern, recursive=True))
    if not matches:
        yield _Found(pattern, _safe_id(pattern), error="nothing matches this pattern")
    for match in matches:
        if os.path.isdir(match):
            yield from _expand(match, True)
        elif any_kind or _is_media(match):
            yield from _expand(match, many)


def _walk(folder: str, visited: set[str]) -> Iterator[tuple[str, str | None]]:
    """(path, error) of media files below a folder, sorted; links are followed, but not in rings."""
    real = os.path.realpath(folder)
    if real in visited:
        return
    visited.add(real)
    try:
        with os.scandir(folder) as listing:
            # links last, so that what lies here goes by its own name
            entries = sorted(listing, key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError as error:
        yield folder, f"cannot list this folder: {error.strerror}"
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            yield from _walk(entry.path, visited)
        elif _is_media(entry.name):
            yield entry.path, _trouble(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_media(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in MEDIA_SUFFIXES


def _trouble(path: str) -> str | None:
    """Why a file cannot be used, found without opening it; None if it can."""
    try:
        if os.path.isdir(path):
            return "a folder where a file is expected"
        os.stat(path)
        readable = os.access(path, os.R_OK)
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return f"cannot be reached: {error.strerror}"
    except ValueError:
        return "not a path that this system can express"
    return None if readable else "no permission to read it"


def _safe_id(written: str, flavour: ModuleType = os.path) -> str:
    """A posix path that is UTF-8, relative and does not climb, whatever was written.

    NUL and bytes that are no UTF-8 (surrogates in `written`) become %XX; a drive is left out.
    """
    if flavour.isabs(written) or ".." in written.replace(flavour.sep, "/").split("/"):
        written = flavour.abspath(written)
    places = flavour.splitdrive(written)[1].replace(flavour.sep, "/").split("/")
    parts = [part for part in places if part not in ("", ".")]
    text = "/".join(parts).replace("\0", "%00") or "."
    return "".join(map(_utf8, text)) if not text.isascii() else text


def _utf8(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a stray byte
        return f"%{code - 0xDC00:02X}"
    return "?" if 0xD800 <= code <= 0xDFFF else char


def _unique(found: Iterable[_Found]) -> Iterator[_Found]:
    """Each file once, each id once."""
    owner: dict[str, str] = {}  # id -> real path
    done: set[str] = set()
    for item in found:
        real = _real(item.path)
        taken = owner.get(item.id)
        # an id of its own makes a second record of one file meant, not an accident
        if taken == real or (not item.fixed and real in done):
            continue
        unique = item.id if taken is None else _tell_apart(item.id, real)
        owner[unique] = real
        done.add(real)
        yield replace(item, id=unique)


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return path


def _tell_apart(name: str, by: str) -> str:
    digest = hashlib.sha256(by.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem}~{digest}{path.suffix}"))


def _usable(found: Iterable[_Found]) -> Iterator[Recording]:
    """Hold back hopeless ones until a usable one shows that the run makes sense."""
    held: list[Recording] = []
    usable = False
    for item in found:
        recording = Recording(
            item.id, Path(item.path), item.text, item.error, item.question, item.row
        )
        if not usable and item.error is not None:
            held.append(recording)
            continue
        if not usable:
            yield from held
            held, usable = [], True
        yield recording
    if not usable:
        raise UsageError(_nothing(held))


def _nothing(held: Sequence[Recording]) -> str:
    if not held:
        return "no audio or video files among the inputs"
    more = f" (and {len(held) - 1} more)" if len(held) > 1 else ""
    return f"nothing usable among the inputs: {held[0].id}: {held[0].error}{more}"
