"""What a reduction method is: scores in, plan out. A method never touches a model.

There are two kinds. A `Method` merges or drops audio tokens on their way through the decoder. A
`CacheMethod` leaves them and cuts what the KV cache holds of them once the prompt has been read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ..evict import CachePlan
from ..flops import PromptLengths, Scoring
from ..merge import Plan


class Signal(StrEnum):
    """What a method may ask for that costs something to find out: a layer, or the encoder.

    `SAMPLED` is `RECEIVED` as estimated from one query in `SAMPLE_EVERY`.
    """

    RECEIVED = "received"
    SAMPLED = "sampled"
    LAST_QUERY = "last_query"
    ENCODER = "encoder"


@dataclass(frozen=True, slots=True)
class EncoderScores:
    """Attention in the encoder's last layer, folded to audio tokens, rows padded on the right.

    Attributes:
        received: mean over queries of what each token received, the largest of all heads at each
            pair of frames; (batch, audio), float32.
        own: what each token gave itself, mean over heads, (batch, audio), float32.
    """

    received: Tensor
    own: Tensor


class Received(Protocol):
    """Attention that audio tokens received in a layer, summed over all heads and queries.

    Worked out when it is asked for: each call is a pass of the queries over the tokens in question.
    """

    def __call__(self, members: Tensor | None = None, most: Sequence[int] = ()) -> Tensor:
        """Of all tokens, or of some.

        Args:
            members: which tokens, (batch, audio), bool, False in the padding; None: all.
            most: at most so many of each row, known without asking the device.

        Returns:
            (batch, audio), float32; 0 for all others and in a row's padding.
        """


@dataclass(frozen=True, slots=True)
class AudioView:
    """What one place knows of the audio tokens of a batch, rows padded on the right.

    The place is a decoder layer, between attention and MLP, or the decoder's input. At the input
    there is no attention yet: the tokens themselves stand in as keys of one head.

    Attributes:
        lengths: audio tokens of each row.
        keys: this layer's keys after rotary embedding, (batch, kv_heads, audio, head_dim).
        states: what merges: the residual stream or the projected tokens, (batch, audio, hidden).
        received: attention each token received in this layer; None unless asked for, and at the
            input.
        last_query: attention each token received from the last prompt token alone, summed over
            all heads, (batch, audio), float32; likewise.
        sizes: how many original tokens each token stands for, (batch, audio), float32.
        at_input: whether this is the decoder's input.
        encoder: the encoder's attention; None unless asked for, and inside a layer.
    """

    lengths: tuple[int, ...]
    keys: Tensor
    states: Tensor
    received: Received | None
    last_query: Tensor | None
    sizes: Tensor
    at_input: bool = False
    encoder: EncoderScores | None = None


class Method(ABC):
    """A way to choose which audio tokens merge or go. Subclasses are frozen dataclasses.

    Every method keeps exactly what the budget says. What a method cannot reach in one step is
    said by `most`, and the solver never asks for it.

    Attributes:
        name: as the user types it.
        needs: the signals that `plan` reads.
        scoring: what `plan` and its signals cost, for the cost model.
        most: largest share of the audio tokens that one plan can remove.
        size_bias: whether a merged token's attention scores gain the log of its size, unless the
            settings say otherwise.
        in_layer: whether it can act inside decoder layers (schedules once, constant, decay).
        at_input: whether it can act before the first layer (schedule input).
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Signal]] = frozenset()
    scoring: ClassVar[Scoring] = Scoring()
    most: ClassVar[float] = 1.0
    size_bias: ClassVar[bool] = False
    in_layer: ClassVar[bool] = True
    at_input: ClassVar[bool] = True

    @abstractmethod
    def plan(self, view: AudioView, kept: Sequence[int]) -> Plan:
        """Where each token goes, so that row b keeps exactly `kept[b]` tokens.

        Args:
            view: the audio tokens as this layer sees them.
            kept: 1 <= kept[b] <= view.lengths[b], and no less than `most` allows.
        """


class ThresholdMethod(Method):
    """A method that can also decide by itself how many tokens stay."""

    @abstractmethod
    def decide(self, view: AudioView, threshold: float) -> Plan:
        """Where each token goes; `kept` of the plan is what the threshold leaves.

        The one place where a method waits for the device: the counts shape all that follows.

        Args:
            view: the audio tokens as this layer sees them.
            threshold: what it means is the method's own matter.
        """


@dataclass(frozen=True, slots=True)
class CacheView:
    """What one layer knows of the audio in a batch of prompts it has just attended to.

    Attributes:
        rows: token counts of each prompt.
        received: attention that each audio token received from all queries, summed over the query
            heads of each key head, (batch, kv_heads, audio), float32, rows padded on the right;
            None unless asked for.
        device: where plans are made.
    """

    rows: tuple[PromptLengths, ...]
    received: Tensor | None
    device: torch.device


class CacheMethod(ABC):
    """A way to choose which audio keys and values stay for decoding. Subclasses are frozen.

    Every layer is cut as soon as it has read the prompt, once; text and generated tokens stay.

    Attributes:
        name: as the user types it.
        needs: the signals that `plan` reads; `received` is the only one there is.
        scoring: what they cost, for the cost model.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Signal]] = frozenset()
    scoring: ClassVar[Scoring] = Scoring()

    @abstractmethod
    def plan(self, view: CacheView, kept: Sequence[int]) -> CachePlan:
        """Which tokens stay, so that every head of row b keeps exactly `kept[b]` of them.

        Args:
            view: the audio as this layer sees it.
            kept: 1 <= kept[b] <= view.rows[b].audio; 0 where a row has no audio.
        """
