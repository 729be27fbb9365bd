"""WavLLM as a SpeechLM. Prompts: the published test files, word for word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel

from ...records import Seconds, Waveform
from ..base import SpeechLM
from ..counting import Counting, shares
from ..facts import Encoded, Family, Request
from .configuration import WavLLMConfig
from .modeling import WavLLMForConditionalGeneration
from .processor import Heard, WavLLMProcessor, audio_tokens

_SHORTEST_SECONDS = 0.1
_WORDS = {
    "asr": "Based on the attached audio, generate a comprehensive text transcription of the spoken"
    " content.",
    "st": "Translate the audio clip into German.",
    "er": "Can you describe the emotional condition of the speaker in the provided audio clip?",
    "sv": "Is there only one speaker in the audio clip?",
}


class WavLLM(SpeechLM):
    """Adapter of `WavLLMForConditionalGeneration`."""

    about = Family(
        example="v-sjhu/WavLLM",
        tasks=("asr", "st", "er", "sv", "sqa", "chat"),
        max_seconds=30.0,
        tokens_per_second=12.5,
        source_languages=("en",),
        target_languages=("de",),
        limits="fairseq checkpoint: first fastadasp convert wavllm SRC DST",
    )
    architecture: ClassVar[Any] = WavLLMForConditionalGeneration

    @classmethod
    def register(cls) -> None:
        """Its configuration and model, which transformers does not have."""
        AutoConfig.register(WavLLMConfig.model_type, WavLLMConfig, exist_ok=True)
        AutoModel.register(WavLLMConfig, WavLLMForConditionalGeneration, exist_ok=True)

    @classmethod
    def load_processor(cls, place: str, how: Mapping[str, Any]) -> WavLLMProcessor:
        """Whisper's extractor and LLaMA's tokenizer."""
        return WavLLMProcessor.from_pretrained(place, how)

    def words(self, request: Request) -> str:
        """The published instruction; a question stands for itself, none if it is spoken."""
        return _WORDS.get(request.task, request.question or "")

    def prompt(self, request: Request) -> str:
        """LLaMA-2's chat markup with the system turn of the published code."""
        made: str = self.processor.prompt(self.instruction(request))
        return made

    def prompt_ids(
        self, request: Request, seconds: Seconds | None = None
    ) -> tuple[list[int], list[int]]:
        """Token ids before and after the audio, tokenized apart."""
        around: tuple[list[int], list[int]] = self.processor.around(self.prompt(request))
        return around

    def gate(self, request: Request) -> Tensor:
        """What the instruction makes of the LoRA, (hidden,)."""
        ids = torch.tensor([self.processor.quoted(self.instruction(request))], device=self.device)
        made: Tensor = self.model.gates(ids)[0]
        return made

    def audio_tokens(self, seconds: Seconds) -> int:
        """Those of the shorter path."""
        return max(
            1, audio_tokens(round(seconds * self.extractor.sampling_rate), self.model.config)
        )

    def features(self, waveform: Waveform) -> Heard:
        """Mel frames of a whole window, and the waveform."""
        shortest = round(_SHORTEST_SECONDS * self.extractor.sampling_rate)
        (wave,) = self._checked([waveform], shortest)
        heard: Heard = self.processor.hear(wave)
        return heard

    def encode(self, waveforms: Sequence[Any], scored: bool = False) -> Encoded:
        """Audio tokens of each waveform; all pay alike, as for a whole window of Whisper's each."""
        with Counting() as spent:
            heard = [one if isinstance(one, Heard) else self.features(one) for one in waveforms]
            waves = [one.wave for one in heard]
            padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
            tokens = self.model.get_audio_features(
                torch.stack([one.mels for one in heard]).to(self.device, self.dtype),
                padded.to(self.device, self.dtype),
                torch.tensor([len(wave) for wave in waves]),
            )
        return Encoded(tokens, shares(spent.flops, [1] * len(heard)))
