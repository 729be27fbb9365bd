"""A prompt-aware LoRA folded into plain matrices: what a gate means, without the code for it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


def folded(model: Any, gate: Tensor) -> Any:
    """A copy of a WavLLM whose decoder has plain projections, right for this gate (hidden,) only.

    W x + (x A B) * gate is one matrix; the gate of a channel is that of the published order, in
    which the two channels that are rotated together are neighbours.
    """
    made = copy.deepcopy(model)
    for layer in made.get_decoder().layers:
        attention = layer.self_attn
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            adapted = getattr(attention, name)
            order = list(range(len(gate)))
            if name in ("q_proj", "k_proj"):
                order = [published(channel, attention.head_dim) for channel in order]
            product = adapted.lora_A.double() @ adapted.lora_B.double() * gate.double()[order]
            plain = nn.Linear(*adapted.weight.shape[::-1], bias=False, dtype=torch.float64)
            plain.weight = nn.Parameter(adapted.weight.double() + product.T, requires_grad=False)
            setattr(attention, name, plain)
    return made


def published(channel: int, head_size: int) -> int:
    """Where the published code has a channel that transformers has here."""
    head, within = divmod(channel, head_size)
    second, pair = divmod(within, head_size // 2)
    return head * head_size + 2 * pair + second
