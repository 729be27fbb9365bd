"""LLaMA whose projections carry a LoRA that the instruction scales: the prompt-aware LoRA.

Hu et al., arXiv 2404.00656, section 3.2, and the published code. The instruction alone, in double
quotes, is read by the decoder without any LoRA; a small network turns what it says into one number
in 0..3 for each channel, the gate. With it every projection of every layer becomes
W x + (x A B) * gate. Nothing else of the decoder differs from a plain LLaMA: layers, attention and
cache are transformers' own.

A gate belongs to a prompt. It is made once, before the prefill, from the instruction's tokens
alone; neither the audio nor what is generated changes it, and so neither does a reduction of the
audio. From then on it belongs to the row of the batch: prefill and every decode step of the row
use the same one, and rows with other instructions stand beside it. So it comes with the call, one
row each, or with the cache that holds these rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers import LlamaConfig, LlamaModel

_LARGEST = 3.0
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


class Gates:
    """The gates of the rows that a decoder is reading; every projection of it looks here.

    Attributes:
        plain: (rows, 1, hidden), None = no LoRA.
        turned: the same for queries and keys: their channels stand in the order of transformers'
            rotation (halves), the gate's in that of the published code (neighbours).
    """

    def __init__(self, head_size: int) -> None:
        self._head_size = head_size
        self.plain: Tensor | None = None
        self.turned: Tensor | None = None

    def set(self, gates: Tensor | None) -> None:
        """Take (rows, hidden), or nothing."""
        self.plain = None if gates is None else gates.unsqueeze(1)
        self.turned = None if gates is None else turned(gates, self._head_size).unsqueeze(1)


def turned(channels: Tensor, head_size: int) -> Tensor:
    """Channels of each head, (..., hidden), from pairs of neighbours to halves.

    Meta's code rotates channel 2i with 2i + 1, transformers' i with i + half.
    """
    pairs = channels.reshape(*channels.shape[:-1], -1, head_size // 2, 2)
    return pairs.transpose(-1, -2).flatten(-3)


class GatedLinear(nn.Linear):
    """W x + (x A B) * gate; W x alone while there is no gate.

    Args:
        inputs, outputs: channels.
        rank: of A B.
        gates: shared by the whole decoder.
        turns: whether its channels are those of a rotation.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, gates: Gates, turns: bool) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.lora_A = nn.Parameter(torch.zeros(inputs, rank))
        self.lora_B = nn.Parameter(torch.zeros(rank, outputs))
        self._gates, self._turns = gates, turns

    def forward(self, states: Tensor) -> Tensor:
        """(rows, tokens, inputs) to (rows, tokens, outputs)."""
        plain = super().forward(states)
        gate = self._gates.turned if self._turns else self._gates.plain
        return plain if gate is None else plain + states @ self.lora_A @ self.lora_B * gate


class PromptAwareLlama(LlamaModel):  # type: ignore[misc]
    """A `LlamaModel` with `GatedLinear` projections in its attention.

    Args:
        config: of the plain LLaMA.
        rank: of the LoRA.
    """

    def __init__(self, config: LlamaConfig, rank: int) -> None:
        super().__init__(config)
        self._gates = Gates(config.hidden_size // config.num_attention_heads)
        for layer in self.layers:
            for name in _PROJECTIONS:
                before = getattr(layer.self_attn, name)
                sizes = before.in_features, before.out_features, rank
                adapted = GatedLinear(*sizes, self._gates, name in ("q_proj", "k_proj"))
                setattr(layer.self_attn, name, adapted)

    def forward(self, *args: Any, gates: Tensor | None = None, **kwargs: Any) -> Any:
        """As LLaMA's, with the gate of each row.

        Args:
            args, kwargs: of `LlamaModel.forward`.
            gates: (rows, hidden); None = those that the cache brings as `gates`, if any. Where
                several beams continue a row, they stand one after the other.
        """
        if gates is None:
            brought = (getattr(one, "gates", None) for one in kwargs.values())
            gates = next((one for one in brought if one is not None), None)
        if gates is not None:
            read = kwargs.get("inputs_embeds", kwargs.get("input_ids"))
            beams = len(read if read is not None else args[0]) // len(gates)
            gates = gates.repeat_interleave(beams, 0)
        with self.gated(gates):
            return super().forward(*args, **kwargs)

    @contextmanager
    def gated(self, gates: Tensor | None) -> Iterator[None]:
        """Let the projections use these gates, (rows, hidden); after, none."""
        self._gates.set(gates)
        try:
            yield
        finally:
            self._gates.set(None)

    def unadapted(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the last layer says of (rows, tokens) ids without any LoRA, before the last norm."""
        seen: list[Tensor] = []
        hook = self.norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            # not by a call of the module: this is no reading of a prompt
            super().forward(input_ids=ids, attention_mask=mask, use_cache=False)
        finally:
            hook.remove()
        return seen[0]


class PromptGate(nn.Module):
    """From what the decoder says of an instruction to its gate.

    S = up(gelu(down(H))); the rows of S are averaged with the softmax of score(S) over time; the
    mean is clamped to 0..3.

    Args:
        hidden: channels of the decoder.
        inner: width of the layer between.
    """

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.down = nn.Linear(hidden, inner)
        self.up = nn.Linear(inner, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """Gates (rows, hidden) of instructions (rows, tokens, hidden).

        Args:
            states: of the instruction's tokens.
            mask: (rows, tokens), 0 where there is none.
        """
        said = self.up(gelu(self.down(states)))
        scores = self.score(said)
        if mask is not None:
            scores = scores.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf)
        mean: Tensor = (said * scores.softmax(1)).sum(1)
        return mean.clamp(0.0, _LARGEST)
