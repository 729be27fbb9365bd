"""How fast this machine can multiply and move at all: what a time is a share of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...engine.cost import Clock

_ROUNDS = 7
_SIDE = {"cpu": 2048, "cuda": 8192}
_MEBIBYTES = {"cpu": 256, "cuda": 2048}


@dataclass(frozen=True, slots=True)
class Limits:
    """The best of a few tries: a limit is what was possible once.

    Attributes:
        flops: of a square matrix product, per second.
        bandwidth: bytes read and written per second by a copy.
    """

    flops: float
    bandwidth: float


def measure_limits(device: torch.device, dtype: torch.dtype) -> Limits:
    """Race a large matrix product and a large copy."""
    side = _SIDE.get(device.type, _SIDE["cpu"])
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    out = torch.empty_like(matrix)
    product = _best(device, lambda: torch.mm(matrix, matrix, out=out))
    size = _MEBIBYTES.get(device.type, _MEBIBYTES["cpu"]) * 2**20
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    copy = _best(device, lambda: target.copy_(source))
    return Limits(2 * side**3 / product, 2 * size / copy)


def _best(device: torch.device, work: Callable[[], object]) -> float:
    work()
    clock = Clock(device)
    times = []
    for _ in range(_ROUNDS):
        clock.lap()
        work()
        times.append(clock.lap())
    return min(times)
