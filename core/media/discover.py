"""From what the user typed to recordings: files, folders, globs, manifests, paths on stdin.

Opens manifests, never a recording. Manifests are checked before the first recording is handed out,
folders are walked as the run goes on.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import IO

from ..errors import UsageError
from ..ids import real_path, safe_id, tell_apart
from ..records import Json, Recording, Seconds
from .bystanders import holds_sound, is_results, lists_recordings
from .manifest import Entry, is_manifest, paths_from_stream, read_manifest

# Containers that hold sound; a folder's other files are passed over. ".ts" is left out, because
# folders of source code are full of it: name such a file itself.
_EXTENSIONS = (
    "3g2 3gp 3gpp aac ac3 aif aifc aiff amr ape asf au avi awb bwf caf dts eac3 flac flv gsm m2ts "
    "m4a m4b m4v mka mkv mov mp2 mp3 mp4 mpeg mpg mpga mts mxf oga ogg ogv ogx opus qt ra rf64 snd "
    "spx tta voc vob w64 wav wave weba webm wma wmv wv"
)
MEDIA_SUFFIXES = frozenset(f".{name}" for name in _EXTENSIONS.split())


_SHOWN = 5  # names in a message


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
    part: tuple[Seconds | None, Seconds | None] = (None, None)


@dataclass(frozen=True, slots=True)
class _Search:
    """How inputs are looked at.

    Attributes:
        many: ids below a folder begin with its name: there are several folders.
        alone: it is the only input.
        passed: takes what is no recording.
    """

    many: bool
    alone: bool
    passed: list[str]


def discover(
    inputs: Sequence[str],
    *,
    stdin: IO[bytes] | None = None,
    null: bool = False,
    passed: list[str] | None = None,
) -> Iterator[Recording]:
    """Recordings among the inputs, in the order given, folders sorted, each file once.

    An input is a file (whatever its extension), a folder (recursive; hidden entries and files
    that are no media by extension are passed over), a glob, a manifest (`.jsonl`/`.json` with
    `audio_filepath` and optional `text`, `question`, `id`, `offset` and `duration`, `.csv`/`.tsv`
    with such columns, `.m3u`/`.m3u8`, or `.txt` with a path a line; paths are relative to the
    manifest) or `-` (paths on stdin). A manifest that asks one file several questions, or names
    several parts of it, brings a recording for each.

    Ids are posix paths, safe as UTF-8 and as a place below an output folder: relative to the
    folder given (below the folder's own name when several are given), else the path as written,
    an absolute one without its root. Two files that would share an id are told apart by a short
    hash of their path.

    One input alone is meant, whatever it is. Among several (a shell's `*` is several), in a glob
    and on stdin what neither has the name of a recording nor begins as sound does is passed over:
    subtitles, pictures, notes, what a downloader or an earlier run has left.

    Args:
        inputs: what the user typed.
        stdin: binary stream that `-` reads.
        null: paths on stdin end with NUL, not with a line break.
        passed: takes the paths that are passed over, while the recordings are drawn.

    Returns:
        Recordings; one with `error` for each path that cannot be used. Consuming it raises
        UsageError when nothing at all can be used.

    Raises:
        UsageError: a malformed manifest, or audio where paths are expected.
    """
    many = sum(os.path.isdir(item) for item in inputs) > 1 or "-" in inputs
    search = _Search(many, len(inputs) == 1, [] if passed is None else passed)
    sources = [
        _listed_by(stdin, null, search) if item == "-" else _source(item, search) for item in inputs
    ]
    return _usable(_unique(chain.from_iterable(sources)), search.passed)


def _source(item: str, search: _Search) -> Iterable[_Found]:
    """What one input brings; reads manifests at once."""
    if os.path.isfile(item) and is_manifest(item):
        return _from_manifest(item, search)
    if glob.has_magic(item) and not os.path.lexists(item):
        return _glob(item, search)
    return _expand(item, search)


def _listed_by(stdin: IO[bytes] | None, null: bool, search: _Search) -> Iterator[_Found]:
    """Paths on stdin, as they come; its first bytes are looked at at once."""
    if stdin is None:
        raise UsageError("'-' reads paths from stdin, but there is no stdin")
    listed = replace(search, alone=False)
    return (found for path in paths_from_stream(stdin, null) for found in _expand(path, listed))


def _from_manifest(manifest: str, search: _Search) -> list[_Found]:
    if search.alone:
        return _entries(manifest)
    try:
        found = [] if is_results(manifest) else _entries(manifest)
    except UsageError:
        if lists_recordings(manifest, _is_media):
            raise
        found = []
    if not found:
        search.passed.append(manifest)
    return found


def _entries(manifest: str) -> list[_Found]:
    first: dict[str, str | None] = {}  # path -> the first question about it
    found = []
    for entry in read_manifest(manifest):
        another = first.setdefault(entry.name, entry.question) != entry.question
        found.append(_listed(entry, another))
    # somebody's notes beside the recordings, caught by the shell's "*"
    if manifest.lower().endswith(".txt") and all(item.error for item in found):
        raise UsageError(f"{manifest}: none of its {len(found)} lines is the path of a file")
    return found


def _listed(entry: Entry, another: bool) -> _Found:
    """A row of a manifest; another question about a file is another recording."""
    name = safe_id(entry.name)
    if another and entry.id is None:
        name = tell_apart(name, entry.question or "")
    return _Found(
        path=entry.path,
        id=name,
        text=entry.text,
        error=_trouble(entry.path),
        fixed=another or entry.id is not None,
        question=entry.question,
        row=entry.row,
        part=(entry.offset, entry.duration),
    )


def _expand(item: str, search: _Search) -> Iterator[_Found]:
    """A file as itself, a folder as what lies in it."""
    if not os.path.isdir(item):
        if search.alone or _is_media(item) or holds_sound(item):
            yield _Found(item, safe_id(item), error=_trouble(item))
        else:
            search.passed.append(item)
        return
    prefix = safe_id(item) if search.many else ""
    for path, error in _walk(item, set()):
        inner = os.path.relpath(path, item)
        yield _Found(path, safe_id(os.path.join(prefix, inner) if prefix else inner), error=error)


def _glob(pattern: str, search: _Search) -> Iterable[_Found]:
    """Matches, in order, as the shell gives them; all are meant if the pattern has an extension."""
    matches = sorted(glob.glob(pattern, recursive=True))
    if not matches:
        return [_Found(pattern, safe_id(pattern), error="nothing matches this pattern")]
    named = os.path.splitext(pattern)[1]
    meant = replace(search, alone=bool(named) and not glob.has_magic(named))
    return chain.from_iterable([_match(path, search, meant) for path in matches])


def _match(path: str, search: _Search, meant: _Search) -> Iterable[_Found]:
    if os.path.isdir(path):
        return _expand(path, replace(search, many=True))
    return _source(path, replace(search, alone=False) if is_manifest(path) else meant)


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


def _unique(found: Iterable[_Found]) -> Iterator[_Found]:
    """Each file once, each id once."""
    owner: dict[str, str] = {}  # id -> real path
    done: set[str] = set()
    for item in found:
        real = real_path(item.path) + ("" if item.part[0] is None else str(item.part))
        taken = owner.get(item.id)
        # an id of its own makes a second record of one file meant, not an accident
        if taken == real or (not item.fixed and real in done):
            continue
        unique = item.id if taken is None else tell_apart(item.id, real)
        owner[unique] = real
        done.add(real)
        yield replace(item, id=unique)


def _usable(found: Iterable[_Found], passed: Sequence[str]) -> Iterator[Recording]:
    """Hold back hopeless ones until a usable one shows that the run makes sense."""
    held: list[Recording] = []
    usable = False
    for item in found:
        recording = Recording(
            item.id, Path(item.path), item.text, item.error, item.question, item.row, *item.part
        )
        if not usable and item.error is not None:
            held.append(recording)
            continue
        if not usable:
            yield from held
            held, usable = [], True
        yield recording
    if not usable:
        raise UsageError(_nothing(held, passed))


def _nothing(held: Sequence[Recording], passed: Sequence[str]) -> str:
    if held:
        more = f" (and {len(held) - 1} more)" if len(held) > 1 else ""
        return f"nothing usable among the inputs: {held[0].id}: {held[0].error}{more}"
    also = f" (passed over: {shortened(passed)})" if passed else ""
    return f"no audio or video files among the inputs{also}"


def shortened(names: Sequence[str]) -> str:
    """The first of many names, each once, and how many more there are."""
    each = list(dict.fromkeys(names))
    more = f" and {len(each) - _SHOWN} more" if len(each) > _SHOWN else ""
    return ", ".join(each[:_SHOWN]) + more
