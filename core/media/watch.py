"""A limit of time in which only that counts in which this process could have worked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from ..records import Seconds

TICK: Seconds = 1.0
"""What a wait counts at most: one that ends later was stopped (Ctrl-Z, a paused container, a
sleeping machine), or waited for a processor, and neither is the decoder's fault."""


class Watch:
    """While entered, counts; calls once when the limit is reached.

    Args:
        limit: seconds.
        late: called in a thread of its own.

    Attributes:
        spent: seconds that counted, final once it is left.
    """

    def __init__(self, limit: Seconds, late: Callable[[], None]) -> None:
        """Nothing counts before the context is entered."""
        self.spent: Seconds = 0.0
        self._limit, self._late = limit, late
        self._from: Seconds = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True)

    def anew(self) -> None:
        """Let the limit count from here on."""
        self._from = self.spent

    def __enter__(self) -> Self:
        """Begin to count."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop counting."""
        self._over.set()
        self._thread.join()

    def _count(self) -> None:
        while (left := self._from + self._limit - self.spent) > 0:
            step = min(TICK, left)
            begun = time.monotonic()
            over = self._over.wait(step)
            self.spent += min(step, time.monotonic() - begun) if over else step
            if over:
                return
        self._late()
