"""A tiny random checkpoint of every family, of the real classes.

`FAMILIES` is the list that the tests go over. An entry gives what a family's configuration, feature
extractor and chat template have of their own; see `checkpoints` for the rest.
"""

from __future__ import annotations

from typing import Any

from core.models.wavllm.configuration import WavLLMConfig
from core.models.wavllm.modeling import WavLLMForConditionalGeneration
from tests.models.checkpoints import Tiny
from tests.models.processors import (
    HEARD,
    OMNI,
    PLAIN,
    carded,
    chatml,
    ears,
    extractor,
    granite,
    mistral,
    processor,
    two_ears,
    whisper,
)

_MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
_WHISPER = {
    "num_mel_bins": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "d_model": 32,
}
_EYES = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_heads": 2,
    "out_hidden_size": 64,
}
_VIBEVOICE = {"num_filters": 2, "depths": [1] * 7, "hidden_size": 16}
_BY_FOUR = {
    "num_mel_bins": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_size": 32,
    "intermediate_size": 128,  # = 4 frames side by side
}

_QWEN_AUDIO = {
    "audio_token": "[[[AUDIO:modality]]]",
    "audio_bos_token": "<audio>",
    "audio_eos_token": "</audio>",
}


def _zeros_behind(inputs: Any) -> Any:
    """Qwen-Audio puts zeros, not silence, behind a clip; ours are of whole pairs of frames."""
    inputs["input_features"] *= inputs["feature_attention_mask"].unsqueeze(1)
    return inputs


FAMILIES = [
    Tiny(
        "qwen_audio",
        "Qwen2AudioConfig",
        "Qwen2AudioForConditionalGeneration",
        {"audio_config": _WHISPER},
        carded(
            processor(
                "Qwen2AudioProcessor",
                whisper(),
                _QWEN_AUDIO,
                chatml("<audio>[[[AUDIO:modality]]]</audio>"),
            ),
            "qwen_audio",
        ),
        "[[[AUDIO:modality]]]",
        {"max_position_embeddings": 2048},
        official=_zeros_behind,
        within=1e-4,
    ),
    Tiny(
        "qwen2_5_omni",
        "Qwen2_5OmniThinkerConfig",
        "Qwen2_5OmniThinkerForConditionalGeneration",
        {
            "audio_config": _WHISPER | {"output_dim": 64},
            "vision_config": _EYES | {"fullatt_block_indexes": [0]},
            "vision_start_token_id": 3,
        },
        ears(whisper(chunk_length=10), OMNI, chatml(HEARD)),
        "<|AUDIO|>",
        {"rope_parameters": _MROPE},
    ),
    Tiny(
        "qwen3_omni_moe",
        "Qwen3OmniMoeThinkerConfig",
        "Qwen3OmniMoeThinkerForConditionalGeneration",
        {
            "audio_config": _WHISPER | {"output_dim": 64, "downsample_hidden_size": 8},
            "vision_config": _EYES | {"deepstack_visual_indexes": [0]},
            "vision_start_token_id": 3,
        },
        ears(whisper(chunk_length=10), OMNI, chatml(HEARD)),
        "<|AUDIO|>",
        {
            "rope_parameters": _MROPE,
            "moe_intermediate_size": 48,
            "num_experts": 4,
            "num_experts_per_tok": 2,
        },
    ),
    Tiny(
        "qwen3_asr",
        "Qwen3ASRConfig",
        "Qwen3ASRForConditionalGeneration",
        {
            "audio_config": _WHISPER | {"output_dim": 64, "downsample_hidden_size": 8},
            "tie_word_embeddings": False,
        },
        processor(
            "Qwen3ASRProcessor",
            extractor("Qwen3ASRFeatureExtractor", feature_size=16),
            OMNI,
            chatml(HEARD),
        ),
        "<|AUDIO|>",
        request={"language": "en"},
    ),
    Tiny(
        "voxtral",
        "VoxtralConfig",
        "VoxtralForConditionalGeneration",
        {
            "audio_config": _BY_FOUR,
        },
        mistral,
        "[AUDIO]",
        request={"language": "en", "model_id": "tiny", "format": "wav", "sampling_rate": 16_000},
        needs="mistral_common",
    ),
    Tiny(
        "audioflamingo3",
        "AudioFlamingo3Config",
        "AudioFlamingo3ForConditionalGeneration",
        {"audio_config": _WHISPER},
        processor(
            "AudioFlamingo3Processor", whisper(), {"audio_token": "<sound>"}, chatml("<sound>")
        ),
        "<sound>",
        request={},
    ),
    Tiny(
        "glmasr",
        "GlmAsrConfig",
        "GlmAsrForConditionalGeneration",
        {
            "audio_config": _BY_FOUR,
            "tie_word_embeddings": False,
        },
        processor("GlmAsrProcessor", whisper(), {"audio_token": "<|pad|>"}, chatml("<|pad|>")),
        "<|pad|>",
        request={},
    ),
    Tiny(
        "vibevoice_asr",
        "VibeVoiceAsrConfig",
        "VibeVoiceAsrForConditionalGeneration",
        {
            "acoustic_tokenizer_encoder_config": _VIBEVOICE,
            "semantic_tokenizer_encoder_config": _VIBEVOICE,
        },
        processor(
            "VibeVoiceAsrProcessor",
            extractor("VibeVoiceAcousticTokenizerFeatureExtractor"),
            {
                "audio_token": "<|box_start|>",
                "audio_bos_token": "<|object_ref_start|>",
                "audio_eos_token": "<|object_ref_end|>",
            },
            chatml("<|object_ref_start|><|box_start|><|object_ref_end|><|AUDIO_DURATION|> s"),
        ),
        "<|box_start|>",
        request={},
    ),
    Tiny(
        "phi4_multimodal",
        "Phi4MultimodalConfig",
        "Phi4MultimodalForCausalLM",
        {
            "audio_config": {
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_blocks": 1,
                "num_attention_heads": 2,
                "ext_pw_out_channel": 32,
                "depthwise_separable_out_channel": 32,
                "nemo_conv_channels": 8,
            },
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 28,
                "crop_size": 28,
            },
        },
        ears(
            extractor("Phi4MultimodalFeatureExtractor"),
            {"audio_token": "<|audio|>", "image_token": "<|image|>", "end_token": "<|end|>"},
            PLAIN,
        ),
        "<|audio|>",
        flat=True,
    ),
    Tiny(
        "granite_speech",
        "GraniteSpeechConfig",
        "GraniteSpeechForConditionalGeneration",
        {
            "encoder_config": {
                "num_layers": 2,
                "hidden_dim": 32,
                "feedforward_mult": 2,
                "num_heads": 4,
                "output_dim": 8,
                "max_pos_emb": 256,
            },
            "projector_config": {
                "model_type": "blip_2_qformer",
                "hidden_size": 32,
                "encoder_hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "intermediate_size": 32,
                "cross_attention_frequency": 1,
            },
            "has_lora_adapter": False,
            "tie_word_embeddings": False,
        },
        granite,
        "<|audio|>",
        {
            "model_type": "granite",
            "residual_multiplier": 0.7,
            "embedding_multiplier": 2.0,
            "attention_multiplier": 0.3,
        },
        needs="torchaudio",
    ),
    Tiny(
        "fun_asr_nano",
        "FunAsrNanoConfig",
        "FunAsrNanoForConditionalGeneration",
        {
            "audio_config": {
                "num_mel_bins": 16,
                "hidden_size": 32,
                "num_attention_heads": 4,
                "intermediate_size": 32,
                "num_hidden_layers": 3,
                "num_timestamp_prediction_layers": 1,
            },
            "adaptor_config": {
                "hidden_size": 64,
                "intermediate_size": 16,
                "num_attention_heads": 4,
                "num_hidden_layers": 1,
                "projector_hidden_size": 32,
            },
            "tie_word_embeddings": False,
        },
        processor(
            "FunAsrNanoProcessor",
            extractor("FunAsrNanoFeatureExtractor", feature_size=16),
            {"audio_token": "<|object_ref_start|>"},
            chatml("<|object_ref_start|>"),
        ),
        "<|object_ref_start|>",
        request={"language": "en"},
        needs="torchaudio",
    ),
    Tiny(
        "wavllm",
        WavLLMConfig,
        WavLLMForConditionalGeneration,
        {
            "whisper_config": _WHISPER,
            "wavlm_config": {
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "intermediate_size": 32,
                "conv_dim": [16] * 7,
                "num_conv_pos_embeddings": 16,
                "num_conv_pos_embedding_groups": 4,
            },
            "whisper_mid_size": 24,
            "wavlm_mid_size": 20,
            "subsampled_size": 24,
            "adapter_size": 12,
            "projected_size": 16,
            "lora_rank": 4,
            "gate_size": 24,
        },
        two_ears,
        "<|audio|>",
        {"num_key_value_heads": 4},
    ),
]
