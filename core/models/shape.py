"""Sizes of a decoder for the cost model: out of its configuration, held against its weights."""

from __future__ import annotations

import logging
from typing import Any

from ..errors import StartError
from ..flops import DecoderShape

_log = logging.getLogger(__name__)
_TOTAL = ("num_experts", "num_local_experts")
_VISITED = "num_experts_per_tok"
_WITHIN = 0.01


def shape_of(config: Any) -> DecoderShape:
    """What the configuration of a decoder says of its sizes.

    Raises:
        StartError: it has experts of a kind whose cost is not known.
    """
    heads = config.num_attention_heads
    intermediate, experts = _mlp(config)
    return DecoderShape(
        hidden=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        intermediate=intermediate,
        vocab=config.vocab_size,
        experts=experts,
    )


def _mlp(config: Any) -> tuple[int, int]:
    """Width of the MLP that a token goes through, all the experts it visits together, and how many
    experts it chooses from; the mean, where layers with and without experts take turns."""
    said = {name: value for name, value in config.to_dict().items() if "expert" in name and value}
    odd = [name for name in said if name not in (*_TOTAL, _VISITED) and not name.startswith("_")]
    total = max((said[name] for name in _TOTAL if name in said), default=0)
    if odd or bool(total) != (_VISITED in said):
        raise StartError(
            f"the cost of {config.model_type}'s experts is not known ({', '.join(said)});"
            " install a version of transformers that fastadasp asks for, see fastadasp doctor"
        )
    if not total:
        return int(config.intermediate_size), 0
    every, dense = config.decoder_sparse_step, config.mlp_only_layers or ()
    layers = range(config.num_hidden_layers)
    with_experts = [layer not in dense and (layer + 1) % every == 0 for layer in layers]
    share = sum(with_experts) / len(with_experts)
    visited = said[_VISITED] * config.moe_intermediate_size
    wide = share * visited + (1 - share) * config.intermediate_size
    return round(wide), round(share * total)


def check_positions(name: str, config: Any) -> None:
    """Say so in one line where a decoder does not tell how many positions it was trained on."""
    if getattr(config, "max_position_embeddings", None) is None:
        _log.warning(
            "%s does not say how many positions its decoder was trained on: prompts beyond them"
            " will not be noticed",
            name,
        )


def check_weights(name: str, shape: DecoderShape, layers: Any) -> None:
    """Say so in one line where the layers hold other weights than the cost model counts.

    Args:
        name: of the model.
        shape: what is counted; one with experts is believed, for a token visits few of them.
        layers: the decoder's, not quantized.
    """
    counted = shape.layers * (shape.attention_linear + shape.mlp) // 2
    held = sum(
        one.numel()
        for one_name, one in layers.named_parameters()
        if one.dim() > 1 and "lora" not in one_name.lower()
    )
    if not shape.experts and abs(held / counted - 1) > _WITHIN:
        _log.warning(
            "the decoder of %s holds %d weights and its cost is counted by %d: FLOPs in records"
            " are not its own",
            name,
            held,
            counted,
        )
