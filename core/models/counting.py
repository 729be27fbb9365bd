"""FLOPs of whatever encoder a family has, counted while it runs.

Encoders differ too much for one formula, and their shapes are known only as they run. What is
watched are torch's functions, not its kernels: a dispatch mode would take operators apart and
change their rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_NAMES = ("matmul", "bmm", "mm", "mv", "inner")
_PRODUCTS = frozenset(
    [getattr(one, name) for one in (torch, Tensor) for name in _NAMES] + [Tensor.__matmul__]
)
_SUMS = frozenset(getattr(one, name) for one in (torch, Tensor) for name in ("addmm", "baddbmm"))
_CONVOLUTIONS = frozenset(getattr(torch, f"conv{n}d") for n in (1, 2, 3))
_WIDENING = frozenset(getattr(torch, f"conv_transpose{n}d") for n in (1, 2, 3))


class Counting(TorchFunctionMode):
    """Counts matrix products, convolutions and fused attention, 2 FLOPs per multiply-add.

    Attributes:
        flops: so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run it, and add what it took."""
        out = func(*args, **(kwargs or {}))
        if func is functional.linear:
            self.flops += 2 * out.numel() * args[0].shape[-1]
        elif func in _CONVOLUTIONS:
            self.flops += 2 * out.numel() * args[1][0].numel()
        elif func in _WIDENING:
            self.flops += 2 * args[0].numel() * args[1][0].numel()
        elif func in _PRODUCTS:
            self.flops += 2 * out.numel() * args[0].shape[-1]
        elif func in _SUMS:
            self.flops += 2 * out.numel() * args[1].shape[-1]
        elif func is torch.einsum:
            self.flops += _einsum(*args)
        elif func is functional.scaled_dot_product_attention:
            query, key, value = args[:3]
            pairs = query[..., 0].numel() * key.shape[-2]
            self.flops += 2 * pairs * (query.shape[-1] + value.shape[-1])
        elif func is functional.multi_head_attention_forward:
            self.flops += _whole_attention(*args[:2])
        return out


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """A total in parts by weight, which add up to it."""
    ends = [total * end // max(1, sum(weights)) for end in accumulate(weights)]
    return [end - begin for begin, end in pairwise([0, *ends[:-1], total])]


def _whole_attention(query: Tensor, key: Tensor) -> int:
    """Projections in and out, scores and mixture; inputs (tokens, rows, width)."""
    (queries, rows, width), keys = query.shape, len(key)
    projections = 2 * (queries + keys) * width * width
    return 2 * rows * (projections + 2 * queries * keys * width)


def _einsum(equation: str, *operands: Tensor) -> int:
    """Two FLOPs for every combination of all indices."""
    indices = equation.replace(" ", "").partition("->")[0].split(",")
    pairs = zip(indices, operands, strict=True)
    sizes = {index: n for names, one in pairs for index, n in zip(names, one.shape, strict=True)}
    return 2 * math.prod(sizes.values())
