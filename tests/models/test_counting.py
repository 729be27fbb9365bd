"""The FLOPs of an encoder as torch's functions are called, against those of its operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from core.models.counting import Counting, shares
from tests.counted import counted_prefill_flops

A, B = torch.randn(3, 5, 7), torch.randn(3, 7, 4)
SOUND, IMAGE = torch.randn(2, 6, 11), torch.randn(2, 6, 11, 9)
HEADS = torch.randn(2, 4, 10, 8)


@pytest.mark.parametrize(
    "work",
    [
        lambda: A @ B,
        lambda: torch.matmul(A, B),
        lambda: A.matmul(B),
        lambda: torch.bmm(A, B),
        lambda: A[0].mm(B[0]),
        lambda: torch.mm(A[0], B[0]),
        lambda: torch.addmm(torch.zeros(4), A[0], B[0]),
        lambda: torch.zeros(5, 4).addmm(A[0], B[0]),
        lambda: torch.baddbmm(torch.zeros(1), A, B),
        lambda: torch.einsum("bij,bjk->bik", A, B),
        lambda: functional.linear(A, torch.randn(9, 7), torch.randn(9)),
        lambda: functional.conv1d(SOUND, torch.randn(8, 3, 3), stride=2, groups=2),
        lambda: functional.conv2d(IMAGE, torch.randn(8, 6, 3, 3), padding=1),
        lambda: functional.conv_transpose1d(SOUND, torch.randn(6, 8, 4), stride=2),
        lambda: functional.conv_transpose2d(IMAGE, torch.randn(6, 8, 4, 2)),
        lambda: functional.scaled_dot_product_attention(HEADS, HEADS, HEADS),
        lambda: torch.nn.MultiheadAttention(8, 2).eval()(SOUND[..., :8], *[SOUND[..., :8]] * 2),
        lambda: torch.nn.Conv1d(6, 8, 3)(SOUND),
    ],
)
@torch.no_grad()
def test_a_function_counts_what_its_operators_do(work: Callable[[], Any]) -> None:
    with Counting() as found:
        work()
    assert found.flops == counted_prefill_flops(work) > 0


def test_a_total_is_shared_by_weight_and_none_of_it_is_lost() -> None:
    assert shares(100, [1, 2, 1]) == [25, 50, 25]
    assert sum(shares(101, [3, 7, 5])) == 101
    assert shares(10, [0, 5]) == [0, 10]
    assert sum(shares(10, [0, 0])) == 10
