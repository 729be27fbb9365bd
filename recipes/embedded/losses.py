"""The training losses. The auxiliary heads live here and are thrown away after training.

Frame labels from the synthesiser tell the encoder where each phoneme and word is. Without them a
model this small needs many times the audio before it finds out by itself.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.qwen2.modeling_qwen2 import rotate_half

from .dataset import CLAUSES, IGNORED, Batch, Tables
from .model import HEADS, PHONE_LAYER, READING_LAYER, SEEKING_LAYER, WIDTH


@dataclass(frozen=True, slots=True)
class Weights:
    """Weight of each auxiliary loss; the language model's is 1."""

    phones: float = 0.5
    words: float = 0.5
    ctc: float = 0.1
    sounds: float = 0.1
    voices: float = 0.2
    moods: float = 0.3
    others: float = 0.6
    compared: float = 1.0
    fits: float = 1.0
    sought: float = 1.0


class Losses(NamedTuple):
    """The weighted sum and its unweighted parts, all scalars."""

    total: Tensor
    text: Tensor
    phones: Tensor
    words: Tensor
    ctc: Tensor
    sounds: Tensor
    voices: Tensor
    moods: Tensor
    others: Tensor
    compared: Tensor
    fits: Tensor
    sought: Tensor


_AUXILIARY = Losses._fields[2:]

_SILENCE = 0.8
"""Where silence stands between the same speaker (0) and somebody else (1), as a probability."""


class Heads(nn.Module):
    """Linear readouts for the frame losses; class 0 is silence (phones) or blank (words)."""

    def __init__(self, tables: Tables) -> None:
        """Make room for everything that is numbered."""
        super().__init__()
        self.phones = nn.Linear(WIDTH, len(tables.phones) + 1)
        self.words = nn.Linear(WIDTH, len(tables.words) + 1)
        self.voices = nn.Linear(WIDTH, len(tables.voices))
        self.moods = nn.Linear(WIDTH, len(tables.moods))
        self.others = nn.Linear(WIDTH, 2)
        self.fits = nn.Linear(WIDTH, CLAUSES)


class Encoded(NamedTuple):
    """What the losses read of encoder and projector.

    middle (B, T / 2, WIDTH) after `PHONE_LAYER` layers; tokens (B, T / 4, WIDTH), the audio tokens;
    compared (B, T / 4, T / 4), at every second frame the attention logits of one head of the last
    layer.
    """

    middle: Tensor
    tokens: Tensor
    compared: Tensor


def encode(model: Any, mel: Tensor, frames: Tensor) -> Encoded:
    """Run encoder and projector on the batch's own length: mel (B, N_MELS, T), frames (B,).

    The same maths as the model's 30 s path.
    """
    tower = model.model.audio_tower
    mel = mel.to(tower.conv1.weight.dtype)
    hidden = F.gelu(tower.conv2(F.gelu(tower.conv1(mel)))).transpose(1, 2)
    size = hidden.shape[1]
    hidden = hidden + tower.embed_positions.weight[:size]
    heard = torch.arange(size, device=mel.device)[None] < frames[:, None]
    mask = _additive(heard[:, None, None, :].expand(-1, 1, size, -1), hidden.dtype)
    middle = last = hidden
    for depth, layer in enumerate(tower.layers, start=1):
        last = hidden
        hidden = layer(hidden, mask)
        if depth == PHONE_LAYER:
            middle = hidden
    pooled = tower.avg_pooler(hidden.transpose(1, 2)).transpose(1, 2)
    tokens = model.model.multi_modal_projector(tower.layer_norm(pooled))
    return Encoded(middle, tokens, _compared(tower.layers[-1], last))


def _compared(layer: Any, hidden: Tensor) -> Tensor:
    normed = layer.self_attn_layer_norm(hidden[:, ::2])
    width = WIDTH // HEADS
    query = layer.self_attn.q_proj(normed)[..., -width:]
    key = layer.self_attn.k_proj(normed)[..., -width:]
    scores: Tensor = query @ key.transpose(1, 2) * width**-0.5
    return scores


def losses(model: Any, heads: Heads, batch: Batch, weights: Weights) -> Losses:
    """Run one packed batch through the model and score everything."""
    middle, audio, compared = encode(model, batch.mel, batch.frames)
    phones, words = heads.phones(middle), heads.words(audio)
    states, last = _read(model, batch, audio)
    parts = {
        "text": _text_loss(model, batch, last),
        # silent frames of real recordings have labels, their phonemes do not: they are skipped
        "phones": _frame_loss(phones, batch.phones),
        "words": _frame_loss(words, batch.words),
        "ctc": _ctc_loss(words, batch.tokens, batch.transcript, batch.transcript_lengths),
        "sounds": _ctc_loss(phones, batch.frames, batch.sounds, batch.sounds_lengths),
        "voices": _frame_loss(heads.voices(audio), batch.voices),
        "moods": _frame_loss(heads.moods(audio), batch.moods),
        "others": _frame_loss(heads.others(audio), batch.others),
        "compared": _compared_loss(compared, batch),
        "fits": _fits_loss(heads.fits, batch, states[READING_LAYER]),
        "sought": _sought_loss(model.model.language_model, batch, states[SEEKING_LAYER]),
    }
    auxiliary = sum(getattr(weights, name) * parts[name] for name in _AUXILIARY)
    return Losses(parts["text"] + auxiliary, **parts)


def _frame_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled frames; 0 where a batch has none."""
    total = F.cross_entropy(
        scores.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / (labels != IGNORED).sum().clamp(min=1)


def _ctc_loss(scores: Tensor, frames: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
    """CTC per label over the rows that have labels; 0 where a batch has none."""
    known = lengths > 0
    if not known.any():
        return scores.new_zeros(())
    return F.ctc_loss(
        scores[known].float().log_softmax(-1).transpose(0, 1),
        labels,
        frames[known],
        lengths[known],
        zero_infinity=True,
    )


def _compared_loss(scores: Tensor, batch: Batch) -> Tensor:
    """Teach a head to look from speech at speech of somebody else, else at silence.

    Whether two people speak is a comparison of all with all, which training on the answer alone
    does not find. Silence has the middle place, above the middle: a few frames that only seem to be
    somebody else's must not outweigh it.
    """
    asked = batch.others != IGNORED
    different = batch.voices[:, :, None] != batch.voices[:, None, :]
    silent = (batch.words == 0)[:, None, :] & asked[:, :, None]
    spoken = asked[:, None, :] & asked[:, :, None]
    total = scores.new_zeros((), dtype=torch.float32)
    for pairs, target, weight in (
        (spoken & different, 1.0, 0.5),
        (spoken & ~different, 0.0, 0.7),
        (silent, _SILENCE, 0.2),
    ):
        found = scores[pairs].float()
        if found.numel():
            total = total + weight * F.binary_cross_entropy_with_logits(
                found, torch.full_like(found, target)
            )
    return total


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn who sees whom into what is added to logits: unfused attention takes no other mask."""
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)


def _fits_loss(head: nn.Linear, batch: Batch, reading: Tensor) -> Tensor:
    """Tell, wherever a question has named something, which clauses still fit it.

    Otherwise a wrong verb or noun shows in the answer alone, one token of which says "unknown".
    """
    marked = batch.fits != IGNORED
    scores = head(reading[marked]).float()
    fits = batch.fits[marked].unsqueeze(1) >> torch.arange(CLAUSES) & 1
    loss = F.binary_cross_entropy_with_logits(scores, fits.float(), reduction="sum")
    mean: Tensor = loss / max(scores.numel(), 1)
    return mean


def _sought_loss(decoder: Any, batch: Batch, hidden: Tensor) -> Tensor:
    """Teach a head to look from what a question names at where it is said, else at the beginning.

    To find words is a comparison of all with all, which training on the answer alone does not find:
    it answers from the order in which a sentence says things.
    """
    layer, marked = decoder.layers[SEEKING_LAYER], batch.sought != IGNORED
    if not marked.any():
        return hidden.new_zeros((), dtype=torch.float32)
    row = marked.nonzero()[:, 0]
    cosine, sine = decoder.rotary_emb(hidden, batch.positions)
    normed = layer.input_layernorm(hidden)
    width = WIDTH // HEADS
    key = _rotated(layer.self_attn.k_proj(normed)[..., -width:], cosine, sine)
    query = layer.self_attn.q_proj(normed[marked])[..., -width:]
    query = _rotated(query, cosine[marked], sine[marked])
    scores = (key[row] @ query.unsqueeze(2)).squeeze(2).float() * width**-0.5
    shares = scores.masked_fill(~batch.visible[:, 0][marked], -torch.inf).log_softmax(-1)
    there = batch.heard[row] == batch.sought[marked].unsqueeze(1)
    there[:, 0] = ~there.any(1)
    found: Tensor = shares.masked_fill(~there, -torch.inf).logsumexp(-1)
    return -found.mean()


def _rotated(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    turned: Tensor = rotate_half(states)
    return states * cosine + turned * sine


def _read(model: Any, batch: Batch, audio: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """Run the decoder: the states (B, S, WIDTH) that enter each layer, and the last ones."""
    embedded = model.get_input_embeddings()(batch.ids)
    real = torch.arange(audio.shape[1])[None] < batch.tokens[:, None]
    embedded[batch.is_audio] = audio[real].to(embedded.dtype)
    output = model.model.language_model(
        inputs_embeds=embedded,
        attention_mask=_additive(batch.visible, embedded.dtype),
        position_ids=batch.positions,
        use_cache=False,
        output_hidden_states=True,
    )
    return output.hidden_states, output.last_hidden_state


def _text_loss(model: Any, batch: Batch, hidden: Tensor) -> Tensor:
    labels, weights = batch.labels[:, 1:], batch.weights[:, 1:]
    asked = labels != IGNORED
    # the vocabulary head only where there is an answer: a third of the positions
    scores = model.lm_head(hidden[:, :-1][asked]).float()
    each = F.cross_entropy(scores, labels[asked], reduction="none")
    return (each * weights[asked]).sum() / weights[asked].sum().clamp(min=1)
