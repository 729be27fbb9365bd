"""What every SpeechLM can be asked, whatever its family.

A family file says how its prompts read, how its features are made and where its modules lie; the
rest is here. Knows transformers, knows nothing of reduction, batching or files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import TranscriptionError, UsageError
from ..flops import DecoderShape
from ..records import Seconds, Waveform

LANGUAGES = {
    "ar": "Arabic",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pt": "Portuguese",
    "ru": "Russian",
    "yue": "Cantonese",
    "zh": "Chinese",
}
"""English names of the languages that families name in their prompts."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a model can take and do.

    Attributes:
        sample_rate: Hz that its features are made from.
        max_seconds: longest window; more would be cut silently.
        chunk_seconds: length of piece that it does best, None = up to the window.
        tokens_per_second: audio tokens per second of audio.
        tasks: of asr, st, er, sv, sqa, ac, chat.
        source_languages, target_languages: codes, None = not restricted.
    """

    sample_rate: int
    max_seconds: Seconds
    chunk_seconds: Seconds | None
    tokens_per_second: float
    tasks: tuple[str, ...]
    source_languages: tuple[str, ...] | None
    target_languages: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted of a segment, in the words of the command line.

    Attributes:
        task: asr | st | er | sv | sqa | ac | chat.
        language: code of the spoken language, None = detect.
        target_language: code of the translation, else None.
        question: for sqa and chat.
        prompt: replaces the task's own instruction.
    """

    task: str
    language: str | None = None
    target_language: str | None = None
    question: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch of waveforms after encoder and projector.

    Attributes:
        tokens: audio tokens of each waveform, (audio tokens, hidden).
        flops: what each of them cost, its padding in the batch included.
        received, own: attention of the last layer, folded to audio tokens, if it was asked for:
            what each token received (mean over queries of the largest head at each pair of
            frames), and what it gave itself (mean over heads); (audio tokens,), float32 each.
    """

    tokens: list[Tensor]
    flops: int
    received: list[Tensor] | None = None
    own: list[Tensor] | None = None


class SpeechLM(ABC):
    """A loaded model with its processor.

    Args:
        name: as the user called it.
        revision: what fixes the weights, None if unknown.
        model: the transformers model, in eval mode on its device.
        processor: its processor.
        card: contents of the folder's `fastadasp.json`, which overrides what the family assumes.
    """

    def __init__(
        self, name: str, revision: str | None, model: Any, processor: Any, card: dict[str, Any]
    ) -> None:
        self.name = name
        self.revision = revision
        self.model = model
        self.processor = processor
        self.card = card

    @property
    @abstractmethod
    def facts(self) -> Facts:
        """What the model can take and do."""

    @abstractmethod
    def instruction(self, request: Request) -> str:
        """The words that go with the audio."""

    @abstractmethod
    def prompt(self, instruction: str) -> str:
        """The whole prompt as text with one audio placeholder."""

    def features(self, waveform: Waveform) -> Any:
        """What `encode` takes in a waveform's place: all that can be made of it ahead of time.

        Called in threads that read, while the model works. Here: the waveform itself.

        Raises:
            TranscriptionError: the waveform is longer than the window.
        """
        return waveform

    @abstractmethod
    def encode(self, waveforms: Sequence[Any], scored: bool = False) -> Encoded:
        """Audio tokens of each waveform.

        Args:
            waveforms: mono, at the rate of `facts`; or what `features` made of them.
            scored: bring the attention of the last layer too, if `scores_audio`.

        Raises:
            TranscriptionError: a waveform is longer than the window.
        """

    @property
    def scores_audio(self) -> bool:
        """Whether `encode` can bring the encoder's attention."""
        return False

    @property
    def decoder(self) -> Any:
        """The language model's stack of decoder layers."""
        return self.model.get_decoder()

    @property
    def head(self) -> nn.Module:
        """Hidden states to logits."""
        head: nn.Module = self.model.get_output_embeddings()
        return head

    @property
    def device(self) -> torch.device:
        """Where the decoder runs."""
        device: torch.device = self.head.weight.device  # type: ignore[assignment]
        return device

    @property
    def dtype(self) -> torch.dtype:
        """What the decoder computes in."""
        dtype: torch.dtype = self.head.weight.dtype  # type: ignore[assignment]
        return dtype

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """Ids that end an answer."""
        ends = self.model.generation_config.eos_token_id
        if ends is None:
            ends = self.processor.tokenizer.eos_token_id
        return tuple(ends) if isinstance(ends, list | tuple) else (ends,)

    @property
    def decoder_shape(self) -> DecoderShape:
        """Sizes of the decoder, for the cost model."""
        config = self.model.config.get_text_config()
        heads = config.num_attention_heads
        return DecoderShape(
            hidden=config.hidden_size,
            layers=config.num_hidden_layers,
            heads=heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            intermediate=config.intermediate_size,
            vocab=config.vocab_size,
        )

    def check(self, request: Request) -> None:
        """Raise UsageError if the model lacks the task or a language, naming what it has."""
        facts = self.facts
        _require(self.name, "task", request.task, facts.tasks)
        _require(self.name, "spoken language", request.language, facts.source_languages)
        _require(self.name, "target language", request.target_language, facts.target_languages)

    def prompt_ids(self, request: Request) -> tuple[list[int], list[int]]:
        """Token ids before and after the audio."""
        instruction = request.prompt or self.instruction(request)
        placeholder = self.processor.audio_token
        before, _, after = self.prompt(instruction).partition(placeholder)
        return self._ids(before), self._ids(after)

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Embeddings of text tokens: (len(ids), hidden)."""
        index = torch.tensor(ids, device=self.device)
        embedded: Tensor = self.model.get_input_embeddings()(index)
        return embedded

    def text(self, ids: Sequence[int]) -> str:
        """Decoded answer, special tokens left out."""
        decoded: str = self.processor.tokenizer.decode(ids, skip_special_tokens=True)
        return decoded.strip()

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _checked(self, waveforms: Sequence[Waveform], shortest: int) -> list[Waveform]:
        """Waveforms of at least `shortest` samples; refuses what the processor would cut."""
        facts = self.facts
        longest = round(facts.max_seconds * facts.sample_rate)
        for wave in waveforms:
            if len(wave) > longest:
                seconds = len(wave) / facts.sample_rate
                raise TranscriptionError(
                    f"a piece of {seconds:.1f} s is longer than the {facts.max_seconds:g} s window"
                    f" of {self.name}; use --segment vad or a smaller --chunk-length"
                )
        return [np.pad(wave, (0, max(0, shortest - len(wave)))) for wave in waveforms]


def _require(model: str, what: str, value: str | None, choices: tuple[str, ...] | None) -> None:
    if value is not None and choices is not None and value not in choices:
        raise UsageError(f"{model} lacks the {what} '{value}'; it has {', '.join(choices)}")
