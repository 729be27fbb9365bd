"""A tiny random model with its processor, saved to a folder: the road of real checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tiny import AUDIO, EOS, MEL_BINS, PAD, VOCABULARY, tiny_qwen2_audio

WINDOW_SECONDS = 2
WORDS = ["hello", "world", "transcribe", "the", "speech", "translate", "into", "german"]
SPECIAL = {"<pad>": PAD, "<|im_start|>": 1, "<|im_end|>": EOS, "<|AUDIO|>": AUDIO}
SPECIAL |= {"<|audio_bos|>": 125, "<|audio_eos|>": 126}


def tiny_processor() -> Any:
    """Word-level tokenizer and a two-second Whisper feature extractor."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2AudioProcessor,
        WhisperFeatureExtractor,
    )

    free = (index for index in range(VOCABULARY) if index not in SPECIAL.values())
    vocabulary = {f"w{index}": index for index in free}
    for word, taken in zip(WORDS, range(3, 3 + len(WORDS)), strict=True):
        vocabulary[word] = vocabulary.pop(f"w{taken}")
    tokenizer = Tokenizer(models.WordLevel(vocabulary | SPECIAL, unk_token="w50"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<pad>",
        additional_special_tokens=["<|im_start|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"],
        padding_side="left",
    )
    extractor = WhisperFeatureExtractor(
        feature_size=MEL_BINS, chunk_length=WINDOW_SECONDS, return_attention_mask=True
    )
    return Qwen2AudioProcessor(extractor, fast)


def save_tiny(folder: Path, card: dict[str, Any] | None = None) -> Path:
    """Write model, processor and, if given, a `fastadasp.json` into `folder`."""
    model = tiny_qwen2_audio(kv_heads=2)
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    if card is not None:
        (folder / "fastadasp.json").write_text(json.dumps(card))
    return folder
