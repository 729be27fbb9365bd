"""The count against formulas by hand. Shapes: n tokens, H query heads and Hkv key heads of size h,
hidden size d, MLP size f, vocabulary V.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.counted import FUSED, counted_prefill_flops


def formula(model: Any, n: int, head_positions: int) -> int:
    config = model.config.text_config
    d, f = config.hidden_size, config.intermediate_size
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    h = d // heads
    projections = 2 * n * d * (heads + 2 * key_heads) * h + 2 * n * heads * h * d
    attention = 4 * n * n * heads * h
    mlp = 6 * n * d * f
    layers = config.num_hidden_layers * (projections + attention + mlp)
    return layers + 2 * head_positions * d * config.vocab_size


def is_counted(counted: int, model: Any, rows: int, n: int, head_positions: int) -> None:
    """As the formula, or with the angles: older transformers make them by a matrix product."""
    config = model.config.text_config
    expected = rows * formula(model, n, head_positions)
    angles = n * config.hidden_size // config.num_attention_heads
    assert counted in (expected, expected + angles)


@pytest.fixture(params=["sdpa", "eager"])
def any_attention(request, tiny_model):
    tiny_model.set_attn_implementation(request.param)
    yield tiny_model
    tiny_model.set_attn_implementation("sdpa")


@pytest.mark.parametrize("no_gradients", [torch.no_grad, torch.inference_mode])
def test_plain_forward_with_the_head_at_all_positions(any_attention, prompt_batch, no_gradients):
    embeds, _ = prompt_batch(any_attention, [20]).row(0)
    n = len(embeds)
    with no_gradients():
        counted = counted_prefill_flops(lambda: any_attention(inputs_embeds=embeds[None]))
    # Qwen2-Audio's own forward runs its head everywhere
    is_counted(counted, any_attention, 1, n, head_positions=n)


def test_plain_forward_with_the_head_at_the_last_position_only(tiny_model, prompt_batch):
    embeds, _ = prompt_batch(tiny_model, [20]).row(0)

    def last_logits() -> torch.Tensor:
        states = tiny_model.get_decoder()(inputs_embeds=embeds[None]).last_hidden_state
        return tiny_model.lm_head(states[:, -1:])

    counted = counted_prefill_flops(last_logits)
    is_counted(counted, tiny_model, 1, len(embeds), head_positions=1)


def test_padding_is_counted_like_tokens(tiny_model, prompt_batch):
    batch = prompt_batch(tiny_model, [20, 5])
    n = batch.input_ids.shape[1]
    counted = counted_prefill_flops(
        lambda: tiny_model(inputs_embeds=batch.inputs_embeds, attention_mask=batch.attention_mask)
    )
    is_counted(counted, tiny_model, 2, n, head_positions=n)


@pytest.mark.parametrize("backend", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_with_shared_key_heads(causal, backend):
    query, key = torch.randn(3, 4, 7, 16), torch.randn(3, 2, 7, 16)
    with sdpa_kernel(backend):
        counted = counted_prefill_flops(
            lambda: F.scaled_dot_product_attention(
                query, key, key, is_causal=causal, enable_gqa=True
            )
        )
    # scores and mix, 2 FLOPs each, for 3 rows, 4 query heads, 7 x 7 pairs, 16 channels
    assert counted == 2 * 2 * 3 * 4 * 7 * 7 * 16


def test_an_attention_operator_without_a_formula_is_refused(monkeypatch):
    query = torch.randn(1, 2, 3, 8)
    monkeypatch.delitem(FUSED, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu)
    with pytest.raises(NotImplementedError, match="flash_attention_for_cpu"):
        counted_prefill_flops(lambda: F.scaled_dot_product_attention(query, query, query))
