"""Tokenizer and processor of the embedded model: every word of the grammar is one token."""

from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2AudioProcessor

from . import grammar, numbers, questions
from .features import feature_extractor
from .tasks import LABELS, TASKS

AUDIO, AUDIO_BEGIN, AUDIO_END = "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"
TURN_BEGIN, TURN_END, TEXT_END = "<|im_start|>", "<|im_end|>", "<|endoftext|>"

_SYSTEM = "system\nYou are a helpful assistant."
_FRAMES = (_SYSTEM, "user\nAudio 1: ", "assistant\n", "\n")


def build_processor() -> Any:
    """Train the byte-level BPE and return the standard `Qwen2AudioProcessor`.

    Deterministic: the same grammar gives the same token numbers.
    """
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    specials = [TEXT_END, TURN_BEGIN, TURN_END, AUDIO, AUDIO_BEGIN, AUDIO_END]
    trainer = trainers.BpeTrainer(
        vocab_size=8192,  # more than needed: merging ends when every word is whole
        min_frequency=2,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator(_corpus(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token=TURN_END,
        pad_token=TEXT_END,
        additional_special_tokens=[TURN_BEGIN, AUDIO, AUDIO_BEGIN, AUDIO_END],
        padding_side="left",
    )
    processor = Qwen2AudioProcessor(feature_extractor(), tokenizer)
    # without a template of its own a saved processor could not format a chat
    processor.chat_template = processor.default_chat_template
    return processor


def prompt_ids(processor: Any, prompt: str) -> tuple[list[int], list[int]]:
    """Return the token ids before and after the audio tokens, by the chat template."""
    text = chat_text(processor, prompt)
    before, after = text.split(AUDIO)
    encode = processor.tokenizer.encode
    return encode(before, add_special_tokens=False), encode(after, add_special_tokens=False)


def answer_ids(processor: Any, answer: str) -> list[int]:
    """Return the ids of an answer: its words, each with a leading space, and the end of turn."""
    ids: list[int] = processor.tokenizer.encode(" " + answer, add_special_tokens=False)
    return [*ids, processor.tokenizer.eos_token_id]


def chat_text(processor: Any, prompt: str) -> str:
    """Format one recording followed by a prompt with the processor's chat template."""
    content = [{"type": "audio", "audio_url": ""}, {"type": "text", "text": prompt}]
    chat = [{"role": "user", "content": content}]
    text: str = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return text


def _corpus() -> list[str]:
    spoken = [*grammar.english_words(), *grammar.german_words()]
    asked = questions.question_words()
    words = [f" {word}" for word in [*spoken, *asked, *LABELS]]
    prompts = [task.prompt for task in TASKS.values()]
    # no space stands before the first word of a question and inside a German number
    return [*words, *asked, *numbers.german_pieces(), *_FRAMES, *prompts] * 4
