"""WavLLM (Microsoft, arXiv 2404.00656): two encoders, LLaMA-2, a LoRA that listens to the prompt.

transformers has no classes for it; its configuration, model and processor are here.
"""

from __future__ import annotations

from .family import WavLLM

FAMILY = WavLLM
