"""Reduction of audio tokens inside a decoder: the only room that touches a model."""

from __future__ import annotations

from .cache import ReducedCache, Reduction
from .layers import reducing

__all__ = ["ReducedCache", "Reduction", "reducing"]
