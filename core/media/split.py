"""Each channel a recording of its own: the two sides of a call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import PurePosixPath

from ..records import Recording
from .apart import count_channels_apart
from .listening import Listening


def by_channel(recordings: Iterable[Recording], track: str) -> Iterator[Recording]:
    """The recordings, with those of several channels as one a channel: `a/call#1.wav`, `#2`, ...

    Opens each file for a moment. One that cannot be read is left as it is, and will say why.

    Args:
        recordings: found, unread.
        track: which of its audio tracks is heard, see `Listening`.
    """
    for recording in recordings:
        number = None
        if recording.error is None:
            number = count_channels_apart(recording.path, Listening(track))
        if number is None or number < 2:
            yield recording
            continue
        for channel in range(1, number + 1):
            yield replace(recording, id=_numbered(recording.id, channel), channel=channel)


def _numbered(name: str, channel: int) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem}#{channel}{path.suffix}"))
