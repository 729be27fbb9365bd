"""Reduction of audio tokens inside a decoder: the only room that touches a model."""

from __future__ import annotations

from .attach import why_not
from .cache import PromptCache, ReducedCache, Reduction, Threshold
from .evicting import EvictedCache, Eviction, prompt_cache
from .layers import reducing
from .split import splits

__all__ = [
    "EvictedCache",
    "Eviction",
    "PromptCache",
    "ReducedCache",
    "Reduction",
    "Threshold",
    "prompt_cache",
    "reducing",
    "splits",
    "why_not",
]
