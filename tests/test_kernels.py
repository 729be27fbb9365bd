"""The Triton kernels against the plain code: on a GPU if there is one, else in its interpreter.

Without a GPU: `TRITON_INTERPRET=1 python -m pytest tests/test_kernels.py`; triton 3.6 interprets
with numpy below 2.4 only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from core.reduction import received, scores, split
from core.reduction.fixed import Behind, FixedTails
from core.reduction.layout import AudioColumns

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TOLERANCE = 1e-4 if DEVICE.type == "cuda" else 1e-5
TOKENS = 300

if find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)
if DEVICE.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
    # read when triton is imported, which torch may do before any test
    pytest.skip("no GPU: TRITON_INTERPRET=1 lets Triton do without", allow_module_level=True)

from core.reduction.kernels import received_attention  # noqa: E402
from core.reduction.split_kernels import attend_split  # noqa: E402

LAYOUTS = {
    "one row": AudioColumns((17,), (230,), (0,)),
    "ragged": AudioColumns((17, 151), (230, 90), (0, 40)),
    "either end": AudioColumns((0, 172), (129, 128), (0, 172)),
    "one token": AudioColumns((299, 3), (1, 1), (0, 2)),
}


@pytest.fixture(autouse=True)
def bfloat16_in_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own dot takes the bits of a bfloat16 for an integer."""
    if DEVICE.type == "cuda":
        return
    from triton import language
    from triton.runtime import interpreter

    plain = interpreter.InterpreterBuilder.create_dot

    def widened(operand: Any) -> Any:
        if operand.dtype.scalar != language.bfloat16:
            return operand
        bits = operand.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), language.float32)

    def dot(self: Any, left: Any, right: Any, *rest: Any) -> Any:
        return plain(self, widened(left), widened(right), *rest)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", dot)


def inputs(
    columns: AudioColumns, groups: int, width: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Query and key as a projection leaves them, heads behind tokens, and a log-sum-exp."""
    draw = torch.Generator().manual_seed(0)
    rows, heads = len(columns.start), 2 * groups
    query = 2 * torch.randn(rows, TOKENS, heads, width, generator=draw)
    key = torch.randn(rows, TOKENS, heads // groups, width, generator=draw)
    query, key = (at.to(DEVICE, dtype).transpose(1, 2) for at in (query, key))
    visible = torch.ones(TOKENS, TOKENS, dtype=torch.bool, device=DEVICE).tril()
    scores = query.float() @ key.repeat_interleave(groups, 1).float().transpose(-1, -2)
    scores = (scores * width**-0.5).masked_fill(~visible, -torch.inf)
    return query, key, scores.logsumexp(-1)


@pytest.mark.parametrize("biased", [False, True], ids=["", "biased"])
@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize(
    ("layout", "groups", "width", "dtype"),
    [
        ("one row", 1, 16, torch.float32),
        ("ragged", 2, 24, torch.float32),
        ("either end", 1, 8, torch.float32),
        ("one token", 2, 16, torch.float32),
        ("ragged", 2, 24, torch.bfloat16),
        ("either end", 3, 64, torch.float16),
    ],
)
def test_the_kernel_equals_the_plain_code(
    layout: str, groups: int, width: int, dtype: torch.dtype, every: int, biased: bool
) -> None:
    columns = LAYOUTS[layout]
    query, key, lse = inputs(columns, groups, width, dtype)
    bias = None
    if biased:
        bias = torch.arange(TOKENS, device=DEVICE).remainder(5).add(1).log()
        bias = bias.expand(len(query), -1)
    seen = (query, key, lse, columns, bias, width**-0.5, every)
    found, expected = received_attention(*seen), scores.received_attention(*seen)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=TOLERANCE)
    for row, length in enumerate(columns.length):
        assert not found[row, :, length:].any()


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("spread", [1, 3, 40])
def test_the_kernel_takes_some_columns(every: int, spread: int) -> None:
    columns = AudioColumns((17, 151), (230, 90), (0, 40), (((100, 20),), ()))
    query, key, lse = inputs(columns, 2, 16, torch.float32)
    place = columns.places(range(columns.width), DEVICE)[:, ::spread]
    real = torch.arange(0, columns.width, spread) < torch.tensor(columns.length).unsqueeze(1)
    place = place.masked_fill(~real.to(DEVICE), TOKENS)
    seen = (query, key, lse, columns, None, 0.25, every, place)
    found, expected = received_attention(*seen), scores.received_attention(*seen)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert found[0].all()
    whole = received_attention(*seen[:-1], None)[..., ::spread]
    torch.testing.assert_close(found, whole, atol=TOLERANCE, rtol=TOLERANCE)


def test_the_kernel_passes_its_check(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    received._fastest.cache_clear()
    monkeypatch.setattr(received, "_KERNEL_DEVICES", (DEVICE.type,))
    chosen = received._fastest(DEVICE, torch.float32, 16, True)
    assert chosen is received_attention and not caplog.messages
    received._fastest.cache_clear()


@pytest.mark.parametrize("biased", [False, True], ids=["", "biased"])
@pytest.mark.parametrize(
    ("rows", "kv_heads", "groups", "beams", "width", "steps", "dtype"),
    [
        (1, 2, 1, 1, 16, 3, torch.float32),
        (2, 1, 3, 3, 24, 40, torch.float32),
        (3, 2, 2, 5, 16, 64, torch.float32),
        (2, 2, 4, 5, 8, 1, torch.bfloat16),
    ],
)
def test_the_split_kernel_equals_the_plain_code(
    rows: int,
    kv_heads: int,
    groups: int,
    beams: int,
    width: int,
    steps: int,
    dtype: torch.dtype,
    biased: bool,
) -> None:
    draw = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, width, generator=draw).to(DEVICE, dtype)

    tails = FixedTails(rows, beams, DEVICE)
    for _ in range(steps):
        tails.advance()
        tails.follow(torch.randint(beams, (rows, beams), generator=draw).to(DEVICE))
    size = rows, kv_heads, tails.room * beams
    behind = Behind(drawn(*size), drawn(*size), tails)
    # in buffers with room to spare, as a prefill leaves them
    key, value = (drawn(rows, kv_heads, 320)[:, :, :TOKENS] for _ in range(2))
    bias = None
    if biased:
        bias = torch.arange(TOKENS, device=DEVICE).remainder(5).add(1).log().to(dtype)
        bias = bias.expand(rows, 1, 1, -1).clone()
        bias[-1, ..., :200] = -torch.inf
    seen = drawn(rows * beams, kv_heads * groups, 1), key, value, bias, behind, width**-0.5
    found, expected = attend_split(*seen), split.attend_split(*seen)
    assert found.dtype == dtype
    limit = TOLERANCE if dtype == torch.float32 else 0.02
    torch.testing.assert_close(found, expected, atol=limit, rtol=limit)


def test_the_split_kernel_passes_its_check(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    split._fastest.cache_clear()
    monkeypatch.setattr(split, "_DEVICES", (DEVICE.type,))
    assert split._fastest(DEVICE, torch.float32, 16) is attend_split and not caplog.messages
    split._fastest.cache_clear()


# the interpreter accepts what the compiler does not
@pytest.mark.parametrize("name", ["received", "split"])
@pytest.mark.parametrize(("dtype", "biased"), [("bf16", True), ("fp32", False)])
def test_a_kernel_compiles_for_gpus_that_are_not_here(name: str, dtype: str, biased: bool) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    call = [sys.executable, "-m", "tests.kernel_build", name, dtype, str(int(biased)), "80", "90"]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for built in done.stdout.splitlines():
        assert ("mma" in built) == (dtype == "bf16"), "matrix units where there are some"
    assert len(done.stdout.splitlines()) == 2
