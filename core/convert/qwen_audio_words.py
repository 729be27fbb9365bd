"""What Qwen-Audio reads: its tokens and how a turn is written, as a processor of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .byte_pairs import load_ranks, tokenizer

VOCABULARY = "qwen.tiktoken"
AUDIO, AUDIO_START, AUDIO_END = "[[[AUDIO:modality]]]", "<audio>", "</audio>"
END, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_HOP, _RATE = 160, 16_000

# the pieces that a text is cut into: contractions, words, digits one by one, signs, blanks
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TASKS = (
    "startoftranscript startofanalysis translate transcribe caption keyword unknown"
    " en zh de es ko fr ja it zh_tr notimestamps sil timestamps"
)
_STYLES = (
    "caption_audiocaps caption_clotho audioset_ontology caption_plain itn wo_itn"
    " startofentityvalue endofentityvalue startofentitytype endofentitytype"
    " named_entity_recognition audio_grounding startofword endofword delim emotion_recognition"
    " music_description note_analysis pitch"
)
_SUBJECTS = (
    "sonic instrument speaker_meta song_meta question answer choice scene event"
    " vocal_classification speech_understanding scenario action entities speech_edit"
)
_NAMES = (
    *_TASKS.split(),
    *(f"{hundredths / 100:.2f}" for hundredths in range(3001)),
    *_STYLES.split(),
    *(f"midi_pitch_{number}" for number in range(128)),
    "velocity",
    *(f"midi_velocity_{number}" for number in range(128)),
    *_SUBJECTS.split(),
)
SPECIAL = (
    END,
    TURN_START,
    TURN_END,
    *(f"<|extra_{number}|>" for number in range(205)),
    AUDIO,
    *(f"<|{name}|>" for name in _NAMES),
    AUDIO_START,
    AUDIO_END,
)
"""Tokens behind those of the vocabulary, in the order of their ids."""

_HEARD = f"{AUDIO_START}{AUDIO}{AUDIO_END}"
RAW_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    f"{{% if part['type'] == 'audio' %}}{_HEARD}{{% else %}}{{{{ part['text'] }}}}{{% endif %}}"
    "{% endfor %}{% endfor %}"
)
"""The pretrained model knows no turns: what it is told stands behind the audio."""

CHAT_TEMPLATE = (
    "{% set heard = namespace(count=0) %}"
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' %}{% set heard.count = heard.count + 1 %}"
    f"Audio {{{{ heard.count }}}}:{_HEARD}\n"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML; other than in Qwen2-Audio no blank stands behind the number of a clip."""


def processor(source: Path, mels: int, frames: int, chat: bool) -> Any:
    """A `Qwen2AudioProcessor` with the vocabulary of a published checkpoint.

    Args:
        source: folder of the checkpoint.
        mels: bins of a frame.
        frames: positions of the encoder, each of two mel frames.
        chat: whether it knows turns.
    """
    from transformers import PreTrainedTokenizerFast, Qwen2AudioProcessor, WhisperFeatureExtractor

    words = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(load_ranks(source / VOCABULARY), _PATTERN, SPECIAL),
        eos_token=END,
        pad_token=END,
        extra_special_tokens={
            "audio_token": AUDIO,
            "audio_bos_token": AUDIO_START,
            "audio_eos_token": AUDIO_END,
        },
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    extractor = WhisperFeatureExtractor(
        feature_size=mels, chunk_length=frames * 2 * _HOP // _RATE, return_attention_mask=True
    )
    template = CHAT_TEMPLATE if chat else RAW_TEMPLATE
    return Qwen2AudioProcessor(extractor, words, chat_template=template)
