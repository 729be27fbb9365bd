"""Which of a file's tracks and channels are heard."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listening:
    """What is heard of a file that holds more than one voice.

    Attributes:
        track: auto (the default track; when that is silent, the one with speech) | all (their
            mean) | the number of an audio track, from 1.
        channels: mix (their mean) | best (the one with most speech) | split (of one recording a
            mix: it is `by_channel` that makes several of it) | the number of a channel, from 1.
    """

    track: str = "auto"
    channels: str = "mix"
