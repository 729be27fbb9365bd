"""Under which name the results know a recording: one file, one name, however it was given.

What identifies a recording is its file: the path behind all links. A file that is not where it was
is known by name, size and time of change, or by its content where that is asked for. Its name is
the one that its record has; a new file gets its own id, made different if another file has that.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath

from .ids import real_path, safe_id, source_of, tell_apart
from .records import Recording
from .results.store import Known, Sink
from .shard import Shard


def settle(
    recordings: Iterable[Recording],
    sink: Sink,
    shard: Shard | None = None,
    *,
    hashed: bool = False,
    skip: Callable[[Recording], bool] = lambda recording: False,
) -> Iterable[Recording]:
    """The recordings that are to be done here, under the names that the results know them by.

    Args:
        recordings: found; a list is announced to the sink, with what falls to other shards.
        sink: of the results.
        shard: the part to do; a recording that has a record stays in that record's part.
        hashed: know a file by its content.
        skip: whether one that has no record can be left out.

    Returns:
        Of a list a list, of a stream a stream.
    """
    known = list(sink.known())
    sink.expect(one.id for one in known)
    names = Names(known, hashed=hashed) if known else None

    def mine(found: Recording, named: Recording) -> bool:
        here = names.part(named.id) if names is not None else None
        if here is None:
            return (shard is None or shard.has(found.id)) and not skip(named)
        return here

    def named(found: Recording) -> Recording:
        return found if names is None else names.named(found)

    pairs = ((found, named(found)) for found in recordings)
    if not isinstance(recordings, list):
        return (one for found, one in pairs if mine(found, one))
    both = list(pairs)
    sink.expect(one.id for _, one in both)
    return [one for found, one in both if mine(found, one)]


class Names:
    """Names of recordings in a place for results.

    Args:
        known: recordings that have a record there.
        hashed: know a file by its content.
    """

    def __init__(self, known: Iterable[Known], *, hashed: bool = False) -> None:
        """Look at no file yet."""
        self._hashed = hashed
        self._file: dict[str, str] = {}  # id -> path
        self._given: set[str] = set()
        self._here: dict[str, bool] = {}
        self._of_file: dict[str, list[str]] = defaultdict(list)  # path -> ids
        self._by_id: dict[str, list[Known]] = defaultdict(list)
        self._by_name: dict[str, list[Known]] = defaultdict(list)  # of the file
        for one in known:
            name = PurePosixPath(one.written).name
            self._by_id[one.id].append(one)
            if _is_plain(one.id, name, one.path):
                self._of_file[one.path].append(one.id)
                self._by_name[name].append(one)
            self._file[one.id] = one.path
            self._here[one.id] = one.here

    def part(self, name: str) -> bool | None:
        """Whether the record of an id is in this part of the results; None = there is none."""
        return self._here.get(name)

    def named(self, recording: Recording) -> Recording:
        """The recording under its name there; two files never have one name."""
        path = real_path(os.fspath(recording.path))
        name = self._find(recording, path)
        self._file[name] = path
        self._given.add(name)
        return replace(recording, id=name)

    def _find(self, recording: Recording, path: str) -> str:
        if self._file.get(recording.id) == path:
            return recording.id
        plain = _is_plain(recording.id, recording.path.name, path)
        own = self._of_file.get(path, ()) if plain else ()
        for name in chain(own, self._moved(recording, plain)):
            if name not in self._given or self._file[name] == path:
                return name
        choices = _choices(recording, path, plain)
        return next(one for one in choices if self._file.get(one, path) == path)

    def _moved(self, recording: Recording, plain: bool) -> Iterator[str]:
        """Ids of records whose file this is, though it lies elsewhere now; its own id first."""
        for one in self._by_id.get(recording.id, ()):
            gone = _is_gone(one)
            known = gone or self._knows_content(one)
            if (gone and not plain) or (known and self._is_same(one, recording.path)):
                yield one.id
        for one in self._by_name.get(recording.path.name, ()) if plain else ():
            if self._is_same(one, recording.path) and _is_gone(one):
                yield one.id

    def _is_same(self, one: Known, path: Path) -> bool:
        """Whether a file is what that of a record was."""
        if one.source.size is None or one.source.size != source_of(path).size:
            return False
        return one.source.same(source_of(path, hashed=self._knows_content(one)))

    def _knows_content(self, one: Known) -> bool:
        return self._hashed and one.source.sha256 is not None


def _is_gone(one: Known) -> bool:
    """Whether the file of a record is no longer there as it was."""
    return not one.source.same(source_of(Path(one.path)))


def _is_plain(recording_id: str, name: str, path: str) -> bool:
    """Whether an id comes from the file's name, and not from a manifest that calls it otherwise."""
    own = safe_id(name) if name else ""
    return bool(own) and PurePosixPath(recording_id).name in (own, tell_apart(own, path))


def _choices(recording: Recording, path: str, plain: bool) -> Iterator[str]:
    """Ids for a new file, the most readable first."""
    yield recording.id
    whole = PurePosixPath(Path(os.path.abspath(recording.path)).as_posix()).parts[1:]
    inner = PurePosixPath(recording.id).parts
    above = whole[: -len(inner)]
    if plain and above and whole[-len(inner) :] == inner:
        yield safe_id("/".join((above[-1], *inner)))
    yield tell_apart(recording.id, path)
