"""WavLLM: Whisper and WavLM side by side, fused frame by frame, read by a prompt-aware LLaMA.

The encoders and the decoder's layers are transformers' own; names of modules follow the published
checkpoint where it has the same parts. Both encoders give 50 states a second, each path's two
convolutions leave a quarter: 12.5 audio tokens a second.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, glu
from transformers import GenerationMixin, PreTrainedModel, WavLMModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from .configuration import WavLLMConfig
from .decoder import PromptAwareLlama, PromptGate

SAMPLES_PER_STATE = 320


class Subsampler(nn.Module):
    """Two convolutions of stride 2, each with a gate (GLU) that halves its channels.

    Args:
        inputs, mid, outputs: channels before, between (ungated) and after.
    """

    def __init__(self, inputs: int, mid: int, outputs: int) -> None:
        super().__init__()
        sizes = (inputs, mid), (mid // 2, 2 * outputs)
        self.conv_layers = nn.ModuleList(
            nn.Conv1d(*size, kernel_size=3, stride=2, padding=1) for size in sizes
        )

    def forward(self, states: Tensor) -> Tensor:
        """(rows, frames, inputs) to (rows, a quarter of the frames, outputs)."""
        channels = states.transpose(1, 2)
        for conv in self.conv_layers:
            channels = glu(conv(channels), dim=1)
        return channels.transpose(1, 2)


class Adapter(nn.Module):
    """x + LayerNorm(up(gelu(down(x)))).

    Args:
        size: channels of x.
        inner: of the bottleneck.
    """

    def __init__(self, size: int, inner: int) -> None:
        super().__init__()
        self.down_layer = nn.Linear(size, inner)
        self.up_layer = nn.Linear(inner, size)
        self.layer_norm = nn.LayerNorm(size)

    def forward(self, states: Tensor) -> Tensor:
        """(..., size) to (..., size)."""
        adapted: Tensor = self.layer_norm(self.up_layer(gelu(self.down_layer(states))))
        return states + adapted


class Path(nn.Module):
    """What an encoder's states go through before the fusion.

    Args:
        config: of the whole model.
        inputs, mid: channels of the encoder and of its subsampler.
    """

    def __init__(self, config: WavLLMConfig, inputs: int, mid: int) -> None:
        super().__init__()
        self.subsample = Subsampler(inputs, mid, config.subsampled_size)
        self.adapter = Adapter(config.subsampled_size, config.adapter_size)
        self.projector = nn.Linear(config.subsampled_size, config.projected_size)

    def projected(self, states: Tensor) -> Tensor:
        """(rows, frames, inputs) to (rows, a quarter of the frames, projected)."""
        made: Tensor = self.projector(self.adapter(self.subsample(states)))
        return made


class WhisperPath(Path):
    """Whisper's encoder on windows of 30 s, and what follows it."""

    def __init__(self, config: WavLLMConfig) -> None:
        super().__init__(config, config.whisper_config.d_model, config.whisper_mid_size)
        self.model = WhisperEncoder(config.whisper_config)


class WavLMPath(Path):
    """WavLM on the waveform, the learned mean of all its layers, and what follows it."""

    def __init__(self, config: WavLLMConfig) -> None:
        super().__init__(config, config.wavlm_config.hidden_size, config.wavlm_mid_size)
        self.model = WavLMModel(config.wavlm_config)
        self.output_weights = nn.Parameter(torch.ones(config.wavlm_config.num_hidden_layers + 1))

    def heard(self, waveform: Tensor) -> Tensor:
        """States of one waveform (1, samples), mixed over layers: (1, frames, hidden)."""
        layers = self.model(waveform, output_hidden_states=True).hidden_states
        shares = self.output_weights.softmax(0)
        mixed: Tensor = sum(share * states for share, states in zip(shares, layers, strict=True))
        return mixed


class WavLLMForConditionalGeneration(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """Audio and an instruction in, text out.

    Args:
        config: sizes.
    """

    config_class = WavLLMConfig
    _no_split_modules = ("LlamaDecoderLayer", "WhisperEncoderLayer", "WavLMEncoderLayer")
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, config: WavLLMConfig) -> None:
        super().__init__(config)
        text = config.text_config
        self.audio_encoder = WhisperPath(config)
        self.wavlm_encoder = WavLMPath(config)
        self.wavlm_audio_proj = nn.Linear(2 * config.projected_size, text.hidden_size)
        self.language_model = PromptAwareLlama(text, config.lora_rank)
        self.prompt_gate = PromptGate(text.hidden_size, config.gate_size)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Ids to embeddings."""
        table: nn.Module = self.language_model.embed_tokens
        return table

    def get_output_embeddings(self) -> nn.Module:
        """Hidden states to logits."""
        return self.lm_head

    def get_decoder(self) -> PromptAwareLlama:
        """The stack of decoder layers."""
        return self.language_model

    def get_audio_features(
        self, input_features: Tensor, input_values: Tensor, lengths: Tensor
    ) -> list[Tensor]:
        """Audio tokens of each row, (tokens, hidden).

        Rows do not hear each other's padding: WavLM normalises over time, and a convolution sees
        what lies behind the end.

        Args:
            input_features: log-mel frames of whole windows of 30 s, (rows, mels, frames).
            input_values: waveforms at 16 kHz, (rows, samples), padded on the right.
            lengths: samples of each, (rows,).
        """
        windows = self.audio_encoder.model(input_features).last_hidden_state
        rows = []
        for window, wave, samples in zip(windows, input_values, lengths.tolist(), strict=True):
            states = window[: -(-samples // SAMPLES_PER_STATE)]
            words = self.audio_encoder.projected(states.unsqueeze(0))[0]
            heard = self.wavlm_encoder.heard(wave[:samples].unsqueeze(0))
            voice = self.wavlm_encoder.projected(heard)[0]
            both = min(len(words), len(voice))
            fused = self.wavlm_audio_proj(torch.cat([words[:both], voice[:both]], dim=-1))
            rows.append(fused)
        return rows

    def gates(self, instruction_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """What scales the LoRA for each instruction: (rows, hidden), see `decoder`.

        Args:
            instruction_ids: of the instruction in double quotes, no start token, (rows, tokens),
                padded on the right.
            mask: (rows, tokens), 0 at padding.
        """
        made: Tensor = self.prompt_gate(self.language_model.unadapted(instruction_ids, mask), mask)
        return made

    @torch.no_grad()
    def generate(
        self,
        *args: Any,
        instruction_ids: Tensor | None = None,
        instruction_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As every model's; the gates are made here, once for all steps.

        Args:
            args, kwargs: of `GenerationMixin.generate`.
            instruction_ids, instruction_mask: see `gates`; None = no LoRA.
        """
        if instruction_ids is not None:
            kwargs["gates"] = self.gates(instruction_ids, instruction_mask)
        return super().generate(*args, **kwargs)

    def forward(  # noqa: PLR0913
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        input_features: Tensor | None = None,
        input_values: Tensor | None = None,
        lengths: Tensor | None = None,
        gates: Tensor | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of the last `logits_to_keep` positions, 0 = all.

        Args:
            input_ids: (rows, tokens), `audio_token_id` once for each audio token.
            inputs_embeds: in their place.
            input_features, input_values, lengths: see `get_audio_features`.
            gates: see `gates`; None = no LoRA.
            logits_to_keep: how many.
            kwargs: of `LlamaModel.forward`.
        """
        if inputs_embeds is None:
            audio = () if input_features is None else (input_features, input_values, lengths)
            inputs_embeds = self._embedded(input_ids, *audio)
        read = self.language_model(inputs_embeds=inputs_embeds, gates=gates, **kwargs)
        return CausalLMOutputWithPast(
            logits=self.lm_head(read.last_hidden_state[:, -logits_to_keep:]),
            past_key_values=read.past_key_values,
            hidden_states=read.hidden_states,
            attentions=read.attentions,
        )

    def _embedded(self, ids: Any, *audio: Any) -> Tensor:
        spoken = ids == self.config.audio_token_id
        embedded: Tensor = self.get_input_embeddings()(ids.masked_fill(spoken, 0))
        if not audio:
            return embedded
        tokens = torch.cat(self.get_audio_features(*audio)).to(embedded.dtype)
        return embedded.masked_scatter(spoken.unsqueeze(-1), tokens)

    def prepare_inputs_for_generation(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Audio goes in with the prompt, and not again."""
        audio = {name: kwargs.pop(name, None) for name in _AUDIO}
        first = kwargs.get("is_first_iteration", False) or not kwargs.get("use_cache", True)
        made: dict[str, Any] = super().prepare_inputs_for_generation(*args, **kwargs)
        return made | audio if first else made


_AUDIO = ("input_features", "input_values", "lengths")
