"""Which code sums received attention: a kernel only where it agrees with the plain code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from core.reduction import received, scores
from core.reduction.layout import AudioColumns

COLUMNS = AudioColumns((2, 5), (6, 4), (0, 3))


class Kernel:
    """Stands in for the kernel; does what the plain code does and then what it is told."""

    def __init__(self, spoil: Any = lambda total: total) -> None:
        self.spoil, self.calls = spoil, 0

    def __call__(self, *seen: Any) -> Tensor:
        self.calls += 1
        return self.spoil(scores.received_attention(*seen))


def refuse(_: Tensor) -> Tensor:
    raise RuntimeError("no C compiler found\nsecond line")


def exhaust(_: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("out of memory")


def leave_out_the_last(total: Tensor) -> Tensor:
    total[0, 0, -1] = 0
    return total


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`use(kernel)`: from here on the CPU is a device with that kernel."""

    def put(kernel: Any) -> Any:
        monkeypatch.setattr(received, "_kernel", lambda: kernel)
        monkeypatch.setattr(received, "_KERNEL_DEVICES", ("cpu",))
        return kernel

    forget()
    yield put
    forget()


def forget() -> None:
    received._fastest.cache_clear()


def ask(biased: bool = False, every: int = 1) -> None:
    """Compare with the plain code, bit by bit."""
    draw = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 2, 12, 8, generator=draw), torch.randn(2, 1, 12, 8, generator=draw)
    bias = torch.rand(2, 12, generator=draw) if biased else None
    seen = (query, key, torch.full((2, 2, 12), 3.0), COLUMNS, bias, 0.3, every)
    found = received.received_attention(*seen)
    torch.testing.assert_close(found, scores.received_attention(*seen), atol=0, rtol=0)


def test_a_kernel_that_agrees_is_tried_once_and_then_used(use: Any) -> None:
    kernel = use(Kernel())
    ask()
    tried = kernel.calls - 1
    assert tried > 0
    ask(every=4)
    assert kernel.calls == tried + 2


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (refuse, "no C compiler found;"),
        (leave_out_the_last, "its results are wrong;"),
        (lambda total: total * float("nan"), "its results are wrong;"),
    ],
)
def test_a_kernel_that_fails_leaves_the_plain_code(
    use: Any, caplog: pytest.LogCaptureFixture, spoil: Any, reason: str
) -> None:
    kernel = use(Kernel(spoil))
    for _ in range(2):
        ask()
        ask(biased=True)
    assert kernel.calls == 2, "it is tried once for each kind of input"
    (said,) = caplog.messages
    assert said.startswith("no Triton kernel on cpu in float32: ") and reason in said


def test_a_device_out_of_memory_says_nothing_about_the_kernel(
    use: Any, caplog: pytest.LogCaptureFixture
) -> None:
    kernel = use(Kernel(exhaust))
    with pytest.raises(torch.OutOfMemoryError):
        ask()
    kernel.spoil = lambda total: total
    before = kernel.calls
    ask()
    assert kernel.calls > before + 1 and not caplog.messages


def test_without_triton_the_plain_code_does_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forget()
    monkeypatch.setattr(received, "_KERNEL_DEVICES", ("cpu",))
    monkeypatch.setattr(received, "has_triton", lambda: False)
    ask()
    assert not caplog.messages
    forget()


def test_a_cpu_is_never_offered_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()
    forget()
    monkeypatch.setattr(received, "_kernel", lambda: kernel)
    ask()
    assert kernel.calls == 0
