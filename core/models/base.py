"""What every SpeechLM can be asked, whatever its family.

A family file says how its prompts read, how its features are made and where its modules lie; the
rest is here. Knows transformers, knows nothing of reduction, batching or files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import TranscriptionError, UsageError
from ..flops import DecoderShape
from ..languages import canonical
from ..placing import home
from ..records import Seconds, Waveform
from .facts import Encoded, Facts, Family, Request, language_name
from .shape import shape_of

__all__ = ["Encoded", "Facts", "Request", "SpeechLM"]


class SpeechLM(ABC):
    """A loaded model with its processor.

    Args:
        name: as the user called it.
        revision: what fixes the weights, None if unknown.
        model: the transformers model, in eval mode on its device.
        processor: its processor.
        card: contents of the folder's `fastadasp.json`, which overrides what the family assumes.
    """

    about: ClassVar[Family]
    architecture: ClassVar[Any] = None
    """Name of the transformers class, where the checkpoint does not name the right one; or a class
    of the family's own."""
    system: ClassVar[dict[str, str]] = {}
    """Text of the system turn by task; none where a task is missing."""
    audio_first: ClassVar[bool] = True
    """Whether the audio stands before the words of its turn."""
    names_seconds: ClassVar[bool] = False
    """Whether the length of the audio is said in the prompt."""
    bounded: ClassVar[bool] = False
    """Whether prompt and answer end at the decoder's positions: it would go on otherwise there."""

    def __init__(
        self, name: str, revision: str | None, model: Any, processor: Any, card: dict[str, Any]
    ) -> None:
        self.name = name
        self.revision = revision
        self.model = model
        self.processor = processor
        self.card = card

    @classmethod  # noqa: B027
    def register(cls) -> None:
        """Make classes of the family's own known to transformers; none, as a rule."""

    @classmethod
    def load_processor(cls, place: str, how: Mapping[str, Any]) -> Any:
        """The checkpoint's processor.

        Args:
            place: folder or hub id.
            how: where to look and for which revision, as `from_pretrained` takes it.
        """
        from transformers import AutoProcessor

        return AutoProcessor.from_pretrained(place, **how)

    @classmethod  # noqa: B027
    def prepare(cls, model: Any, place: str, how: Mapping[str, Any]) -> None:
        """Whatever a freshly loaded model needs before it can hear; nothing, as a rule.

        Args:
            model: with its weights.
            place, how: as `load_processor` takes them.

        Raises:
            StartError: a package for it is not installed, or a part of the checkpoint is missing.
        """

    @property
    def extractor(self) -> Any:
        """What makes features of waveforms."""
        return self.processor.feature_extractor

    @property
    def max_seconds(self) -> Seconds:
        """Longest window of this checkpoint."""
        return self.about.max_seconds

    @property
    def tokens_per_second(self) -> float:
        """Audio tokens per second of audio."""
        return self.about.tokens_per_second

    @property
    def facts(self) -> Facts:
        """What the model can take and do: the family's word, and above it the card's."""
        about, card = self.about, self.card
        return Facts(
            sample_rate=self.extractor.sampling_rate,
            max_seconds=self.max_seconds,
            chunk_seconds=card.get("chunk_seconds", about.chunk_seconds),
            tokens_per_second=self.tokens_per_second,
            tasks=tuple(card.get("tasks") or about.tasks),
            source_languages=_codes(card.get("source_languages", about.source_languages)),
            target_languages=_codes(card.get("target_languages", about.target_languages)),
        )

    @abstractmethod
    def words(self, request: Request) -> str:
        """The family's own instruction for a task that it has."""

    def instruction(self, request: Request) -> str:
        """The words that go with the audio: the user's, else the card's, else the family's."""
        own = self.card.get("prompts", {}).get(request.task)
        if request.prompt or own is None:
            return request.prompt or self.words(request)
        target = language_name(request.target_language) or "English"
        return str(own).format(question=request.question or "", target=target.lower())

    def prompt(self, request: Request) -> str:
        """The whole prompt as text with one audio placeholder: `messages` in the chat template."""
        text: str = self.processor.apply_chat_template(
            self.messages(request), add_generation_prompt=True, tokenize=False
        )
        return text

    def messages(self, request: Request) -> list[dict[str, Any]]:
        """The conversation: a system turn if the family has one, then audio and words."""
        audio = {"type": "audio", "audio_url": ""}
        words = {"type": "text", "text": self.instruction(request)}
        content = [audio, words] if self.audio_first else [words, audio]
        turns: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if request.task in self.system:
            text = {"type": "text", "text": self.system[request.task]}
            turns.insert(0, {"role": "system", "content": [text]})
        return turns

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
    def detects(self) -> bool:
        """Whether it finds out by itself which language is spoken."""
        return True

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
        """Where prompts enter the decoder, all of which runs there unless it is spread."""
        return home(self.model.get_input_embeddings())

    @property
    def dtype(self) -> torch.dtype:
        """What the decoder computes in; the head keeps it also where layers are quantized."""
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
        return shape_of(self.model.config.get_text_config())

    def check(self, request: Request) -> None:
        """Raise UsageError if the model lacks the task or a language, naming what it has."""
        facts = self.facts
        _require(self.name, "task", request.task, facts.tasks)
        _require(self.name, "spoken language", request.language, facts.source_languages)
        _require(self.name, "target language", request.target_language, facts.target_languages)
        if request.language is None and request.task in ("asr", "st") and not self.detects:
            known = ", ".join(facts.source_languages or ())
            raise UsageError(
                f"{self.name} must be told the spoken language: give --language, one of {known}"
            )
        pair = (request.language or "en", request.target_language or "en")
        if request.task == "st" and self.about.through_english and "en" not in pair:
            raise UsageError(
                f"{self.name} translates from and into English only, not from '{pair[0]}' into"
                f" '{pair[1]}'; use --lang en"
            )

    def prompt_ids(
        self, request: Request, seconds: Seconds | None = None
    ) -> tuple[list[int], list[int]]:
        """Token ids before and after the audio.

        Args:
            request: what is wanted.
            seconds: length of the audio, for those that name it (`names_seconds`).
        """
        before, _, after = self.prompt(request).partition(self.processor.audio_token)
        return self._ids(before), self._ids(after)

    def gate(self, request: Request) -> Tensor | None:
        """What the decoder is steered by through the whole answer, beside its tokens: (hidden,).

        It goes with the prompt's row from prefill to the last token. None, as a rule.
        """
        return None

    def audio_tokens(self, seconds: Seconds) -> int:
        """About as many tokens as audio of this length becomes, at least 1."""
        return max(1, int(seconds * self.tokens_per_second))

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


def _codes(value: Any) -> tuple[str, ...] | None:
    return None if value is None else tuple(canonical(code) or code for code in value)
