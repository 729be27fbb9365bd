"""The training losses. The auxiliary heads live here and are thrown away after training.

Frame labels from the synthesiser tell the encoder where each phoneme and word is. Without them a
model this small needs many times the audio before it finds out by itself.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .dataset import IGNORED, Batch
from .model import PHONE_LAYER, WIDTH


@dataclass(frozen=True, slots=True)
class Weights:
    """Weight of each auxiliary loss; the language model's is 1."""

    phones: float = 0.5
    words: float = 0.5
    ctc: float = 0.1


class Losses(NamedTuple):
    """The weighted sum and its unweighted parts, all scalars."""

    total: Tensor
    text: Tensor
    phones: Tensor
    words: Tensor
    ctc: Tensor


class Heads(nn.Module):
    """Linear readouts for the frame losses; class 0 is silence (phones) or blank (words)."""

    def __init__(self, n_phones: int, n_words: int) -> None:
        """Make room for the numbered phonemes and words, which start at 1."""
        super().__init__()
        self.phones = nn.Linear(WIDTH, n_phones + 1)
        self.words = nn.Linear(WIDTH, n_words + 1)


def encode(model: Any, mel: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Run encoder and projector on the batch's own length: mel (B, N_MELS, T), frames (B,).

    The same maths as the model's 30 s path. Returns the states after `PHONE_LAYER` layers
    (B, T / 2, WIDTH) and the audio tokens (B, T / 4, WIDTH).
    """
    tower = model.model.audio_tower
    hidden = F.gelu(tower.conv2(F.gelu(tower.conv1(mel)))).transpose(1, 2)
    size = hidden.shape[1]
    hidden = hidden + tower.embed_positions.weight[:size]
    heard = torch.arange(size, device=mel.device)[None] < frames[:, None]
    mask = heard[:, None, None, :].expand(-1, 1, size, -1)
    middle = hidden
    for depth, layer in enumerate(tower.layers, start=1):
        hidden = layer(hidden, mask)
        if depth == PHONE_LAYER:
            middle = hidden
    pooled = tower.avg_pooler(hidden.transpose(1, 2)).transpose(1, 2)
    return middle, model.model.multi_modal_projector(tower.layer_norm(pooled))


def losses(model: Any, heads: Heads, batch: Batch, weights: Weights) -> Losses:
    """Run one packed batch through the model and score everything."""
    middle, audio = encode(model, batch.mel, batch.frames)
    # silent frames of real recordings carry labels, their phonemes do not: cross-entropy skips them
    phones = F.cross_entropy(
        heads.phones(middle).flatten(0, 1), batch.phones.flatten(), ignore_index=IGNORED
    )
    scores = heads.words(audio)
    words = F.cross_entropy(scores.flatten(0, 1), batch.words.flatten(), ignore_index=IGNORED)
    ctc = F.ctc_loss(
        scores.log_softmax(-1).transpose(0, 1),
        batch.transcript,
        batch.tokens,
        batch.transcript_lengths,
        zero_infinity=True,
    )
    text = _text_loss(model, batch, audio)
    total = text + weights.phones * phones + weights.words * words + weights.ctc * ctc
    return Losses(total, text, phones, words, ctc)


def _text_loss(model: Any, batch: Batch, audio: Tensor) -> Tensor:
    embedded = model.get_input_embeddings()(batch.ids)
    real = torch.arange(audio.shape[1])[None] < batch.tokens[:, None]
    embedded[batch.is_audio] = audio[real]
    hidden = model.model.language_model(
        inputs_embeds=embedded,
        attention_mask=batch.visible,
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    labels = batch.labels[:, 1:]
    asked = labels != IGNORED
    # the vocabulary head only where there is an answer: a third of the positions
    return F.cross_entropy(model.lm_head(hidden[:, :-1][asked]), labels[asked])
