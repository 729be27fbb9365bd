"""The memory that a run was told to stay under, `--max-memory`.

On CUDA the allocator itself is told. On a CPU nobody can refuse an allocation without ending the
process, so the peak of the whole process is looked at after each step, and too much counts as out
of memory: what caused it is given up and tried in smaller company.

Where the system cannot count the peak anew, a peak of before says nothing of now. There a step is
too much if it raises the peak, or if what is held when it ends is above the limit; what it took and
gave back below an earlier peak goes unseen.
"""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from typing import Self

import torch

from ..errors import StartError
from .peak import held_bytes, peak_bytes, reset_peak


class Ceiling:
    """A context: inside, memory is held under the limit, as far as the device can.

    Args:
        device: that of the model.
        limit: bytes of the device (CUDA) or of the whole process; None = no limit.
    """

    def __init__(self, device: torch.device, limit: int | None) -> None:
        self._device, self._limit = device, limit
        self._broken = False
        self._before = 0  # a peak that is over, where it goes on being told

    def __enter__(self) -> Self:
        """Hold the limit from here on.

        Raises:
            StartError: the model alone takes more, or the system does not say what is taken.
        """
        if self._limit is None:
            return self
        held = self._held
        if held is None:
            raise StartError(
                "--max-memory: this system does not say how much memory a process holds; leave it "
                "out, and bound what goes together with --batch-size"
            )
        if held >= self._limit:
            raise StartError(
                f"--max-memory {size_of(self._limit)}: with the model loaded "
                f"{size_of(held)} are in use already; give more"
            )
        if self._device.type == "cuda":
            self._tell_allocator(self._limit)
        self._count_anew()
        return self

    def __exit__(self, *exception: object) -> None:
        """Let the allocator have all of the device again."""
        if self._limit is not None and self._device.type == "cuda":
            self._tell_allocator(None)

    @property
    def left(self) -> int | None:
        """Bytes below the limit; None without one."""
        return None if self._limit is None else max(0, self._limit - (self._held or 0))

    def check(self) -> None:
        """Raise MemoryError if memory has been above the limit since the last `recover`."""
        if self._limit is None or self._device.type == "cuda":
            return
        most = self._most
        if most > self._limit:
            self._broken = True
            raise MemoryError(
                f"it takes {size_of(most)} where --max-memory is {size_of(self._limit)}: "
                "give more, or make shorter pieces with --chunk-length"
            )

    def recover(self) -> None:
        """Give back what was let go of; to be called before the next try."""
        if self._broken:
            self._broken = False
            gc.collect()
            # glibc keeps what is freed for itself, and it would be counted again
            with suppress(OSError, AttributeError):
                ctypes.CDLL(None).malloc_trim(0)
            self._count_anew()

    @property
    def _held(self) -> int | None:
        """Bytes in use now; where only the peak is told, that is as much as they can be."""
        held = held_bytes(self._device)
        return peak_bytes(self._device) if held is None else held

    @property
    def _most(self) -> int:
        """Most bytes in use since the count began, as far as the system lets on."""
        peak = peak_bytes(self._device) or 0
        return peak if peak > self._before else held_bytes(self._device) or 0

    def _count_anew(self) -> None:
        self._before = 0 if reset_peak(self._device) else peak_bytes(self._device) or 0

    def _tell_allocator(self, limit: int | None) -> None:
        _, total = torch.cuda.mem_get_info(self._device)
        share = 1.0 if limit is None else min(1.0, limit / total)
        torch.cuda.set_per_process_memory_fraction(share, self._device)


def size_of(count: int) -> str:
    """Bytes for people."""
    return f"{count / 2**30:.2f}G"
