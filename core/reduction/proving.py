"""Fast code is believed once it has agreed with plain code on the device where it is to run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeVar

import torch

from ..errors import first_line

Code = TypeVar("Code", bound=Callable[..., Any])


def proven(
    fast: Callable[[], Code | None], agrees: Callable[[Code], bool], plain: Code, failed: str
) -> Code:
    """Fast code if it proves right, else plain code; a failure is said once.

    Args:
        fast: finds it; None where there is none, of which nothing is said.
        agrees: runs it on a small input and compares.
        plain: what does the same anywhere.
        failed: what to say, with `{reason}` in it.

    Raises:
        torch.OutOfMemoryError: which says nothing about the code.
    """
    try:
        code = fast()
        if code is None:
            return plain
        if agrees(code):
            return code
        reason = "its results are wrong"
    except torch.OutOfMemoryError:
        raise
    # whatever a compiler or a driver may raise: the plain code needs neither
    except Exception as error:
        reason = first_line(error)
    give_up(failed.format(reason=reason))
    return plain


def give_up(text: str) -> None:
    """Say, once, that fast code is not used, and why; `given_up` goes on saying it."""
    if text not in _given_up:
        _given_up.append(text)
        logging.getLogger(__name__).warning(text)


def given_up() -> tuple[str, ...]:
    """What this process does by slower plain code, for records to tell."""
    return tuple(_given_up)


_given_up: list[str] = []


def has_triton() -> bool:
    """Whether Triton is installed."""
    return find_spec("triton") is not None
