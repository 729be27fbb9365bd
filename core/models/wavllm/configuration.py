"""Sizes of WavLLM, in transformers' form; the defaults are those of the published 7B model."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import LlamaConfig, PretrainedConfig, WavLMConfig, WhisperConfig

_WHISPER_LARGE_V2 = {
    "num_mel_bins": 80,
    "d_model": 1280,
    "encoder_layers": 32,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
}
_LLAMA_2_7B = {
    # the published code's own; Meta's chat model has 1e-5
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 2048,
}


class WavLLMConfig(PretrainedConfig):  # type: ignore[misc]
    """Sizes of the two encoders, of what lies between them and the decoder, and of the decoder.

    Args:
        whisper_config, wavlm_config, text_config: of the parts, or their fields.
        whisper_mid_size, wavlm_mid_size: channels between the two convolutions of each
            subsampler, before the gate that halves them.
        subsampled_size: channels that leave a subsampler.
        adapter_size: width of the adapters' bottleneck.
        projected_size: channels that each path brings to the fusion.
        lora_rank: of every adapted projection of the decoder.
        gate_size: width of the layer that turns an instruction into a gate.
        audio_token_id: stands for audio in `input_ids`; None = one past the vocabulary.
        normalize_waveform: whether WavLM hears zero mean and unit variance.

    Raises:
        ValueError: keys and values of the decoder are narrower than its states: the gate has one
            number for each channel of a projection.
    """

    model_type = "wavllm"
    sub_configs: ClassVar[dict[str, Any]] = {
        "whisper_config": WhisperConfig,
        "wavlm_config": WavLMConfig,
        "text_config": LlamaConfig,
    }

    def __init__(  # noqa: PLR0913
        self,
        whisper_config: Any = None,
        wavlm_config: Any = None,
        text_config: Any = None,
        whisper_mid_size: int = 1280,
        wavlm_mid_size: int = 512,
        subsampled_size: int = 1024,
        adapter_size: int = 512,
        projected_size: int = 2048,
        lora_rank: int = 32,
        gate_size: int = 1024,
        audio_token_id: int | None = None,
        normalize_waveform: bool = False,
        **kwargs: Any,
    ) -> None:
        self.whisper_config = _made(WhisperConfig, whisper_config, _WHISPER_LARGE_V2)
        self.wavlm_config = _made(WavLMConfig, wavlm_config, {})
        self.text_config = _made(LlamaConfig, text_config, _LLAMA_2_7B)
        if self.text_config.num_key_value_heads != self.text_config.num_attention_heads:
            raise ValueError("the decoder of WavLLM has as many key heads as query heads")
        self.whisper_mid_size = whisper_mid_size
        self.wavlm_mid_size = wavlm_mid_size
        self.subsampled_size = subsampled_size
        self.adapter_size = adapter_size
        self.projected_size = projected_size
        self.lora_rank = lora_rank
        self.gate_size = gate_size
        vocabulary: int = self.text_config.vocab_size
        self.audio_token_id = vocabulary if audio_token_id is None else audio_token_id
        self.normalize_waveform = normalize_waveform
        super().__init__(**{"tie_word_embeddings": False, **kwargs})


def _made(kind: Any, given: Any, assumed: dict[str, Any]) -> Any:
    """A part's configuration: as it is, from its fields, or the published one."""
    return given if isinstance(given, kind) else kind(**{**assumed, **(given or {})})
