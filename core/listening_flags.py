"""What a user may say about tracks and channels; what it means is in `core.media.listening`."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import UsageError

TRACKS = ("auto", "all")
CHANNELS = ("mix", "best", "split")


def audio_track(value: int | str) -> str:
    """`--audio-track` as it stands in the settings.

    Raises:
        UsageError: it is no name and no number from 1 up.
    """
    return _one_of("--audio-track", value, TRACKS)


def channels(value: int | str, track: int | str | None) -> str:
    """`--channels` as it stands in the settings, beside the track that was asked for.

    Raises:
        UsageError: it is no name and no number from 1 up, or splits what is mixed.
    """
    found = _one_of("--channels", value, CHANNELS)
    if found == "split" and track == "all":
        raise UsageError("--channels split takes one track: leave out --audio-track all")
    return found


def _one_of(flag: str, value: int | str, names: Sequence[str]) -> str:
    word = str(value).strip().lower()
    if word.isdecimal() and int(word) > 0:
        return str(int(word))
    if word not in names:
        raise UsageError(f"{flag} {value}: choose {', '.join(names)} or a number from 1 up")
    return word
