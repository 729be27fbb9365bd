"""Which operator attends on CUDA: a fused one only where it agrees with the plain code."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from core.reduction import attention

CPU = torch.device("cpu")
Spoil = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Operator:
    """Stands in for the memory-efficient operator: as strict, and its log-sum-exp as long."""

    def __init__(self, spoil: Spoil = lambda out, lse: (out, lse), masked: bool = True) -> None:
        self.spoil, self.masked = spoil, masked
        self.held: list[int] = []

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        compute_log_sumexp: bool,
        dropout_p: float,
        is_causal: bool,
        *,
        scale: float,
    ) -> tuple[Tensor, ...]:
        assert compute_log_sumexp and dropout_p == 0
        assert is_causal == (bias is None)
        scores = (query @ key.transpose(-1, -2)).float() * scale
        if bias is None:
            future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(future, -torch.inf)
        else:
            assert bias.shape == scores.shape and bias.dtype == query.dtype
            assert bias.stride(-1) == 1
            assert all(stride % 16 == 0 for stride in bias.stride()[:-1])
            self.held.append(bias.untyped_storage().nbytes() // bias.itemsize)
            scores = scores + bias if self.masked else scores
        lse = scores.logsumexp(-1)
        out = (scores - lse.unsqueeze(-1)).exp().to(value.dtype) @ value
        out, lse = self.spoil(out, lse)
        room = math.ceil(lse.shape[-1] / 32) * 32 - lse.shape[-1]
        seed = torch.zeros((), dtype=torch.long)
        return out, torch.nn.functional.pad(lse, (0, room), value=torch.nan), seed, seed


class Operators:
    """Stands in for `torch.ops.aten`."""

    def __init__(self, efficient: Any) -> None:
        self._scaled_dot_product_efficient_attention = efficient


def refuse(out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
    raise RuntimeError("no kernel for this device\nsecond line")


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Operator], None]]:
    """`use(operator)`: from here on it is the one that torch has."""

    def put(operator: Operator) -> None:
        monkeypatch.setattr(attention, "aten", Operators(operator))

    forget()
    yield put
    forget()


def forget() -> None:
    attention._fastest.cache_clear()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_operator_that_agrees_is_used(
    use: Any, caplog: pytest.LogCaptureFixture, dtype: torch.dtype, masked: bool
) -> None:
    use(Operator())
    assert attention._agrees(attention._attend_efficiently, CPU, dtype, 16, masked)
    if masked or dtype == torch.float32:
        assert attention._fastest(CPU, dtype, 16, masked) is attention._attend_efficiently
    assert not caplog.messages


@pytest.mark.parametrize(
    ("operator", "reason"),
    [
        (Operator(refuse), "no kernel for this device;"),
        (Operator(masked=False), "its results are wrong;"),
        (Operator(lambda out, lse: (out, lse / math.log(2))), "its results are wrong;"),
        (Operator(lambda out, lse: (out * torch.nan, lse)), "its results are wrong;"),
        (Operator(lambda out, lse: (out, lse[..., :-1])), "its results are wrong;"),
    ],
)
def test_an_operator_that_fails_leaves_the_plain_code(
    use: Any, caplog: pytest.LogCaptureFixture, operator: Operator, reason: str
) -> None:
    use(operator)
    for _ in range(2):
        assert attention._fastest(CPU, torch.float32, 16, True) is attention._attend_in_chunks
    (said,) = caplog.messages
    assert said.startswith("no fused attention with a mask on cpu in float32: ") and reason in said


def test_16_bits_without_a_mask_go_by_flash(use: Any) -> None:
    use(Operator())
    fused: list[str] = []

    def flash(query: Tensor, key: Tensor, value: Tensor, *rest: Any, scale: float) -> Any:
        assert rest == (0.0, True, False)
        fused.append("flash")
        return (*attention._attend_in_chunks(query, key, value, None, scale), None, None)

    attention.aten._scaled_dot_product_flash_attention = flash
    assert attention._fastest(CPU, torch.bfloat16, 16, False) is attention._attend_by_flash
    assert fused == ["flash"]


@pytest.mark.parametrize("boolean", [False, True])
@pytest.mark.parametrize("keys", [48, 77])
def test_a_mask_is_laid_out_as_the_operator_reads_it(use: Any, keys: int, boolean: bool) -> None:
    operator = Operator()
    use(operator)
    draw = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, keys, 8, generator=draw)
    # a row that sees itself alone, as padding does
    seen = torch.ones(keys, keys, dtype=torch.bool).tril().expand(2, 1, -1, -1).clone()
    seen[1, :, 5:30] = torch.eye(keys, dtype=torch.bool)[5:30]
    mask = seen if boolean else torch.where(seen, torch.rand(keys, generator=draw), -torch.inf)
    out, lse = attention._attend_efficiently(query, key, value, mask, 0.3)
    same, norm = attention._attend_in_chunks(query, key, value, mask, 0.3)
    torch.testing.assert_close(out, same)
    torch.testing.assert_close(lse, norm)
    assert out.isfinite().all()
    rows = math.ceil(keys / 16) * 16
    assert operator.held == [2 * keys * rows], "heads share it"


def test_torch_has_an_operator_that_is_called_so() -> None:
    query, key, value = torch.empty(3, 2, 4, 77, 8, dtype=torch.bfloat16, device="meta")
    mask = torch.empty(2, 1, 77, 77, dtype=torch.bool, device="meta")
    for one in (None, mask):
        out, lse = attention._attend_efficiently(query, key, value, one, 0.3)
        assert out.shape == query.shape and out.dtype == torch.bfloat16
        assert lse.shape == (2, 4, 77) and lse.dtype == torch.float32
