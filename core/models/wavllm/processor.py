"""What WavLLM is given: two views of a waveform, a prompt with audio in it, and the instruction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, WhisperFeatureExtractor

from ...records import Waveform
from .configuration import WavLLMConfig
from .modeling import SAMPLES_PER_STATE

LEFT = (
    "[INST]<<SYS>>\nAs a helpful language and speech assistant, you are able to understand the"
    " speech content provided by the user, and assist the user with a variety of tasks using"
    " natural language.\n<</SYS>>\n\n<SPEECH>"
)
RIGHT = " </SPEECH> ", " [/INST]"
_NORM_EPSILON = 1e-7  # as transformers' Wav2Vec2FeatureExtractor


class Heard(NamedTuple):
    """Log-mel frames of a window, (mels, frames), and the waveform for WavLM, (samples,)."""

    mels: Tensor
    wave: Tensor


class WavLLMProcessor:
    """Waveforms and prompts to what the model takes.

    Args:
        feature_extractor: Whisper's.
        tokenizer: LLaMA's.
        config: of the model.
    """

    audio_token = "<|audio|>"

    def __init__(self, feature_extractor: Any, tokenizer: Any, config: WavLLMConfig) -> None:
        self.feature_extractor = feature_extractor
        self.tokenizer = tokenizer
        self._config = config

    @classmethod
    def from_pretrained(cls, place: str, how: Mapping[str, Any]) -> WavLLMProcessor:
        """From a folder or a hub id; `how` as `from_pretrained` takes it."""
        return cls(
            WhisperFeatureExtractor.from_pretrained(place, **how),
            AutoTokenizer.from_pretrained(place, **how),
            WavLLMConfig.from_pretrained(place, **how),
        )

    def hear(self, wave: Waveform) -> Heard:
        """Both views of a waveform of at most 30 s at 16 kHz."""
        extractor = self.feature_extractor
        made = extractor(wave, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        if self._config.normalize_waveform:
            wave = (wave - wave.mean()) / np.sqrt(wave.var() + _NORM_EPSILON)
        return Heard(made["input_features"][0], torch.from_numpy(wave))

    def prompt(self, instruction: str) -> str:
        """The whole prompt as text, with one audio placeholder."""
        return f"{LEFT}{self.audio_token}{instruction.join(RIGHT)}"

    def around(self, prompt: str) -> tuple[list[int], list[int]]:
        """Token ids before and after the audio of a prompt.

        Both begin with the start token. Behind the audio that is the published generator's doing:
        there it takes the place of the first piece, which is the space, and the published results
        came about so. Tokenizers differ in what they make of that space; it is left out here.
        """
        before, _, after = prompt.partition(self.audio_token)
        start = self.tokenizer.bos_token_id
        return [start, *self._ids(before)], [start, *self._ids(after.removeprefix(" "))]

    def quoted(self, instruction: str) -> list[int]:
        """Token ids that the gate is made from."""
        return self._ids(f'"{instruction}"')

    def __call__(
        self, text: Sequence[str], audio: Sequence[Waveform], sampling_rate: int = 16_000
    ) -> dict[str, Tensor]:
        """All that `generate` takes, for one prompt and one waveform.

        Args:
            text: a prompt of `prompt`.
            audio: a waveform.
            sampling_rate: of it; 16 kHz.

        Raises:
            ValueError: more than one, or another rate.
        """
        if len(text) != 1 or len(audio) != 1 or sampling_rate != 16_000:
            raise ValueError("one prompt and one waveform at 16 kHz at a time")
        heard = self.hear(audio[0])
        before, after = self.around(text[0])
        instruction = text[0].partition(self.audio_token)[2]
        instruction = instruction.removeprefix(RIGHT[0]).removesuffix(RIGHT[1])
        spoken = [self._config.audio_token_id] * audio_tokens(len(heard.wave), self._config)
        return {
            "input_ids": torch.tensor([[*before, *spoken, *after]]),
            "input_features": heard.mels[None],
            "input_values": heard.wave[None],
            "lengths": torch.tensor([len(heard.wave)]),
            "instruction_ids": torch.tensor([self.quoted(instruction)]),
        }

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def audio_tokens(samples: int, config: WavLLMConfig) -> int:
    """Audio tokens of so many samples: of the path that gives fewer."""
    wavlm, voice = config.wavlm_config, samples
    for kernel, stride in zip(wavlm.conv_kernel, wavlm.conv_stride, strict=True):
        voice = (voice - kernel) // stride + 1
    states = min(-(-samples // SAMPLES_PER_STATE), voice)
    return -(-states // 4)
