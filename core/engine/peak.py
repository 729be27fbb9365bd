"""Memory: what is held now and the most that was; None where the system does not say.

Of the device on CUDA, else of the process. Linux says all of it; macOS the most that the process
ever held; Windows nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
# writing 5 sets the high-water mark back to what is held now (Linux, proc(5))
_CLEAR_REFS = Path("/proc/self/clear_refs")


def peak_bytes(device: torch.device) -> int | None:
    """Most bytes held since the last `reset_peak` that succeeded, else since the process began."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    found = _process_bytes("VmHWM")
    return _high_water() if found is None else found


def held_bytes(device: torch.device) -> int | None:
    """Bytes held now."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return _process_bytes("VmRSS")


def reset_peak(device: torch.device) -> bool:
    """Count the peak from here on; False where the system goes on counting from the beginning.

    It does so where `/proc/self/clear_refs` cannot be written: outside Linux, and in some
    containers.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    with suppress(OSError):
        _CLEAR_REFS.write_text("5")
        return True
    return False


def added_bytes(device: torch.device, work: Callable[[], object]) -> int | None:
    """Bytes that `work` adds to what is held, at its fullest; None where no peak can be reset."""
    if not reset_peak(device):
        return None
    before = peak_bytes(device)
    work()
    after = peak_bytes(device)
    return None if before is None or after is None else after - before


def _process_bytes(name: str) -> int | None:
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return None


def _high_water() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
