"""The reduction methods, one small file each. A new one is a file and a line here."""

from __future__ import annotations

from ..errors import UsageError
from .base import AudioView, Method, Signal
from .fastadasp import FastAdaSP

METHODS: dict[str, type[Method]] = {method.name: method for method in (FastAdaSP,)}

__all__ = ["METHODS", "AudioView", "Method", "Signal", "get_method"]


def get_method(name: str) -> Method:
    """The method of that name.

    Raises:
        UsageError: no such method; the message lists the choices.
    """
    if name not in METHODS:
        raise UsageError(f"unknown method '{name}'; choose one of {', '.join(sorted(METHODS))}")
    return METHODS[name]()
