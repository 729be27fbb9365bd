"""Qwen2-Audio (Chu et al., arXiv 2407.10759) and every model of its architecture.

Whisper-like encoder on windows of exactly 30 s, average pooling to 25 tokens a second, a linear
projector, Qwen2 as decoder. Its processor cuts longer audio without a word, so length is checked
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import gelu
from transformers.masking_utils import create_bidirectional_mask

from ..errors import TranscriptionError
from ..flops import SCORE_CHUNK, EncoderShape
from ..records import Seconds, Waveform
from .base import SpeechLM
from .facts import EVERY_TASK, Encoded, Family, Request, language_name

# the pretrained (not instruction-tuned) checkpoint knows no chat markup
RAW_PROMPTS = frozenset({"Qwen/Qwen2-Audio-7B"})
SHORTEST_MEL_FRAMES = 8
"""Shorter clips are filled up with silence."""

# mel frames after the last real one that its frame sees through both convolutions
_CONVOLUTION_REACH = 2
# behind the sound: more than the convolutions and half a spectrogram's frame can see
_SILENT_FRAMES = 8


class Mel(NamedTuple):
    """Log-mel frames of a window, (mels, frames): so many are sound, the others silence."""

    frames: Tensor
    real: int


class Qwen2Audio(SpeechLM):
    """Adapter of `Qwen2AudioForConditionalGeneration`."""

    about = Family(
        example="Qwen/Qwen2-Audio-7B-Instruct",
        tasks=EVERY_TASK,
        max_seconds=30.0,
        tokens_per_second=25.0,
        source_languages=("zh", "en", "yue", "fr", "it", "es", "de", "ja", "ko"),
        chunk_seconds=None,
    )

    @property
    def max_seconds(self) -> Seconds:
        """Window of the checkpoint's feature extractor."""
        return float(self.extractor.chunk_length)

    @property
    def tokens_per_second(self) -> float:
        """A token for every four mel frames."""
        rate: float = self.extractor.sampling_rate / self.extractor.hop_length / 4
        return rate

    def words(self, request: Request) -> str:
        """Those of the published evaluations."""
        target = language_name(request.target_language) or "English"
        tag = f" <|{request.language}|>" if request.language else ""
        words = {
            "asr": f"Detect the language and recognize the speech:{tag}",
            "st": f"Detect the language and translate the speech into {target}:{tag}",
            "er": "Recognize the emotion with keywords in English:",
            "sv": "Is there one speaker or are there several speakers? Answer one or several:",
            "sqa": f"{request.question} The answer is:",
            "ac": "Generate the caption in English:",
            "chat": request.question or "",
        }
        return words[request.task]

    def prompt(self, request: Request) -> str:
        """Chat markup with the audio before the words; raw for the pretrained checkpoint."""
        if self.name in RAW_PROMPTS:
            processor = self.processor
            audio = f"{processor.audio_bos_token}{processor.audio_token}{processor.audio_eos_token}"
            return audio + self.instruction(request)
        return super().prompt(request)

    @property
    def scores_audio(self) -> bool:
        """Yes."""
        return True

    def features(self, waveform: Waveform) -> Mel:
        """Log-mel frames as the extractor makes them of a whole window, but without its padding.

        Frames are the same with some silence behind the sound as with a window full of it.
        """
        extractor = self.processor.feature_extractor
        hop = extractor.hop_length
        (wave,) = self._checked([waveform], SHORTEST_MEL_FRAMES * hop)
        real = -(-len(wave) // hop)
        length = min((real + _SILENT_FRAMES) * hop, extractor.n_samples)
        padded = np.pad(wave, (0, max(0, length - len(wave))))
        rate = extractor.sampling_rate
        made = extractor([padded], sampling_rate=rate, padding="longest", return_tensors="pt")
        frames: Tensor = made["input_features"][0]
        if frames.shape[-1] < real:
            raise TranscriptionError(
                f"the processor kept {frames.shape[-1]} of {real} frames; "
                "use a smaller --chunk-length"
            )
        return Mel(frames, real)

    def encode(self, waveforms: Sequence[Any], scored: bool = False) -> Encoded:
        """Audio tokens of each waveform, 25 a second.

        No frame depends on padding beyond the reach of the convolutions: the encoder runs on the
        longest row of the batch only, with the positions and the mask of a whole window.
        """
        heard = [one if isinstance(one, Mel) else self.features(one) for one in waveforms]
        mels = [one.real for one in heard]
        longest = self.processor.feature_extractor.nb_max_frames
        reach = min(-(-(max(mels) + _CONVOLUTION_REACH) // 4) * 4, longest)
        features = torch.stack([_reaching(one.frames, reach) for one in heard])
        frames = [(mel - 1) // 2 + 1 for mel in mels]
        counts = [(frame - 2) // 2 + 1 for frame in frames]
        pooled, before_last = self._tower(features, frames)
        tokens = [row[:count] for row, count in zip(pooled, counts, strict=True)]
        flops = self._shape.flops(reach // 2)
        if not scored:
            return Encoded(tokens, [flops] * len(heard))
        received, own = folded_attention(self._last_maps(before_last), frames, counts)
        flops += self._shape.map_flops(reach // 2)
        return Encoded(tokens, [flops] * len(heard), received, own)

    def _last_maps(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (scaled) and keys of the last encoder layer, (batch, heads, frames, size)."""
        layer = self.model.model.audio_tower.layers[-1]
        attention, normed = layer.self_attn, layer.self_attn_layer_norm(states)
        query, key = (
            made.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
            for made in (attention.q_proj(normed) * attention.scaling, attention.k_proj(normed))
        )
        return query, key

    def _tower(self, features: Tensor, frames: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Encoder and projector, as the tower's own forward but on its input's length.

        Args:
            features: log-mel frames, (batch, mels, 2 * width).
            frames: real ones of the `width` frames after the convolution, of each row.

        Returns:
            (batch, width // 2, hidden), and what entered the last layer, (batch, width, d).
        """
        model = self.model.model
        tower = model.audio_tower
        states = gelu(tower.conv1(features.to(self.device, self.dtype)))
        states = gelu(tower.conv2(states)).transpose(1, 2)
        width = states.shape[1]
        states = states + tower.embed_positions.weight[:width]
        visible = torch.arange(width) < torch.tensor(frames).unsqueeze(1)
        mask = create_bidirectional_mask(
            config=tower.config,
            inputs_embeds=states,
            attention_mask=visible.long().to(self.device),
        )
        before = states
        for layer in tower.layers:
            before, states = states, layer(states, mask)
        states = tower.avg_pooler(states.transpose(1, 2)).transpose(1, 2)
        projected: Tensor = model.multi_modal_projector(tower.layer_norm(states))
        return projected, before

    @property
    def _shape(self) -> EncoderShape:
        audio, text = self.model.config.audio_config, self.model.config.get_text_config()
        return EncoderShape(
            mels=audio.num_mel_bins,
            width=audio.d_model,
            layers=audio.encoder_layers,
            intermediate=audio.encoder_ffn_dim,
            projected=text.hidden_size,
        )


def _reaching(frames: Tensor, reach: int) -> Tensor:
    """Frames cut, or filled up with their last one: that is silence where there is room for it."""
    missing = max(0, reach - frames.shape[-1])
    return torch.cat([frames, frames[:, -1:].expand(-1, missing)], dim=1)[:, :reach]


def folded_attention(
    maps: tuple[Tensor, Tensor], frames: Sequence[int], counts: Sequence[int]
) -> tuple[list[Tensor], list[Tensor]]:
    """Attention of a bidirectional layer, folded two frames to a token, in steps of some queries.

    SA-MAP (AngelSlim, preprint 202606.0741): rows are averaged and columns summed over the two
    frames of a token; heads by their maximum for what is received, by their mean for one's own.

    Args:
        maps: scaled queries and keys, (batch, heads, frames, head size).
        frames: real frames of each row.
        counts: audio tokens of each row.

    Returns:
        received and own of each row, (tokens,), float32 each.
    """
    query, key = (part.float() for part in maps)
    width = query.shape[2]
    place = torch.arange(width, device=query.device)
    end = torch.tensor(frames, device=query.device).view(-1, 1, 1, 1)
    used = 2 * torch.tensor(counts, device=query.device).view(-1, 1, 1)
    received = torch.zeros(len(frames), width, device=query.device)
    own = torch.zeros_like(received)
    for first in range(0, width, SCORE_CHUNK):
        rows = place[first : first + SCORE_CHUNK]
        scores = query[:, :, rows] @ key.transpose(2, 3)
        share = scores.masked_fill_(place >= end, -torch.inf).softmax(-1)
        seen = share.amax(1).masked_fill_(rows[:, None] >= used, 0)
        received += seen.sum(1)
        same = place // 2 == rows[:, None] // 2
        own[:, rows] = (share.mean(1) * same).sum(-1)
    pairs = zip(received, own, counts, strict=True)
    folded = [(r[: 2 * n].view(n, 2), o[: 2 * n].view(n, 2), n) for r, o, n in pairs]
    return [r.sum(1) / (2 * n) for r, _, n in folded], [o.mean(1) for _, o, _ in folded]


FAMILY = Qwen2Audio
