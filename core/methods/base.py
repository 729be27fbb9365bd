"""What a reduction method is: scores in, plan out. A method never touches a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from torch import Tensor

from ..merge import Plan


class Signal(StrEnum):
    """What a method may ask the layer for."""

    KEYS = "keys"
    RECEIVED = "received"


@dataclass(frozen=True, slots=True)
class AudioView:
    """What one decoder layer knows of the audio tokens of a batch, rows padded on the right.

    Attributes:
        lengths: audio tokens of each row.
        keys: this layer's keys after rotary embedding, (batch, kv_heads, audio, head_dim).
        received: attention each token received in this layer, summed over all heads and queries,
            (batch, audio), float32; None unless asked for.
        sizes: how many original tokens each token stands for, (batch, audio), float32.
    """

    lengths: tuple[int, ...]
    keys: Tensor
    received: Tensor | None
    sizes: Tensor


class Method(ABC):
    """A way to choose which audio tokens merge or go. Subclasses are frozen dataclasses.

    Attributes:
        name: as the user types it.
        needs: the signals that `plan` reads.
        in_layer: whether it can act inside decoder layers (schedules once, constant, decay).
        at_input: whether it can act before the first layer (schedule input).
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Signal]]
    in_layer: ClassVar[bool] = True
    at_input: ClassVar[bool] = False

    @abstractmethod
    def plan(self, view: AudioView, kept: Sequence[int]) -> Plan:
        """Where each token goes, so that row b keeps exactly `kept[b]` tokens.

        Args:
            view: the audio tokens as this layer sees them.
            kept: 1 <= kept[b] <= view.lengths[b].
        """
