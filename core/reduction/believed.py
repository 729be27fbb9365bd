"""Whether a fast kernel is to be used: where it is, runs, and agrees with the plain code.

A compiler, a driver or an operator that has not been tried on a device may fail there, or be wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import TypeVar

import torch

from ..errors import first_line

Kernel = TypeVar("Kernel")


def believed(
    load: Callable[[], Kernel | None], agrees: Callable[[Kernel], bool], otherwise: str
) -> Kernel | None:
    """A kernel that has proved right; None if there is none, and if it has not, with a warning.

    Args:
        load: gives the kernel, None where what it needs is not installed.
        agrees: whether its results are those of the plain code.
        otherwise: what the warning says of the kernel and its place.
    """
    try:
        kernel = load()
        if kernel is None or agrees(kernel):
            return kernel
        reason = "its results are wrong"
    except torch.OutOfMemoryError:
        raise
    # whatever a compiler or a driver may raise: the plain code needs neither
    except Exception as error:
        reason = first_line(error)
    warn(f"{otherwise}: {reason}")
    return None


def has_triton() -> bool:
    """Whether Triton is installed."""
    return find_spec("triton") is not None


@cache
def warn(text: str) -> None:
    """Say it once."""
    logging.getLogger(__name__).warning("%s", text)
