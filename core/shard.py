"""A stable share of the recordings, for many machines that know nothing of each other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from .errors import UsageError


class Named(Protocol):
    """Anything with an id."""

    @property
    def id(self) -> str:
        """Its name in the run."""


One = TypeVar("One", bound=Named)


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `number` of `count`: what falls to it depends on a recording's id alone.

    Attributes:
        number: 1 to `count`.
        count: how many parts there are.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """`3/16` is the third of sixteen.

        Raises:
            UsageError: anything else.
        """
        found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
        number, count = (int(part) for part in found.groups()) if found else (0, 0)
        if not 1 <= number <= count:
            raise UsageError(f"--shard {text}: give N/M with N from 1 to M, such as 3/16")
        return cls(number, count)

    @property
    def suffix(self) -> str:
        """What this part adds to the name of its results file."""
        return f"-{self.number}-of-{self.count}"

    def has(self, recording_id: str) -> bool:
        """Whether a recording falls to this part."""
        digest = hashlib.sha256(recording_id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8]) % self.count == self.number - 1


def share(recordings: Iterable[One], shard: Shard | None) -> Iterable[One]:
    """The recordings of a shard, None = all: of a list a list, of a stream a stream."""
    if shard is None:
        return recordings
    mine = (recording for recording in recordings if shard.has(recording.id))
    return list(mine) if isinstance(recordings, list) else mine
