"""WavLLM (Microsoft, arXiv 2404.00656): the published fairseq checkpoint as a folder for `--model`.

The source is `final.pt`, which holds every weight (both encoders, LLaMA-2, LoRA, prompt adapter),
with LLaMA-2's tokenizer beside it (`tokenizer.json`, or `tokenizer.model`); or their folder. Sizes
are read off the tensors. Encoders and what follows them keep their names. LLaMA's rows of queries
and keys, and the columns of their LoRA, change their order: Meta rotates neighbouring channels
together, transformers channels half a head apart.
"""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from ..errors import StartError, first_line
from . import Tell
from .checkpoint import Writer, check_names

Sizes = dict[str, Any]

_LLAMA, _DECODER = "gpt_model.model_llama.", "language_model."
_WRAPPERS = re.compile(r"(_checkpoint_wrapped_module|_fsdp_wrapped_module|module)\.")
# there for a model without WavLM, and never used beside it
_UNUSED = ("audio_proj.weight", "audio_proj.bias")
_OUTSIDE = {
    f"{_LLAMA}tok_embeddings": f"{_DECODER}embed_tokens",
    f"{_LLAMA}norm": f"{_DECODER}norm",
    f"{_LLAMA}output": "lm_head",
    f"{_LLAMA}scale_fc_1": "prompt_gate.down",
    f"{_LLAMA}scale_fc_2": "prompt_gate.up",
    f"{_LLAMA}scale_weight_attention": "prompt_gate.score",
}
_IN_A_LAYER = re.compile(re.escape(_LLAMA) + r"layers\.(\d+)\.(.+?)[._](weight|lora_[AB])")
_LAYER = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_ROTATED = ("attention.wq", "attention.wk")
_KEPT = ("audio_encoder.", "wavlm_encoder.", "wavlm_audio_proj.")
# torch's old name and its new one for a weight with a norm of its own
_NORMED = {
    "conv.weight_g": "conv.parametrizations.weight.original0",
    "conv.weight_v": "conv.parametrizations.weight.original1",
}
_WHISPER_HEAD, _LLAMA_HEAD = 64, 128


def convert(source: Path, target: Path, tell: Tell) -> None:
    """Write the checkpoint `source`, a file or its folder, into the empty folder `target`.

    Raises:
        StartError: it is not a whole WavLLM checkpoint, or there is no tokenizer beside it.
    """
    file = _file(source)
    weights = _weights(file)
    places = {name: _place(name) for name in weights if _bare(name) not in _UNUSED}
    sizes = _sizes({new: weights[old] for old, new in places.items()})
    expected = _expected(sizes)
    left = [old for old, new in places.items() if new not in expected]
    check_names(expected - set(places.values()), left)
    ends = _tokenizer(file.parent, target, sizes["text_config"]["vocab_size"])
    writer = Writer(target)
    for number, (old, new) in enumerate(places.items(), 1):
        writer.add(new, _turned(_bare(old), weights[old]))
        if number % 100 == 0:
            tell(f"{number} of {len(places)} tensors")
    writer.finish()
    _settle(target, sizes, ends)


def _file(source: Path) -> Path:
    """The checkpoint itself."""
    files = [source] if source.is_file() else sorted(source.glob("*.pt"))
    if len(files) != 1:
        raise StartError(f"{source} holds {len(files)} files *.pt; give WavLLM's final.pt itself")
    return files[0]


def _weights(file: Path) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint, on disk until they are read."""
    try:
        # fairseq keeps its arguments in one; it is a bag of names, and runs nothing
        with torch.serialization.safe_globals([Namespace]):
            found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        weights: Mapping[str, Tensor] = found["model"]
    except UnpicklingError as error:
        raise StartError(
            f"{file} holds more than weights, and that is not run; where you trust it, save"
            " {'model': state['model']} alone with torch.save"
        ) from error
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise StartError(
            f"{file} is no fairseq checkpoint: {first_line(error)}; download it again"
        ) from error
    return weights


def _bare(name: str) -> str:
    """A name without what training wrapped around the module."""
    return _WRAPPERS.sub("", name)


def _place(name: str) -> str:
    """What a parameter is called in the new model; its own name, if it is none of the layout."""
    name = _bare(name)
    if name.startswith(_KEPT):
        for old, new in _NORMED.items():
            name = name.replace(old, new)
        return name
    module, _, kind = name.rpartition(".")
    if module in _OUTSIDE:
        return f"{_OUTSIDE[module]}.{kind}"
    inside = _IN_A_LAYER.fullmatch(name)
    if inside is None or inside[2] not in _LAYER:
        return name
    return f"{_DECODER}layers.{inside[1]}.{_LAYER[inside[2]]}.{inside[3]}"


def _turned(name: str, weight: Tensor) -> Tensor:
    """Output channels of queries and keys in transformers' order; all others as they are."""
    inside = _IN_A_LAYER.fullmatch(name)
    if inside is None or inside[2] not in _ROTATED or inside[3] == "lora_A":
        return weight
    # of W they are the rows, of B the columns
    channels = weight.T if inside[3] == "weight" else weight
    pairs = channels.reshape(len(channels), -1, _LLAMA_HEAD // 2, 2)
    halves = pairs.transpose(2, 3).flatten(1)
    return halves.T if inside[3] == "weight" else halves


def _sizes(weights: Mapping[str, Tensor]) -> Sizes:
    """The configuration that these tensors, by their new names, are of."""
    try:
        return {
            "model_type": "wavllm",
            "architectures": ["WavLLMForConditionalGeneration"],
            "whisper_config": _whisper(weights),
            "wavlm_config": _wavlm(weights),
            "text_config": _llama(weights),
            "whisper_mid_size": len(weights["audio_encoder.subsample.conv_layers.0.weight"]),
            "wavlm_mid_size": len(weights["wavlm_encoder.subsample.conv_layers.0.weight"]),
            "subsampled_size": len(weights["audio_encoder.adapter.layer_norm.weight"]),
            "adapter_size": len(weights["audio_encoder.adapter.down_layer.weight"]),
            "projected_size": len(weights["audio_encoder.projector.weight"]),
            "lora_rank": len(weights[f"{_DECODER}layers.0.self_attn.q_proj.lora_B"]),
            "gate_size": len(weights["prompt_gate.down.weight"]),
        }
    except KeyError as error:
        raise StartError(f"the checkpoint lacks {error.args[0]}; is it WavLLM's, whole?") from error


def _whisper(weights: Mapping[str, Tensor]) -> Sizes:
    root = "audio_encoder.model."
    width, mels, _ = weights[f"{root}conv1.weight"].shape
    return {
        "num_mel_bins": mels,
        "d_model": width,
        "encoder_layers": _depth(weights, f"{root}layers."),
        "encoder_attention_heads": width // _WHISPER_HEAD,
        "encoder_ffn_dim": len(weights[f"{root}layers.0.fc1.weight"]),
        "max_source_positions": len(weights[f"{root}embed_positions.weight"]),
    }


def _wavlm(weights: Mapping[str, Tensor]) -> Sizes:
    root = "wavlm_encoder.model."
    layer = f"{root}encoder.layers.0."
    width, in_a_group, reach = weights[
        f"{root}encoder.pos_conv_embed.conv.parametrizations.weight.original1"
    ].shape
    convolutions = _depth(weights, f"{root}feature_extractor.conv_layers.")
    return {
        "hidden_size": width,
        "num_hidden_layers": _depth(weights, f"{root}encoder.layers."),
        "num_attention_heads": weights[f"{layer}attention.gru_rel_pos_const"].shape[1],
        "intermediate_size": len(weights[f"{layer}feed_forward.intermediate_dense.weight"]),
        "num_buckets": len(weights[f"{layer}attention.rel_attn_embed.weight"]),
        "num_conv_pos_embeddings": reach,
        "num_conv_pos_embedding_groups": width // in_a_group,
        "conv_dim": [
            len(weights[f"{root}feature_extractor.conv_layers.{n}.conv.weight"])
            for n in range(convolutions)
        ],
        # a parameter of training, which some files leave out
        "mask_time_prob": 0.05 if f"{root}masked_spec_embed" in weights else 0.0,
    }


def _llama(weights: Mapping[str, Tensor]) -> Sizes:
    words, width = weights[f"{_DECODER}embed_tokens.weight"].shape
    return {
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": len(weights[f"{_DECODER}layers.0.mlp.gate_proj.weight"]),
        "num_hidden_layers": _depth(weights, f"{_DECODER}layers."),
        "num_attention_heads": width // _LLAMA_HEAD,
        "num_key_value_heads": width // _LLAMA_HEAD,
        # those of the published code, whatever Meta's chat model has
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 2048,
    }


def _depth(weights: Mapping[str, Tensor], stack: str) -> int:
    """Layers of a stack."""
    inside = (name.removeprefix(stack) for name in weights if name.startswith(stack))
    return 1 + max((int(name.partition(".")[0]) for name in inside), default=-1)


def _expected(sizes: Sizes) -> set[str]:
    """Names of all parameters of the new model."""
    from transformers import LlamaConfig, LlamaModel, WavLMConfig, WavLMModel, WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    with torch.device("meta"):
        parts = {
            "audio_encoder.model.": WhisperEncoder(WhisperConfig(**sizes["whisper_config"])),
            "wavlm_encoder.model.": WavLMModel(WavLMConfig(**sizes["wavlm_config"])),
            _DECODER: LlamaModel(LlamaConfig(**sizes["text_config"])),
        }
    names = {f"{root}{name}" for root, part in parts.items() for name in part.state_dict()}
    both = [f"prompt_gate.{name}" for name in ("down", "up", "score")]
    for root in _KEPT[:2]:
        both += [f"{root}subsample.conv_layers.{n}" for n in (0, 1)]
        both += [f"{root}adapter.{name}" for name in ("down_layer", "up_layer", "layer_norm")]
        both += [f"{root}projector"]
    names |= {f"{name}.{kind}" for name in (*both, "wavlm_audio_proj") for kind in _BOTH}
    adapted = [name.removesuffix("weight") for name in names if "self_attn.q_proj.weight" in name]
    for name in adapted:
        if name.startswith(_DECODER):
            for letter in "qkvo":
                turned = name.replace("q_proj", f"{letter}_proj")
                names |= {f"{turned}lora_A", f"{turned}lora_B"}
    return names | {"wavlm_encoder.output_weights", "lm_head.weight"}


_BOTH = ("weight", "bias")


def _tokenizer(source: Path, target: Path, words: int) -> dict[str, int]:
    """Write the tokenizer, which must know all words; the ids that start and end a text."""
    from transformers import AutoTokenizer, LlamaTokenizer

    named = (source / "tokenizer_config.json").is_file()
    try:
        made = (AutoTokenizer if named else LlamaTokenizer).from_pretrained(
            source, local_files_only=True
        )
        # of a folder without one transformers makes a tokenizer of three words
        if len(made) < words:
            raise ValueError(f"it knows {len(made)} words of {words}")
        made.save_pretrained(target)
    except Exception as error:
        raise StartError(
            f"no tokenizer can be read in {source}: {first_line(error)}; put LLaMA-2's"
            " tokenizer.json and tokenizer_config.json there"
        ) from error
    return {"bos_token_id": made.bos_token_id, "eos_token_id": made.eos_token_id, "pad_token_id": 0}


def _settle(target: Path, sizes: Sizes, ends: Mapping[str, int]) -> None:
    """Write what goes with the weights."""
    from transformers import GenerationConfig, WhisperFeatureExtractor

    mels = sizes["whisper_config"]["num_mel_bins"]
    WhisperFeatureExtractor(feature_size=mels).save_pretrained(target)
    GenerationConfig(**ends).save_pretrained(target)
    sizes["text_config"] |= ends
    (target / "config.json").write_text(json.dumps(sizes, indent=2) + "\n")
