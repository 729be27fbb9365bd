"""The engine room: batches of segments in, text and measured cost out."""

from __future__ import annotations

from .engine import Engine

__all__ = ["Engine"]
