"""Qwen-Audio and Qwen-Audio-Chat (Chu et al., arXiv 2311.07919) as checkpoints of Qwen2-Audio.

The two have the same parts under other names: a Whisper encoder that averages pairs of frames, a
linear projector, a Qwen decoder. Queries, keys and values lie in one matrix, of `w1` and `w2` the
second goes through the SiLU. The rows that stand around a clip become those of the two tokens that
stand there. What differs in the mel frames is the affair of `core/models/qwen_audio.py`.

Beyond `seq_length` (2048) positions the original turns its rotation by a factor that grows in steps
with the prompt (dynamic NTK) and scales its queries (log-n). No configuration of transformers says
either: the converted model ends at those positions, and its family refuses what is longer.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import StartError
from . import Tell
from .checkpoint import Shards, Writer, check_names, read_json
from .qwen_audio_words import AUDIO, AUDIO_END, AUDIO_START, END, TURN_END, TURN_START, processor

_Parts = dict[str, tuple[str, ...]]

_ROWS = "transformer.audio.audio_bos_eos_token.weight"
_TABLE = "transformer.wte.weight"
_POSITIONS = "transformer.audio.positional_embedding"
# buffers that older files still hold
_IGNORED = (".rotary_emb.inv_freq", ".attn.masked_bias")

_WORDS, _TOWER = "model.language_model", "model.audio_tower"
_OUTSIDE = {
    "transformer.wte": f"{_WORDS}.embed_tokens",
    "transformer.ln_f": f"{_WORDS}.norm",
    "lm_head": "lm_head",
    "transformer.audio.conv1": f"{_TOWER}.conv1",
    "transformer.audio.conv2": f"{_TOWER}.conv2",
    "transformer.audio.ln_post": f"{_TOWER}.layer_norm",
    "transformer.audio.proj": "model.multi_modal_projector.linear",
}
_DECODER_LAYER: _Parts = {
    "ln_1": ("input_layernorm",),
    "attn.c_attn": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.c_proj": ("self_attn.o_proj",),
    "ln_2": ("post_attention_layernorm",),
    "mlp.w1": ("mlp.up_proj",),
    "mlp.w2": ("mlp.gate_proj",),
    "mlp.c_proj": ("mlp.down_proj",),
}
_ENCODER_LAYER: _Parts = {
    "attn.query": ("self_attn.q_proj",),
    "attn.key": ("self_attn.k_proj",),
    "attn.value": ("self_attn.v_proj",),
    "attn.out": ("self_attn.out_proj",),
    "attn_ln": ("self_attn_layer_norm",),
    "mlp.0": ("fc1",),
    "mlp.2": ("fc2",),
    "mlp_ln": ("final_layer_norm",),
}
_STACKS = {
    "h": (f"{_WORDS}.layers", _DECODER_LAYER),
    "audio.blocks": (f"{_TOWER}.layers", _ENCODER_LAYER),
}
_IN_A_LAYER = re.compile(r"transformer\.(h|audio\.blocks)\.(\d+)\.(.+)")

# what the new class does whatever its configuration says
_FIXED: dict[str, Any] = {
    "model_type": "qwen",
    "no_bias": True,
    "rotary_pct": 1.0,
    "tie_word_embeddings": False,
}
_FIXED_AUDIO: dict[str, Any] = {"avg_pool": True, "add_audio_bos_eos_token": True}
_PRETRAINED_TASKS = ("asr", "st", "er", "sqa", "ac")


def convert(source: Path, target: Path, tell: Tell) -> None:
    """Write the checkpoint in `source` into the empty folder `target`.

    Raises:
        StartError: it is not a whole Qwen-Audio checkpoint.
    """
    old = _checked(read_json(source / "config.json"))
    chat = read_json(source / "generation_config.json").get("chat_format") == "chatml"
    heard = processor(source, old["audio"]["n_mels"], old["audio"]["n_ctx"], chat)
    ids = _ids(heard.tokenizer, old)
    tell(f"{'chat' if chat else 'pretrained'} model; vocabulary of {len(heard.tokenizer)} tokens")
    config = _config(old, ids)
    _weights(Shards(source), target, config, [ids[AUDIO_START], ids[AUDIO_END]], tell)
    config.save_pretrained(target)
    heard.save_pretrained(target)
    _generation(ids, chat).save_pretrained(target)
    card: dict[str, Any] = {"family": "qwen_audio"}
    if not chat:
        card["tasks"] = _PRETRAINED_TASKS
    (target / "fastadasp.json").write_text(json.dumps(card, indent=2) + "\n")


def _checked(old: dict[str, Any]) -> dict[str, Any]:
    """The configuration, if it is one that the new class can do."""
    try:
        parts = ((old, _FIXED), (old["audio"], _FIXED_AUDIO))
        wrong = [
            f"{name} {part[name]!r}"
            for part, fixed in parts
            for name, value in fixed.items()
            if part.get(name, value) != value
        ]
        if old["kv_channels"] * old["num_attention_heads"] != old["hidden_size"]:
            wrong.append(f"kv_channels {old['kv_channels']}")
    except KeyError as error:
        raise StartError(f"config.json lacks {error}: not a Qwen-Audio checkpoint") from error
    if wrong:
        raise StartError(f"not a Qwen-Audio checkpoint as published: {', '.join(wrong)}")
    return old


def _ids(words: Any, old: dict[str, Any]) -> dict[str, int]:
    """Ids of the tokens that the settings name."""
    names = (AUDIO, AUDIO_START, AUDIO_END, END, TURN_START, TURN_END)
    ids: dict[str, int] = {name: words.convert_tokens_to_ids(name) for name in names}
    said = old["audio"]["audio_start_id"]
    if ids[AUDIO_START] != said or len(words) > old["vocab_size"]:
        raise StartError(
            f"the vocabulary puts {AUDIO_START} at {ids[AUDIO_START]}, config.json at {said}:"
            " the files are of two checkpoints; download all of them again"
        )
    return ids


def _config(old: dict[str, Any], ids: dict[str, int]) -> Any:
    from transformers import Qwen2AudioConfig

    audio, end = old["audio"], ids[END]
    changing = old.get("use_dynamic_ntk") or old.get("use_logn_attn")
    text = {
        "model_type": "qwen2",
        "vocab_size": old["vocab_size"],
        "hidden_size": old["hidden_size"],
        "intermediate_size": old["intermediate_size"] // 2,
        "num_hidden_layers": old["num_hidden_layers"],
        "num_attention_heads": old["num_attention_heads"],
        "num_key_value_heads": old["num_attention_heads"],
        "max_position_embeddings": old["seq_length" if changing else "max_position_embeddings"],
        "rms_norm_eps": old["layer_norm_epsilon"],
        "rope_parameters": {"rope_type": "default", "rope_theta": float(old["rotary_emb_base"])},
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": end,
    }
    encoder = {
        "num_mel_bins": audio["n_mels"],
        "d_model": audio["n_state"],
        "encoder_layers": audio["n_layer"],
        "encoder_attention_heads": audio["n_head"],
        "encoder_ffn_dim": 4 * audio["n_state"],
        "max_source_positions": audio["n_ctx"],
    }
    return Qwen2AudioConfig(
        audio_config=encoder,
        text_config=text,
        audio_token_index=ids[AUDIO],
        architectures=["Qwen2AudioForConditionalGeneration"],
        tie_word_embeddings=False,
    )


def _generation(ids: dict[str, int], chat: bool) -> Any:
    """Greedy, as in the published evaluations, up to the tokens that end an answer."""
    from transformers import GenerationConfig

    ends = [ids[TURN_END], ids[TURN_START], ids[END]] if chat else [ids[END]]
    return GenerationConfig(eos_token_id=ends, pad_token_id=ids[END], do_sample=False)


def _weights(shards: Shards, target: Path, config: Any, around: list[int], tell: Tell) -> None:
    """Rename, split and write all parameters; `config` learns their dtype."""
    shapes = _shapes(config)
    names = [name for name in shards.names if not name.endswith(_IGNORED)]
    places = {name: _places(name) for name in names}
    made = {place for found in places.values() for place in found}
    known = {name for name, found in places.items() if found and set(found) <= shapes.keys()}
    left = places.keys() - known - {_ROWS}
    missing = (shapes.keys() - made) | ({_ROWS} - set(names))
    check_names(missing, left)
    rows = shards[_ROWS]
    config.dtype = rows.dtype
    writer = Writer(target)
    for file, tensors in shards.shards(known):
        tell(f"reading {file.name}")
        for name, tensor in tensors:
            found = _with_rows(tensor, around, rows) if name == _TABLE else tensor
            for place, part in zip(places[name], found.chunk(len(places[name])), strict=False):
                if part.shape != shapes[place]:
                    raise StartError(
                        f"{name} is {list(tensor.shape)}, which is not what config.json says;"
                        " the files are of two checkpoints; download all of them again"
                    )
                writer.add(place, part)
    writer.finish()


def _places(name: str) -> tuple[str, ...]:
    """Names that a parameter has in the new model: three for one that is split, none if unknown."""
    if name == _POSITIONS:
        return (f"{_TOWER}.embed_positions.weight",)
    module, _, kind = name.rpartition(".")
    found = _IN_A_LAYER.fullmatch(module)
    if found is None:
        return (f"{_OUTSIDE[module]}.{kind}",) if module in _OUTSIDE else ()
    stack, layer, part = found.groups()
    layers, inside = _STACKS[stack]
    return tuple(f"{layers}.{layer}.{one}.{kind}" for one in inside.get(part, ()))


def _with_rows(table: Tensor, around: list[int], rows: Tensor) -> Tensor:
    """The embeddings with those of the tokens around a clip, which occur nowhere else."""
    table = table.clone()
    table[around] = rows
    return table


def _shapes(config: Any) -> dict[str, Any]:
    """Every parameter of the new model, without its numbers."""
    import torch
    from transformers import Qwen2AudioForConditionalGeneration

    with torch.device("meta"):
        model = Qwen2AudioForConditionalGeneration(config)
    return {name: value.shape for name, value in model.state_dict().items()}
