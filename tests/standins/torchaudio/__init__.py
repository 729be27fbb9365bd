"""Stands in for torchaudio, which cannot be had beside every build of torch.

The two functions that feature extractors of transformers call, with the arguments that they give.
Whoever tests with it tests the family, not the numbers of torchaudio.
"""

from __future__ import annotations

from . import compliance, transforms

__version__ = "2.11.0"
__all__ = ["compliance", "transforms"]
