from __future__ import annotations

from . import kaldi

__all__ = ["kaldi"]
