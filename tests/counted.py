"""FLOPs as counted while the code runs, to hold the analytic cost model against.

Convention: 2 FLOPs for each multiply-add of a matrix product; attention is counted full-square
(causal or not, every query times every key) with one score and one mix for each query head, also
where several of them share a key head. Norms, rotations, softmax and lookups are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

aten = torch.ops.aten


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Shapes [B, H, q, h], [B, Hkv, k, h] and [B, Hkv, k, v] -> scores plus mix."""
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[2] * (width + value[3])


# torch counts a fused operator that it has no formula for as nothing at all
FUSED = {
    getattr(aten, name): _attention_flops
    for name in (
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_fused_attention_overrideable",
        "_scaled_dot_product_attention_math_for_mps",
    )
}


def counted_prefill_flops(fn: Callable[[], Any]) -> int:
    """Run `fn` once and count. What it computes is what is counted: if its head runs at all
    positions, so does the count.
    """
    with _NoUncountedAttention(), FlopCounterMode(display=False, custom_mapping=FUSED) as counter:
        fn()
    return counter.get_total_flops()


class _NoUncountedAttention(TorchDispatchMode):
    """Refuses an attention operator without a formula: it would pass for free."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func._overloadpacket
        if "attention" in packet.__name__ and not (packet in FUSED or packet in flop_registry):
            raise NotImplementedError(f"no FLOP formula for {func}")
        return func(*args, **(kwargs or {}))
