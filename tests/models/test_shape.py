"""What a decoder's configuration says of its cost, and what it must not pass over in silence."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import StartError
from core.models.shape import check_positions, shape_of

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
}
MIXED = {
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 40,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}


def config(**more: Any) -> Any:
    from transformers import PretrainedConfig

    return PretrainedConfig(**SIZES | more)


def test_a_plain_decoder() -> None:
    shape = shape_of(config())
    assert (shape.head_dim, shape.kv_heads, shape.intermediate, shape.experts) == (16, 2, 96, 0)
    assert shape_of(config(head_dim=32)).head_dim == 32


@pytest.mark.parametrize("name", ["num_experts", "num_local_experts"])
def test_a_token_pays_for_the_experts_it_visits_and_for_choosing_them(name: str) -> None:
    shape = shape_of(config(**MIXED, **{name: 8}))
    assert (shape.intermediate, shape.experts) == (80, 8)
    assert shape.mlp == 2 * 64 * (3 * 80 + 8)


def test_layers_without_experts_count_as_they_are() -> None:
    shape = shape_of(config(**MIXED | {"mlp_only_layers": [0]}, num_experts=8))
    assert (shape.intermediate, shape.experts) == (84, 6)  # three layers of 80 and 8, one of 96
    every_other = shape_of(config(**MIXED | {"decoder_sparse_step": 2}, num_experts=8))
    assert (every_other.intermediate, every_other.experts) == (88, 4)


def test_positions_by_another_name_are_missed(caplog: pytest.LogCaptureFixture) -> None:
    check_positions("some/model", config(max_position_embeddings=4096))
    assert not caplog.records
    check_positions("some/model", config(max_positions=4096))
    assert "some/model does not say how many positions" in caplog.text


@pytest.mark.parametrize(
    "odd", [{"n_routed_experts": 8}, {"num_experts": 8, "num_shared_experts": 1}, {}]
)
def test_experts_by_another_name_are_refused(odd: dict[str, int]) -> None:
    with pytest.raises(StartError, match=r"experts is not known \(.*; install a version of trans"):
        shape_of(config(**MIXED, **odd))
