"""A stable share of the recordings, for many machines that know nothing of each other."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from .errors import UsageError


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
