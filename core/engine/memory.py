"""How many rows the memory holds: what there is, what a row will take, and what to do if it fails.

Estimates are rough on purpose and lean to the safe side; what they get wrong shows as an
out-of-memory error, from which the room learns.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import torch

from ..flops import DecoderShape, PromptLengths, kv_bytes
from .ceiling import Ceiling

_MEMORY = Path("/proc/meminfo")
_GROUP_MOST, _GROUP_NOW = (
    Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current")
)
# the rest is for fragments, for what a row's estimate leaves out, and on a CPU for others
_CUDA_SHARE, _SHARE = 0.8, 0.5
_SAID = ("out of memory", "can't allocate memory", "not enough memory")


def available_bytes(device: torch.device) -> int | None:
    """Bytes that tensors on this device could still take; None where the system does not say."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    left = [one for one in (_system_bytes(), _control_group_bytes()) if one is not None]
    return min(left, default=None)


def _system_bytes() -> int | None:
    with suppress(OSError, StopIteration):
        lines = _MEMORY.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvail")) * 1024
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _control_group_bytes() -> int | None:
    """What a container's limit leaves; its file cache counts as used, which is the safe side."""
    with suppress(OSError, ValueError):
        return int(_GROUP_MOST.read_text()) - int(_GROUP_NOW.read_text())
    return None


def row_bytes(
    shape: DecoderShape,
    prompt: PromptLengths,
    value_bytes: int,
    kept: tuple[int, ...],
    tail: int,
) -> int:
    """Bytes that one row takes at its fullest: its KV cache, and a layer of its prefill.

    Args:
        shape: the decoder.
        prompt: its token counts.
        value_bytes: bytes of a cached number.
        kept: audio tokens that enter each layer, then those that leave the last one.
        tail: most slots behind the prompt, those of all beams together.
    """
    cached = kv_bytes(shape, prompt, value_bytes, kept, tail)
    # states, their norm, q, k, v, the output and the MLP; as much again for the encoder
    layer = 2 * prompt.total * (6 * shape.hidden + 3 * shape.intermediate) * value_bytes
    return cached + layer + 4 * shape.vocab


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that less at a time might work; allocators say it in several ways."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in said for words in _SAID)


class Room:
    """Bytes that all rows under way may take together; shrinks when they turn out to be too many.

    Args:
        size: bytes; None = as many as it takes, until memory runs out once.
        ceiling: what else must not be exceeded.
    """

    def __init__(self, size: float | None, ceiling: Ceiling | None = None) -> None:
        self.size = size
        self._ceiling = ceiling
        self._before: float | None = None
        self._shrunk = False

    @classmethod
    def on(cls, device: torch.device, ceiling: Ceiling) -> Room:
        """What a device can spare now, under a ceiling."""
        left = available_bytes(device)
        share = _CUDA_SHARE if device.type == "cuda" else _SHARE
        spare = [ceiling.left, None if left is None else share * left]
        return cls(min((one for one in spare if one is not None), default=None), ceiling)

    def holds(self, wanted: float) -> bool:
        """Whether rows that take `wanted` bytes are fewer than is known to fail."""
        return self.size is None or wanted <= self.size

    def check(self) -> None:
        """Raise MemoryError when what has just been done went above the ceiling."""
        if self._ceiling is not None:
            self._ceiling.check()

    def recover(self) -> None:
        """Give back what a failed try left behind; before the next one."""
        if self._ceiling is not None:
            self._ceiling.recover()

    def shrink(self, wanted: float) -> None:
        """Rows that take `wanted` bytes did not fit: half of that is tried from now on."""
        if not self._shrunk:
            self._before, self._shrunk = self.size, True
        self.size = wanted / 2

    def settle(self) -> None:
        """Rows fitted: what was learnt on the way there is kept."""
        self._shrunk = False

    def forgive(self) -> None:
        """A row did not even fit alone, which says nothing about the others: forget it."""
        if self._shrunk:
            self.size, self._shrunk = self._before, False
