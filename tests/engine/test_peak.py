"""Peaks are what was added, or they are not known; a ceiling broken once does not stay broken."""

from __future__ import annotations

import mmap
import resource
import sys
from pathlib import Path

import pytest
import torch

from core.engine import peak
from core.engine.ceiling import Ceiling
from core.errors import StartError

CPU = torch.device("cpu")
MIB = 2**20
counts_anew = pytest.mark.skipif(not peak.reset_peak(CPU), reason="no peak can be reset here")
tells_held = pytest.mark.skipif(peak.held_bytes(CPU) is None, reason="nothing is told here")


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A system whose high-water mark never falls."""
    monkeypatch.setattr(peak, "_CLEAR_REFS", tmp_path / "no folder" / "clear_refs")


def take(size: int) -> mmap.mmap:
    """Fresh pages: what an allocator kept from before would add nothing."""
    pages = mmap.mmap(-1, size)
    pages.write(bytes(size))
    return pages


def take_and_give_back(size: int) -> None:
    take(size).close()


@counts_anew
def test_what_is_added_is_counted() -> None:
    take_and_give_back(128 * MIB)
    added = peak.added_bytes(CPU, lambda: take_and_give_back(64 * MIB))
    assert added is not None
    assert 60 * MIB < added < 100 * MIB


@pytest.mark.usefixtures("stuck")
def test_what_is_added_is_not_known_where_the_peak_stays() -> None:
    take_and_give_back(128 * MIB)
    assert not peak.reset_peak(CPU)
    assert peak.added_bytes(CPU, lambda: take_and_give_back(64 * MIB)) is None


def test_without_proc_the_most_of_the_whole_life_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peak, "_STATUS", tmp_path / "absent")
    assert peak.held_bytes(CPU) is None
    unit = 1 if sys.platform == "darwin" else 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    assert peak.peak_bytes(CPU) == pytest.approx(most, rel=0.01)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak.peak_bytes(CPU) is None
    with pytest.raises(StartError, match="--batch-size"):
        Ceiling(CPU, 2**40).__enter__()


@tells_held
@pytest.mark.usefixtures("stuck")
def test_a_ceiling_broken_once_holds_again() -> None:
    take_and_give_back(256 * MIB)  # a peak that was there before
    with Ceiling(CPU, (peak.held_bytes(CPU) or 0) + 128 * MIB) as ceiling:
        ceiling.check()
        pages = take(192 * MIB)
        with pytest.raises(MemoryError, match="--max-memory is"):
            ceiling.check()
        pages.close()
        ceiling.recover()
        ceiling.check()
        # what raises the peak is seen, also when it has been given back
        below = (peak.peak_bytes(CPU) or 0) - (peak.held_bytes(CPU) or 0)
        take_and_give_back(below + 64 * MIB)
        with pytest.raises(MemoryError):
            ceiling.check()
        ceiling.recover()
        ceiling.check()
