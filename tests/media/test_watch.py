"""What counts towards a limit of time, and what does not."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.media import watch
from core.media.watch import Watch


class Clock:
    """In the place of waiting: each wait takes so long, and the last one is interrupted."""

    def __init__(self, waits: list[float]) -> None:
        self.now = 0.0
        self._waits = iter(waits)

    def wait(self, seconds: float) -> bool:
        taken = next(self._waits, None)
        self.now += seconds if taken is None else taken
        return taken is None

    def monotonic(self) -> float:
        return self.now


@given(st.lists(st.floats(1.0, 1e5), max_size=30))
def test_a_wait_counts_a_tick_however_long_it_took(waits: list[float]) -> None:
    clock, late = Clock(waits), list[bool]()
    counting = Watch(60.0, lambda: late.append(True))
    counting._over = clock  # type: ignore[assignment]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch.time, "monotonic", clock.monotonic)
        counting._count()
    assert counting.spent == pytest.approx(len(waits) + watch.TICK)
    assert not late


def test_it_is_told_once_when_the_limit_is_reached() -> None:
    late = threading.Event()
    with Watch(0.05, late.set):
        assert late.wait(10)
    began = time.monotonic()
    with Watch(3600.0, late.clear) as counting:
        time.sleep(0.2)
    assert late.is_set() and 0.2 <= counting.spent <= time.monotonic() - began
