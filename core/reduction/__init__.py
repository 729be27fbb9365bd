"""Reduction of audio tokens inside a decoder: the only room that touches a model."""

from __future__ import annotations

from .attach import why_not
from .cache import PromptCache, ReducedCache, Reduction, Threshold
from .evicting import EvictedCache, Eviction, prompt_cache
from .forking import ForkedCache, fork
from .layers import reducing
from .observed import Observed
from .passes import read, read_prompts
from .proving import give_up, given_up
from .split import splits

__all__ = [
    "EvictedCache",
    "Eviction",
    "ForkedCache",
    "Observed",
    "PromptCache",
    "ReducedCache",
    "Reduction",
    "Threshold",
    "fork",
    "give_up",
    "given_up",
    "prompt_cache",
    "read",
    "read_prompts",
    "reducing",
    "splits",
    "why_not",
]
