"""Ctrl-C and SIGTERM: what is in hand is finished, the second one ends at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from core.pipeline import Event

_SAID = b"\ninterrupted: finishing what is in hand; once more ends it at once\n"


class Interrupts:
    """While entered, the first signal after work has begun only asks the run to end.

    Before that, such as while the model loads, and from the second on, a signal is a
    KeyboardInterrupt.
    """

    def __init__(self) -> None:
        """Handle nothing yet."""
        self._working = False
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Take over the signals, but not those that whoever started this wants ignored."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *error: object) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def watch(self, on_event: Callable[[Event], None]) -> Callable[[Event], bool]:
        """`on_event`, and whether the run has been asked to end."""

        def both(event: Event) -> bool:
            self._working = self._working or event.kind == "reading"
            on_event(event)
            return self._asked

        return both

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._asked or not self._working:
            raise KeyboardInterrupt
        self._asked = True
        with suppress(OSError):  # straight to the file: a buffer may be in use right now
            os.write(2, _SAID)
