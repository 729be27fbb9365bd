"""Received attention by a Triton kernel where one proves right, else by plain torch.

Knows which of the two to call. A kernel is believed once it has agreed with the plain code on a
small input on the device where it is to run; without triton, or when it fails, the plain code
stays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from ..flops import SAMPLE_EVERY
from . import scores
from .layout import AudioColumns
from .proving import has_triton, proven

Pass = Callable[..., Tensor]

_KERNEL_DEVICES = ("cuda",)
_TOLERANCE = 1e-2  # the plain code may be set to TF32
_TOKENS = 300  # more than a block of columns, and of queries behind it


def received_attention(  # noqa: PLR0913
    query: Tensor,
    key: Tensor,
    lse: Tensor,
    columns: AudioColumns,
    bias: Tensor | None,
    scale: float,
    every: int = 1,
    place: Tensor | None = None,
) -> Tensor:
    """`scores.received_attention` by the fastest code."""
    chosen = scores.received_attention
    if query.device.type in _KERNEL_DEVICES:
        chosen = _fastest(query.device, query.dtype, query.shape[-1], bias is not None)
    return chosen(query, key, lse, columns, bias, scale, every, place)


@cache
def _fastest(device: torch.device, dtype: torch.dtype, head_dim: int, biased: bool) -> Pass:
    """The kernel, or the plain code if the kernel does not agree with it."""
    return proven(
        _kernel,
        lambda kernel: _agrees(kernel, device, dtype, head_dim, biased),
        scores.received_attention,
        f"no Triton kernel on {device} in {str(dtype).removeprefix('torch.')}: {{reason}};"
        " received attention takes the slower plain code",
    )


def _kernel() -> Pass | None:
    """The kernel, None where triton is not installed."""
    if not has_triton():
        return None
    from .kernels import received_attention as kernel

    return kernel


def _agrees(
    kernel: Pass, device: torch.device, dtype: torch.dtype, head_dim: int, biased: bool
) -> bool:
    """Whether the kernel equals the plain code on two rows that differ."""
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(2, 2, _TOKENS, head_dim, generator=draw).to(device, dtype)
    key = torch.randn(2, 1, _TOKENS, head_dim, generator=draw).to(device, dtype)
    lse = 5 + torch.rand(2, 2, _TOKENS, generator=draw).to(device)
    bias = torch.rand(2, _TOKENS, generator=draw).to(device) if biased else None
    columns = AudioColumns(start=(7, 61), length=(250, 200), pad=(0, 50))
    some = columns.places(range(columns.width), device)
    some = some.masked_fill(columns.padding(device), _TOKENS)[:, ::3]
    for every, place in ((1, None), (SAMPLE_EVERY, None), (1, some)):
        seen = (query, key, lse, columns, bias, head_dim**-0.5, every, place)
        expected = scores.received_attention(*seen)
        if not torch.allclose(kernel(*seen), expected, rtol=_TOLERANCE, atol=0):
            return False
    return True
