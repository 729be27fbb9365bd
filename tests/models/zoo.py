"""A tiny random checkpoint of every family: the real classes, a tokenizer made here.

`FAMILIES` is the list that the tests go over. An entry gives what a family's configuration, feature
extractor and chat template have of their own; sizes and weights are made alike for all.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.tiny import GAINS

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
    "tie_word_embeddings": False,
}
CHATML = (
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n"
    "{% for part in turn['content'] %}"
    "{% if part['type'] == 'audio' %}BOSAUDIOEOS"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Tiny:
    """What a family has of its own.

    Attributes:
        name: the family, = the file in `core/models`.
        config, model: their classes in transformers.
        sizes: of the configuration, beside those of the decoder.
        processor: saves a processor into a folder and returns its tokenizer.
        audio: the token that stands for audio.
        text: what the decoder has of its own.
        request: what `apply_transcription_request` is told for English; None: it has no such thing.
        generate: what `generate` must be told to do the same twice.
        flat: whether the decoder is no part of its own in the configuration.
        needs: package without which its processor cannot be made.
    """

    name: str
    config: str
    model: str
    sizes: dict[str, Any]
    processor: Callable[[Path], Any]
    audio: str
    text: dict[str, Any] = field(default_factory=dict)
    request: dict[str, Any] | None = None
    generate: dict[str, Any] = field(default_factory=dict)
    flat: bool = False
    needs: str = ""


def chatml(audio: str) -> str:
    """A ChatML template that renders a piece of audio in these words."""
    return CHATML.replace("BOSAUDIOEOS", audio)


def tokenizer(tokens: dict[str, str], template: str | None = None) -> Any:
    """Bytes as tokens, whatever the text, and the special tokens that a family asks for."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<|im_end|>", "<|im_start|>", *dict.fromkeys(tokens.values())]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet])}
    made = Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token="<|im_end|>",
        pad_token="<pad>",
        additional_special_tokens=["<|im_start|>", *tokens.values()],
        extra_special_tokens=tokens,
        padding_side="left",
        chat_template=template,
    )


def save(tiny: Tiny, folder: Path) -> Path:
    """Write a checkpoint of the family into `folder`."""
    import transformers

    made = tiny.processor(folder)
    audio = made.convert_tokens_to_ids(tiny.audio)
    text = TEXT | {"vocab_size": len(made)} | tiny.text
    sizes = tiny.sizes | {"text_config": text, "audio_token_id": audio}
    if tiny.flat:  # the decoder's sizes stand in the configuration itself
        sizes = text | tiny.sizes
        sizes["audio_config"] = tiny.sizes["audio_config"] | {"audio_token_id": audio}
    config = getattr(transformers, tiny.config)(**sizes)
    model = getattr(transformers, tiny.model)(config).float().eval()
    silent = [made.pad_token_id, made.eos_token_id, audio]
    draw_weights(model, silent)
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = silent[:2]
    model.save_pretrained(folder)
    return folder


def draw_weights(model: Any, silent: list[int]) -> None:
    """Peaked attention and logits far apart, see `tests.tiny`; some ids are never answered."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            owner = name.split(".")[-2]
            if "norm" in owner or "norm" in name.split(".")[-1]:
                parameter.copy_((1.0 if name.endswith("weight") else 0.0) + 0.2 * noise)
            elif owner == "embed_tokens":
                parameter.copy_(noise)
            elif owner != "embed_positions":
                fan_in = math.prod(parameter.shape[1:]) if parameter.dim() > 1 else 10
                parameter.copy_(noise * GAINS.get(owner, 1.0) / math.sqrt(fan_in))
        # not even an end: every answer has the length asked for
        model.get_output_embeddings().weight[silent] = 0.0


def whisper(mels: int = 16, **more: Any) -> Any:
    """A Whisper feature extractor."""
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=mels, return_attention_mask=True, **more)


OMNI = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}


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


def _ears(extractor: Callable[[], Any], tokens: dict[str, str], template: str) -> Any:
    """The parts of a processor whose eyes are never loaded."""

    def saved(folder: Path) -> Any:
        made = tokenizer(tokens, template)
        extractor().save_pretrained(folder)
        made.save_pretrained(folder)
        return made

    return saved


def _mistral(folder: Path) -> Any:
    """Voxtral's processor on a tokenizer of mistral-common that knows the 256 bytes."""
    from mistral_common.tokens.tokenizers.base import SpecialTokens
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer
    from transformers import MistralCommonBackend, VoxtralProcessor

    special = list(Tekkenizer.DEPRECATED_SPECIAL_TOKENS)
    names = {24: SpecialTokens.audio, 25: SpecialTokens.begin_audio, 34: SpecialTokens.transcribe}
    for rank in range(len(special), 40):
        name = names.get(rank, f"<SPECIAL_{rank}>")
        special.append({"rank": rank, "token_str": str(name), "is_control": True})
    sound = {
        "sampling_rate": 16_000,
        "frame_rate": 12.5,
        "chunk_length_s": 30.0,
        "audio_encoding_config": {"num_mel_bins": 16, "hop_length": 160, "window_size": 400},
    }
    data = {
        "config": {
            "pattern": r"[^\s]+|\s+",
            "num_vocab_tokens": 256,
            "default_vocab_size": 296,
            "default_num_special_tokens": 40,
            "version": "v7",
        },
        "vocab": [
            {"rank": n, "token_bytes": base64.b64encode(bytes([n])).decode(), "token_str": None}
            for n in range(256)
        ],
        "special_tokens": special,
        "audio": sound,
    }
    (folder / "tekken.json").write_text(json.dumps(data))
    made = MistralCommonBackend(tokenizer_path=folder / "tekken.json")
    VoxtralProcessor(whisper(), made).save_pretrained(folder)
    return made


def _processor(
    name: str, extractor: Callable[[], Any], tokens: dict[str, str], template: str
) -> Any:
    """A whole processor."""

    def saved(folder: Path) -> Any:
        import transformers

        made = tokenizer(tokens)
        processor = getattr(transformers, name)(extractor(), made, chat_template=template)
        processor.save_pretrained(folder)
        return made

    return saved


def _vibevoice_extractor() -> Any:
    from transformers import VibeVoiceAcousticTokenizerFeatureExtractor

    return VibeVoiceAcousticTokenizerFeatureExtractor()


def _qwen3_asr_extractor() -> Any:
    from transformers import Qwen3ASRFeatureExtractor

    return Qwen3ASRFeatureExtractor(feature_size=16)


def _phi4_extractor() -> Any:
    from transformers import Phi4MultimodalFeatureExtractor

    return Phi4MultimodalFeatureExtractor()


def _granite(folder: Path) -> Any:
    """A processor whose chat wants plain text."""
    from transformers import GraniteSpeechFeatureExtractor, GraniteSpeechProcessor

    made = tokenizer({"audio_token": "<|audio|>"}, _PLAIN)
    GraniteSpeechProcessor(GraniteSpeechFeatureExtractor(), made).save_pretrained(folder)
    made.save_pretrained(folder)
    return made


def _fun_extractor() -> Any:
    from transformers import FunAsrNanoFeatureExtractor

    return FunAsrNanoFeatureExtractor(feature_size=16)


_HEARD = "<|audio_bos|><|AUDIO|><|audio_eos|>"
_VIBEVOICE = {"num_filters": 2, "depths": [1] * 7, "hidden_size": 16}
_PLAIN = (
    "{% for turn in messages %}<|{{ turn['role'] }}|>{{ turn['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

FAMILIES = [
    Tiny(
        "qwen2_5_omni",
        "Qwen2_5OmniThinkerConfig",
        "Qwen2_5OmniThinkerForConditionalGeneration",
        {
            "audio_config": _WHISPER | {"output_dim": 64},
            "vision_config": _EYES | {"fullatt_block_indexes": [0]},
            "vision_start_token_id": 3,
        },
        _ears(lambda: whisper(chunk_length=10), OMNI, chatml(_HEARD)),
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
        _ears(lambda: whisper(chunk_length=10), OMNI, chatml(_HEARD)),
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
        _processor("Qwen3ASRProcessor", _qwen3_asr_extractor, OMNI, chatml(_HEARD)),
        "<|AUDIO|>",
        request={"language": "en"},
    ),
    Tiny(
        "voxtral",
        "VoxtralConfig",
        "VoxtralForConditionalGeneration",
        {
            "audio_config": {
                "num_mel_bins": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "hidden_size": 32,
                "intermediate_size": 128,
            },
        },
        _mistral,
        "[AUDIO]",
        request={"language": "en", "model_id": "tiny", "format": "wav", "sampling_rate": 16_000},
        needs="mistral_common",
    ),
    Tiny(
        "audioflamingo3",
        "AudioFlamingo3Config",
        "AudioFlamingo3ForConditionalGeneration",
        {"audio_config": _WHISPER},
        _processor(
            "AudioFlamingo3Processor", whisper, {"audio_token": "<sound>"}, chatml("<sound>")
        ),
        "<sound>",
        request={},
    ),
    Tiny(
        "glmasr",
        "GlmAsrConfig",
        "GlmAsrForConditionalGeneration",
        {
            "audio_config": {
                "num_mel_bins": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "hidden_size": 32,
                "intermediate_size": 128,
            },
            "tie_word_embeddings": False,
        },
        _processor("GlmAsrProcessor", whisper, {"audio_token": "<|pad|>"}, chatml("<|pad|>")),
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
        _processor(
            "VibeVoiceAsrProcessor",
            _vibevoice_extractor,
            {
                "audio_token": "<|box_start|>",
                "audio_bos_token": "<|object_ref_start|>",
                "audio_eos_token": "<|object_ref_end|>",
            },
            chatml("<|object_ref_start|><|box_start|><|object_ref_end|><|AUDIO_DURATION|> s"),
        ),
        "<|box_start|>",
        request={},
        generate={"sample": False},
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
        _ears(
            _phi4_extractor,
            {"audio_token": "<|audio|>", "image_token": "<|image|>", "end_token": "<|end|>"},
            _PLAIN,
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
        _granite,
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
        _processor(
            "FunAsrNanoProcessor",
            _fun_extractor,
            {"audio_token": "<|object_ref_start|>"},
            chatml("<|object_ref_start|>"),
        ),
        "<|object_ref_start|>",
        request={"language": "en"},
        needs="torchaudio",
    ),
]
