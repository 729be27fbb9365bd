"""Families whose own processor and `get_audio_features` in transformers do the work.

A family states its facts and its words; prompts come from the processor's chat template or its
`apply_transcription_request`, features from the processor, audio tokens from the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..errors import TranscriptionError
from ..records import Seconds, Waveform
from .base import SpeechLM
from .counting import Counting, shares
from .facts import Encoded, Request, language_name
from .hearing import load_hearing

_TEXT_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"})
_SHORTEST_SECONDS = 0.5  # below it some encoders have no whole frame left


class Native(SpeechLM):
    """What these families share; what differs are a few lines in each."""

    together: ClassVar[bool] = True
    """Whether a waveform's tokens do not depend on those encoded beside it."""
    ears: ClassVar[str | None] = None
    """Name of a processor class that could also see: it is loaded without torchvision."""

    @classmethod
    def load_processor(cls, place: str, how: Mapping[str, Any]) -> Any:
        """The checkpoint's processor, or its ears alone."""
        if cls.ears is None:
            return super().load_processor(place, how)
        return load_hearing(cls.ears, place, how)

    @property
    def audio_id(self) -> int:
        """Id of the token that stands for audio."""
        found: int = self.processor.tokenizer.convert_tokens_to_ids(self.processor.audio_token)
        return found

    def encode(self, waveforms: Sequence[Waveform], scored: bool = False) -> Encoded:
        """Audio tokens of each waveform, as the processor counts them; by these it pays."""
        shortest = round(_SHORTEST_SECONDS * self.extractor.sampling_rate)
        waves = self._checked(waveforms, shortest)
        groups = [waves] if self.together else [[wave] for wave in waves]
        tokens, flops = [], []
        for group in groups:
            with Counting() as spent:
                rows = self._tokens(group)
            tokens += rows
            flops += shares(spent.flops, [len(row) for row in rows])
        return Encoded(tokens, flops)

    def _tokens(self, waves: list[Waveform]) -> list[Tensor]:
        """Encode waveforms side by side."""
        inputs, counts = self._inputs(waves)
        states = self._features({name: self._moved(value) for name, value in inputs.items()})
        if len(states) != sum(counts):
            raise TranscriptionError(
                f"the encoder gave {len(states)} audio tokens where the processor of {self.name}"
                f" counts {sum(counts)}; use a smaller --chunk-length"
            )
        return list(torch.split(states, counts))

    def _inputs(self, waves: list[Waveform]) -> tuple[dict[str, Tensor], list[int]]:
        """The processor's tensors for the encoder, and the audio tokens of each waveform."""
        made = dict(
            self.processor(
                text=[self.processor.audio_token] * len(waves),
                audio=waves,
                # of the text alone: how audio is padded is the family's affair
                text_kwargs={"padding": True},
                return_tensors="pt",
                **self._audio_options,
            )
        )
        counts: list[int] = (made["input_ids"] == self.audio_id).sum(-1).tolist()
        return {name: made[name] for name in made.keys() - _TEXT_INPUTS}, counts

    @property
    def _audio_options(self) -> dict[str, Any]:
        return {"sampling_rate": self.extractor.sampling_rate}

    def _features(self, inputs: dict[str, Tensor]) -> Tensor:
        """Projected audio tokens of all waveforms one after the other, (tokens, hidden)."""
        states: Tensor = self.model.get_audio_features(**inputs, return_dict=True).pooler_output
        return states

    def _moved(self, values: Tensor) -> Tensor:
        dtype = self.dtype if values.is_floating_point() else None
        return values.to(self.device, dtype)


class Transcribing(Native):
    """Families whose processor writes the prompt of a transcription itself."""

    def words(self, request: Request) -> str:
        """None but the question: the only other task of such a family is a free one."""
        return request.question or ""

    def prompt_ids(
        self, request: Request, seconds: Seconds | None = None
    ) -> tuple[list[int], list[int]]:
        """For asr the processor's request for a transcription, on silence of this length."""
        if request.task != "asr":
            return super().prompt_ids(request, seconds)
        rate = self.extractor.sampling_rate
        silence = np.zeros(round((seconds or 1.0) * rate), np.float32)
        made = self.processor.apply_transcription_request(
            audio=silence, **self._wanted(request), **self._request_options
        )
        ids: list[int] = torch.as_tensor(made["input_ids"])[0].tolist()
        return around(ids, self.audio_id)

    def _wanted(self, request: Request) -> dict[str, Any]:
        """What the processor is told of a request: words of the user's own, if any."""
        return {"prompt": request.prompt} if request.prompt else {}

    @property
    def _request_options(self) -> dict[str, Any]:
        return {}


class Framing(Transcribing):
    """Families that frame their answers, and whose processor takes the words out."""

    def text(self, ids: Sequence[int]) -> str:
        """The transcription alone: no language, times or speakers."""
        found: str = self.processor.decode(ids, return_format="transcription_only")
        return found.strip()


class HiddenStates(Native):
    """Families whose encoder ends in the projection: its last hidden states are the tokens."""

    def _features(self, inputs: dict[str, Tensor]) -> Tensor:
        made: Any = self.model.get_audio_features(**inputs, return_dict=True)
        states: Tensor = made.last_hidden_state
        return states


def around(ids: Sequence[int], audio: int) -> tuple[list[int], list[int]]:
    """The ids before and after the one run of audio tokens."""
    first = ids.index(audio)
    last = len(ids) - 1 - ids[::-1].index(audio)
    return list(ids[:first]), list(ids[last + 1 :])


def spoken(before: str, request: Request, after: str) -> str:
    """The name of the spoken language, if it is known, between two words."""
    return " ".join(filter(None, [before, language_name(request.language), after]))


def wanted(request: Request) -> str:
    """English name of the language to translate into."""
    return language_name(request.target_language) or "English"
