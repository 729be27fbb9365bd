"""Weights of the decoder's layers in 8 or 4 bits (bitsandbytes); all else stays as it is.

LLM.int8 (Dettmers et al., NeurIPS 2022) and NF4 (Dettmers et al., NeurIPS 2023). What hears, the
embeddings and the head keep their numbers: they are a small part of a model, and the first to
suffer.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import StartError

if TYPE_CHECKING:
    import torch

BITS = ("8bit", "4bit")


def check_packages(flag: str, *packages: str) -> None:
    """Raise StartError, with the way out, unless what a flag needs is installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise StartError(f"{flag} needs {' and '.join(missing)}: pip install 'fastadasp[quantize]'")


def quantization(bits: str, family: Any, empty: Any, dtype: torch.dtype) -> Any:
    """What `from_pretrained` is to be told.

    Args:
        bits: 8bit | 4bit.
        family: the model's `SpeechLM` class.
        empty: the transformers model, its weights not needed.
        dtype: what products are computed in.

    Raises:
        StartError: no such choice, or a package is missing.
    """
    if bits not in BITS:
        raise StartError(f"unknown quantization '{bits}'; choose one of {', '.join(BITS)}")
    check_packages(f"--quantize {bits}", "bitsandbytes", "accelerate")
    from transformers import BitsAndBytesConfig

    layers = family("", None, empty, None, {}).decoder.layers
    how: dict[str, Any] = {"load_in_8bit": True}
    if bits == "4bit":
        how = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_compute_dtype": dtype,
        }
    return BitsAndBytesConfig(llm_int8_skip_modules=list(beside(empty, layers)), **how)


def check_quantized(model: Any, layers: Any, bits: str) -> None:
    """Raise StartError unless weights of the decoder's layers became whole numbers."""
    if all(one.is_floating_point() for one in layers.parameters()):
        raise StartError(
            f"--quantize {bits}: {type(model).__name__} was loaded with all its weights as they"
            " are; leave it out, or try another version of bitsandbytes"
        )


def beside(model: Any, layers: Any, prefix: str = "") -> Iterator[str]:
    """Names of the largest modules that have no part in the decoder's layers."""
    for name, child in model.named_children():
        if child is layers:
            continue
        if any(one is layers for one in child.modules()):
            yield from beside(child, layers, f"{prefix}{name}.")
        else:
            yield prefix + name
