"""Reduction of audio tokens inside a decoder: the only room that touches a model."""

from __future__ import annotations

from .attach import why_not
from .cache import PromptCache, ReducedCache, Reduction, Threshold
from .evicting import EvictedCache, Eviction, prompt_cache
from .forking import ForkedCache, fork
from .layers import reducing
from .split import splits

__all__ = [
    "EvictedCache",
    "Eviction",
    "ForkedCache",
    "PromptCache",
    "ReducedCache",
    "Reduction",
    "Threshold",
    "fork",
    "prompt_cache",
    "reducing",
    "splits",
    "why_not",
]
