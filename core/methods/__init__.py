"""The reduction methods, one small file each. A new one is a file and a line here."""

from __future__ import annotations

from ..errors import UsageError
from . import external
from .a_tome import AToMe
from .affinity import Affinity
from .base import AudioView, EncoderScores, Method, Signal
from .fastadasp import FastAdaSP
from .fastv import FastV, FastVReceived
from .merge_mean import MergeMean
from .random_evict import RandomEvict
from .random_merge import RandomMerge
from .sa_map import SAMap
from .uniform import Uniform
from .ward import Ward

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        FastAdaSP,
        Ward,
        MergeMean,
        AToMe,
        Affinity,
        SAMap,
        FastV,
        FastVReceived,
        Uniform,
        RandomMerge,
        RandomEvict,
    )
}

__all__ = ["METHODS", "AudioView", "EncoderScores", "Method", "Signal", "get_method"]


def get_method(name: str) -> Method:
    """The method of that name, or the one in a file, `path/to/file.py:Name`.

    Raises:
        UsageError: no such method; the message lists the choices.
    """
    if external.is_external(name):
        return external.load(name)
    if name not in METHODS:
        choices = ", ".join(sorted(METHODS))
        raise UsageError(
            f"unknown method '{name}'; choose one of {choices}, or path/to/file.py:Name"
        )
    return METHODS[name]()
