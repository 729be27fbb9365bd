"""WavLLM as it was published: a tiny checkpoint in its layout, and what it computes, spelled out.

Float64 and one prompt at a time. Of transformers only the two encoders are used, whose names the
published checkpoint shares; what lies behind them, the gate and LLaMA are computed from the
tensors: rotation by complex numbers, as Meta's code has it.
"""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.models.processors import two_ears

HIDDEN, HEADS, LAYERS, INNER, RANK, GATE = 256, 2, 2, 48, 4, 24
WHISPER = {
    "num_mel_bins": 16,
    "d_model": 64,
    "encoder_layers": 1,
    "encoder_attention_heads": 1,
    "encoder_ffn_dim": 48,
}
WAVLM = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_LLAMA = "gpt_model.model_llama."
_OLD_NAMES = {"parametrizations.weight.original0": "weight_g"} | {
    "parametrizations.weight.original1": "weight_v"
}


def encoders() -> dict[str, Any]:
    """The two that transformers has, by the root of their names."""
    from transformers import WavLMConfig, WavLMModel, WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    return {
        "audio_encoder.model.": WhisperEncoder(WhisperConfig(**WHISPER)).eval(),
        "wavlm_encoder.model.": WavLMModel(WavLMConfig(**WAVLM)).eval(),
    }


def state() -> dict[str, Tensor]:
    """Random tensors under the published names."""
    shapes: dict[str, tuple[int, ...]] = {}
    for root, encoder in encoders().items():
        for name, tensor in encoder.state_dict().items():
            for new, old in _OLD_NAMES.items():
                name = name.replace(new, old)
            shapes[root + name] = tuple(tensor.shape)
    for root, inputs, mid in (("audio_encoder", 64, 28), ("wavlm_encoder", 32, 20)):
        shapes |= _linear(f"{root}.adapter.down_layer", 24, 12)
        shapes |= _linear(f"{root}.adapter.up_layer", 12, 24)
        shapes |= {f"{root}.adapter.layer_norm.{kind}": (24,) for kind in ("weight", "bias")}
        shapes |= _linear(f"{root}.projector", 24, 16)
        sizes = (inputs, mid), (mid // 2, 48)
        for n, (before, after) in enumerate(sizes):
            conv = f"{root}.subsample.conv_layers.{n}"
            shapes |= {f"{conv}.weight": (after, before, 3), f"{conv}.bias": (after,)}
    shapes["wavlm_encoder.output_weights"] = (3,)
    shapes |= _linear("wavlm_audio_proj", 32, HIDDEN) | _linear("audio_proj", 16, HIDDEN)
    shapes |= _linear(f"{_LLAMA}scale_fc_1", HIDDEN, GATE)
    shapes |= _linear(f"{_LLAMA}scale_fc_2", GATE, HIDDEN)
    shapes |= _linear(f"{_LLAMA}scale_weight_attention", HIDDEN, 1)
    shapes |= {f"{_LLAMA}tok_embeddings.weight": (260, HIDDEN), f"{_LLAMA}norm.weight": (HIDDEN,)}
    shapes[f"{_LLAMA}output.weight"] = (260, HIDDEN)
    for n in range(LAYERS):
        layer = f"{_LLAMA}layers.{n}."
        for name in ("wq", "wk", "wv", "wo"):
            shapes[f"{layer}attention.{name}.weight"] = (HIDDEN, HIDDEN)
            shapes[f"{layer}attention.{name}_lora_A"] = (HIDDEN, RANK)
            shapes[f"{layer}attention.{name}_lora_B"] = (RANK, HIDDEN)
        for name, inputs, outputs in (("w1", HIDDEN, INNER), ("w2", INNER, HIDDEN)):
            shapes[f"{layer}feed_forward.{name}.weight"] = (outputs, inputs)
        shapes[f"{layer}feed_forward.w3.weight"] = (INNER, HIDDEN)
        shapes |= {f"{layer}{name}.weight": (HIDDEN,) for name in ("attention_norm", "ffn_norm")}
    draw = torch.Generator().manual_seed(0)
    return {name: _drawn(name, shape, draw) for name, shape in shapes.items()}


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _drawn(name: str, shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=draw)
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.2 * noise
    if "tok_embeddings" in name:
        return noise
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else 10
    if "_lora_" in name:
        fan_in = shape[0]
    return noise * (2.0 if ".wq." in name or ".wk." in name else 1.0) / math.sqrt(fan_in)


def save(folder: Path, weights: dict[str, Tensor], **more: Any) -> Path:
    """Write `final.pt` as fairseq does, some names with a wrapper's prefix, and a tokenizer."""
    folder.mkdir(exist_ok=True)
    wrapped = {
        name.replace("layers.1.", "layers.1._checkpoint_wrapped_module.")
        if name.startswith(_LLAMA)
        else name: tensor
        for name, tensor in weights.items()
    }
    torch.save(
        {"args": None, "cfg": {"task": Namespace(lora_r=RANK)}, "model": wrapped} | more,
        folder / "final.pt",
    )
    two_ears(folder)
    (folder / "preprocessor_config.json").unlink()
    return folder


class Published:
    """The published computation.

    Args:
        weights: of `state`.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self._weights = weights

    def logits(self, mels: Tensor, wave: Tensor, before: Any, after: Any, quoted: Any) -> Tensor:
        """Of every position, (tokens, words).

        mels (mels, frames), wave (samples,), then token ids: before and after the audio, and of
        the instruction in quotes.
        """
        table = self._of(f"{_LLAMA}tok_embeddings.weight")
        parts = [table[list(before)], self.audio(mels, wave), table[list(after)]]
        states = self._layers(torch.cat(parts), self.gate(quoted))
        states = self._rms(states, f"{_LLAMA}norm")
        return states @ self._of(f"{_LLAMA}output.weight").T

    def audio(self, mels: Tensor, wave: Tensor) -> Tensor:
        """Audio tokens, (tokens, hidden)."""
        loaded = encoders()
        for root, encoder in loaded.items():
            own = {
                name.removeprefix(root): tensor
                for name, tensor in self._weights.items()
                if name.startswith(root)
            }
            for new, old in _OLD_NAMES.items():
                pair = f"encoder.pos_conv_embed.conv.{old}"
                if pair in own:
                    own[f"encoder.pos_conv_embed.conv.{new}"] = own.pop(pair)
            encoder.load_state_dict(own)
        with torch.no_grad():
            heard = loaded["audio_encoder.model."](mels[None]).last_hidden_state[0]
            layers = loaded["wavlm_encoder.model."](wave[None], output_hidden_states=True)
        frames = math.ceil(len(wave) / 160)
        words = self._path("audio_encoder", heard[: (frames - 1) // 2 + 1].double())
        shares = self._of("wavlm_encoder.output_weights").softmax(0)
        states = torch.stack([layer[0].double() for layer in layers.hidden_states])
        voice = self._path("wavlm_encoder", (shares[:, None, None] * states).sum(0))
        both = min(len(words), len(voice))
        joined = torch.cat([words[:both], voice[:both]], dim=1)
        return self._affine(joined, "wavlm_audio_proj")

    def gate(self, quoted: Any) -> Tensor:
        """What scales the LoRA, (hidden,)."""
        table = self._of(f"{_LLAMA}tok_embeddings.weight")
        said = self._layers(table[list(quoted)], None)
        said = self._affine(_gelu(self._affine(said, f"{_LLAMA}scale_fc_1")), f"{_LLAMA}scale_fc_2")
        shares = self._affine(said, f"{_LLAMA}scale_weight_attention").softmax(0)
        return torch.clamp(torch.relu((said * shares).sum(0)), max=3)

    def _path(self, root: str, states: Tensor) -> Tensor:
        for n in (0, 1):
            states = self._halved(states, f"{root}.subsample.conv_layers.{n}")
        inner = _gelu(self._affine(states, f"{root}.adapter.down_layer"))
        update = self._affine(inner, f"{root}.adapter.up_layer")
        centred = update - update.mean(1, keepdim=True)
        normed = centred / ((centred**2).mean(1, keepdim=True) + 1e-5).sqrt()
        norm = f"{root}.adapter.layer_norm"
        states = states + normed * self._of(f"{norm}.weight") + self._of(f"{norm}.bias")
        return self._affine(states, f"{root}.projector")

    def _halved(self, states: Tensor, name: str) -> Tensor:
        """Every second frame with its two neighbours, silence beyond the ends; then the gate."""
        weight, bias = self._of(f"{name}.weight"), self._of(f"{name}.bias")
        silence = torch.zeros(1, states.shape[1], dtype=states.dtype)
        padded = torch.cat([silence, states, silence])
        made = []
        for at in range(0, len(states), 2):
            both = sum(weight[:, :, k] @ padded[at + k] for k in range(3)) + bias
            value, gate = both.chunk(2)
            made.append(value / (1 + (-gate).exp()))
        return torch.stack(made)

    def _layers(self, states: Tensor, gate: Tensor | None) -> Tensor:
        size = HIDDEN // HEADS
        turns = 10000.0 ** (-torch.arange(0, size, 2).double() / size)
        angles = torch.outer(torch.arange(len(states)).double(), turns)
        rotation = torch.polar(torch.ones_like(angles), angles)[:, None]
        for n in range(LAYERS):
            layer = f"{_LLAMA}layers.{n}."
            normed = self._rms(states, f"{layer}attention_norm")
            query, key, value = (
                self._adapted(normed, f"{layer}attention.{name}", gate).view(-1, HEADS, size)
                for name in ("wq", "wk", "wv")
            )
            query, key = (_rotated(part, rotation) for part in (query, key))
            mixed = []
            for at in range(len(states)):
                scores = torch.einsum("hs,khs->hk", query[at], key[: at + 1]) / math.sqrt(size)
                mixed.append(torch.einsum("hk,khs->hs", scores.softmax(1), value[: at + 1]))
            attended = torch.stack(mixed).flatten(1)
            states = states + self._adapted(attended, f"{layer}attention.wo", gate)
            normed = self._rms(states, f"{layer}ffn_norm")
            opened, other, closed = (
                self._of(f"{layer}feed_forward.{name}.weight") for name in ("w1", "w3", "w2")
            )
            inner = normed @ opened.T
            states = states + (inner / (1 + (-inner).exp()) * (normed @ other.T)) @ closed.T
        return states

    def _adapted(self, states: Tensor, name: str, gate: Tensor | None) -> Tensor:
        plain = states @ self._of(f"{name}.weight").T
        if gate is None:
            return plain
        return plain + states @ self._of(f"{name}_lora_A") @ self._of(f"{name}_lora_B") * gate

    def _rms(self, states: Tensor, name: str) -> Tensor:
        size = (states**2).mean(1, keepdim=True)
        return states / (size + 1e-6).sqrt() * self._of(f"{name}.weight")

    def _affine(self, states: Tensor, name: str) -> Tensor:
        return states @ self._of(f"{name}.weight").T + self._of(f"{name}.bias")

    def _of(self, name: str) -> Tensor:
        return self._weights[name].double()


def _gelu(states: Tensor) -> Tensor:
    return states * (1 + torch.erf(states / math.sqrt(2))) / 2


def _rotated(channels: Tensor, rotation: Tensor) -> Tensor:
    pairs = torch.view_as_complex(channels.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * rotation).flatten(-2)
