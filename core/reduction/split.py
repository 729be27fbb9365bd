"""Attention of new tokens over a prompt and what stands behind it, which are apart in memory.

By a Triton kernel that has proved right on its device. Without one there is no reason to hold the
two apart: `split_by` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from .decoding import SPLIT, Taken, attend_shared
from .fixed import Behind, FixedTails
from .growing import GrowingLayer
from .proving import has_triton, proven

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None, Behind, float], Tensor]

_DEVICES = ("cuda",)
_TOLERANCE = {torch.float32: 1e-2}  # the plain code may be set to TF32
_ROUGH_TOLERANCE = 0.05


def splits(layers: Sequence[GrowingLayer]) -> bool:
    """Whether the layers of a cache are on one device that has a kernel for them."""
    found = {(layer.device, layer.dtype, layer.filled[0].shape[-1]) for layer in layers}
    if len(found) != 1:
        return False
    ((device, dtype, head_dim),) = found
    return device.type in _DEVICES and _fastest(device, dtype, head_dim) is not attend_split


def split_attention(  # noqa: PLR0913
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    *,
    behind: Behind,
    taken: Taken,
    **__: Any,
) -> tuple[Tensor, None]:
    """Attention backend of a decode step, in the form transformers calls it; see `attend_split`."""
    taken.by = SPLIT
    width = query.shape[-1]
    attend = _fastest(query.device, query.dtype, width)
    scale = width**-0.5 if scaling is None else scaling
    return attend(query, key, value, attention_mask, behind, scale), None


def attend_split(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, behind: Behind, scale: float
) -> Tensor:
    """What the kernel does, in plain torch.

    Args:
        query: (rows * beams, heads, 1, head_dim).
        key, value: of the prompt, (rows, kv_heads, width, head_dim).
        bias: added to the scores of the prompt, (rows, 1, 1, width); None adds nothing.
        behind: generated tokens.
        scale: factor on the scores.

    Returns:
        (rows * beams, 1, heads, head_dim).
    """
    keys, values = torch.cat([key, behind.keys], 2), torch.cat([value, behind.values], 2)
    seen = behind.tails.seen.unsqueeze(1)
    shown = query.new_zeros(seen.shape).masked_fill_(~seen, -torch.inf)
    if bias is None:
        bias = query.new_zeros(1, 1, 1, key.shape[2])
    prompt = bias.expand(len(key), 1, shown.shape[2], -1)
    mask = torch.cat([prompt, shown], -1)
    return attend_shared(query, keys, values, mask, scale)


@cache
def _fastest(device: torch.device, dtype: torch.dtype, head_dim: int) -> Attend:
    """The kernel, or `attend_split` if the kernel does not agree with it."""
    plain: Attend = attend_split
    return proven(
        _kernel,
        lambda kernel: _agrees(kernel, device, dtype, head_dim),
        plain,
        f"no Triton kernel on {device} in {str(dtype).removeprefix('torch.')}: {{reason}};"
        " decoding takes the slower plain code",
    )


def _kernel() -> Attend | None:
    """The kernel, None where triton is not installed."""
    if not has_triton():
        return None
    from .split_kernels import attend_split as kernel

    return kernel


def _agrees(kernel: Attend, device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether the kernel equals the plain code, with one beam and with several."""
    draw = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, head_dim, generator=draw).to(device, dtype)

    key, value = drawn(2, 2, 700), drawn(2, 2, 700)
    bias = torch.rand(2, 1, 1, 700, generator=draw).to(device, dtype)
    bias[1, ..., :300] = -torch.inf
    limit = _TOLERANCE.get(dtype, _ROUGH_TOLERANCE)
    for beams, added in ((1, None), (3, bias)):
        tails = FixedTails(2, beams, device)
        for _ in range(3):
            tails.advance()
            tails.follow(torch.zeros(2, beams, dtype=torch.int64, device=device))
        size = 2, 2, tails.room * beams
        behind, query = Behind(drawn(*size), drawn(*size), tails), drawn(2 * beams, 4, 1)
        seen = query, key, value, added, behind, head_dim**-0.5
        gap = (kernel(*seen).float() - attend_split(*seen).float()).abs().max()
        if not gap <= limit:
            return False
    return True
