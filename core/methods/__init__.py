"""The reduction methods, one small file each. A new one is a file and a line here."""

from __future__ import annotations

from ..errors import UsageError
from . import external
from .a_tome import AToMe
from .affinity import Affinity
from .base import (
    AudioView,
    CacheMethod,
    CacheView,
    EncoderScores,
    Method,
    Received,
    Signal,
    ThresholdMethod,
)
from .fastadasp import FastAdaSP, FastAdaSPSampled
from .fastv import FastV, FastVReceived
from .h2o import H2O
from .merge_mean import MergeMean
from .random_evict import RandomEvict
from .random_merge import RandomMerge
from .sa_map import SAMap
from .streaming_llm import StreamingLLM
from .uniform import Uniform
from .ward import Ward

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        FastAdaSP,
        FastAdaSPSampled,
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

CACHE_METHODS: dict[str, type[CacheMethod]] = {
    method.name: method for method in (H2O, StreamingLLM)
}
"""Those that cut the KV cache; `core.config` has their names, for whoever must not load torch."""

__all__ = [
    "CACHE_METHODS",
    "METHODS",
    "AudioView",
    "CacheMethod",
    "CacheView",
    "EncoderScores",
    "Method",
    "Received",
    "Signal",
    "ThresholdMethod",
    "check_name",
    "get_cache_method",
    "get_method",
]


def get_method(name: str) -> Method:
    """The method of that name, or the one in a file, `path/to/file.py:Name`.

    Raises:
        UsageError: no such method; the message lists the choices.
    """
    if external.is_external(name):
        return external.load(name)
    if name not in METHODS:
        raise _unknown(name)
    return METHODS[name]()


def get_cache_method(name: str) -> CacheMethod:
    """The method of that name that cuts the KV cache.

    Raises:
        UsageError: no such method; the message lists the choices.
    """
    if name not in CACHE_METHODS:
        raise _unknown(name)
    return CACHE_METHODS[name]()


def check_name(name: str) -> None:
    """Refuse a name that is no method of either kind.

    Raises:
        UsageError: no such method; the message lists the choices.
    """
    if name not in CACHE_METHODS:
        get_method(name)


def _unknown(name: str) -> UsageError:
    choices = ", ".join(sorted([*METHODS, *CACHE_METHODS]))
    return UsageError(f"unknown method '{name}'; choose one of {choices}, or path/to/file.py:Name")
