"""A batch of segments on its way into the decoder: encoded, embedded, counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..flops import PromptLengths
from ..methods import EncoderScores
from ..models.base import Encoded


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts as a prefill takes them, whatever it will remove.

    Attributes:
        embedded: embeddings of each row, (row.total, hidden).
        lengths: token counts of each row.
        scores: attention in the encoder, for methods that ask for it.
        encoder_flops: of each row, padding included.
        gates: what the decoder is steered by in each row, (rows, hidden); None as a rule.
    """

    embedded: list[Tensor]
    lengths: list[PromptLengths]
    scores: EncoderScores | None
    encoder_flops: list[int]
    gates: Tensor | None = None


def encoder_scores(encoded: Encoded) -> EncoderScores | None:
    """The encoder's attention, rows padded on the right."""
    if encoded.received is None or encoded.own is None:
        return None
    received, own = (
        nn.utils.rnn.pad_sequence(rows, batch_first=True)
        for rows in (encoded.received, encoded.own)
    )
    return EncoderScores(received, own)


def stacked(gates: Sequence[Tensor | None]) -> Tensor | None:
    """What each row steers the decoder by, (rows, hidden); None where no row does."""
    found = [gate for gate in gates if gate is not None]
    return torch.stack(found) if found else None
