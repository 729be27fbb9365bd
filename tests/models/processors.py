"""Processors of tiny checkpoints: the real classes around a tokenizer made here."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHATML = (
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n"
    "{% for part in turn['content'] %}"
    "{% if part['type'] == 'audio' %}BOSAUDIOEOS"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = (
    "{% for turn in messages %}<|{{ turn['role'] }}|>{{ turn['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
HEARD = "<|audio_bos|><|AUDIO|><|audio_eos|>"
OMNI = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}


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


def extractor(name: str, **sizes: Any) -> Callable[[], Any]:
    """Makes a feature extractor of this class."""

    def made() -> Any:
        import transformers

        return getattr(transformers, name)(**sizes)

    return made


def whisper(**more: Any) -> Callable[[], Any]:
    """Makes a Whisper feature extractor."""
    return extractor("WhisperFeatureExtractor", feature_size=16, return_attention_mask=True, **more)


def ears(hears: Callable[[], Any], tokens: dict[str, str], template: str) -> Any:
    """The parts of a processor whose eyes are never loaded."""

    def saved(folder: Path) -> Any:
        made = tokenizer(tokens, template)
        hears().save_pretrained(folder)
        made.save_pretrained(folder)
        return made

    return saved


def mistral(folder: Path) -> Any:
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
    VoxtralProcessor(whisper()(), made).save_pretrained(folder)
    return made


def processor(name: str, hears: Callable[[], Any], tokens: dict[str, str], template: str) -> Any:
    """A whole processor."""

    def saved(folder: Path) -> Any:
        import transformers

        made = tokenizer(tokens)
        parts = hears(), made
        getattr(transformers, name)(*parts, chat_template=template).save_pretrained(folder)
        return made

    return saved


def carded(processor: Callable[[Path], Any], family: str) -> Callable[[Path], Any]:
    """This processor beside a card that names the family."""

    def saved(folder: Path) -> Any:
        (folder / "fastadasp.json").write_text(json.dumps({"family": family}))
        return processor(folder)

    return saved


def granite(folder: Path) -> Any:
    """A processor whose chat wants plain text."""
    from transformers import GraniteSpeechFeatureExtractor, GraniteSpeechProcessor

    made = tokenizer({"audio_token": "<|audio|>"}, PLAIN)
    GraniteSpeechProcessor(GraniteSpeechFeatureExtractor(), made).save_pretrained(folder)
    made.save_pretrained(folder)
    return made


def two_ears(folder: Path) -> Any:
    """WavLLM's parts: an extractor for Whisper, and a tokenizer that knows where a text starts."""
    made = tokenizer({"audio_token": "<|audio|>"})
    made.bos_token = "<|im_start|>"
    whisper()().save_pretrained(folder)
    made.save_pretrained(folder)
    return made
