"""Where a module computes, also when accelerate has spread a model over devices. Torch only."""

from __future__ import annotations

from typing import Any

import torch


def spread(module: Any) -> bool:
    """Whether accelerate brings what this module needs to its device."""
    return getattr(module, "_hf_hook", None) is not None


def home(module: Any) -> torch.device:
    """The device of a module's weights, or the one that they are brought to when it runs."""
    where = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
    device: torch.device = next(module.parameters()).device
    return device if where is None else torch.device(where)
