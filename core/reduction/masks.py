"""Masks of a batch of prompts and of the beams behind it; each is built once and kept.

Knows the shape that a prompt has in a layer, no model. Masks are additive where decoding meets
them, so that every attention backend reads them alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .layout import PromptState


class Tails:
    """Which generated slots each beam sees; beams change places here and nowhere else.

    Step t of a row fills slots t * beams to t * beams + beams - 1 behind its prompt.

    Attributes:
        steps: tokens generated so far, the one under way included.
        seen: (rows, beams, steps * beams), bool; not kept for a single beam, which sees all.
    """

    def __init__(self, rows: int, beams: int, device: torch.device) -> None:
        self.beams, self.steps = beams, 0
        self.seen = torch.zeros(rows, beams, 0, dtype=torch.bool, device=device)
        self._own = torch.eye(beams, dtype=torch.bool, device=device).expand(rows, -1, -1)

    def advance(self, parents: Tensor | None) -> None:
        """Go on to the next token.

        Args:
            parents: the beam that each beam continues, (rows, beams), int64; None: its own.
        """
        self.steps += 1
        if self.beams == 1:
            return
        if parents is not None:
            index = parents.unsqueeze(-1).expand(-1, -1, self.seen.shape[-1])
            self.seen = self.seen.gather(1, index)
        self.seen = torch.cat([self.seen, self._own], dim=-1)


class Masks:
    """The masks that a cache's layers ask for, kept while the state they belong to lasts.

    Attributes:
        size_bias: whether log sizes are added to the scores.
    """

    def __init__(self, size_bias: bool) -> None:
        self.size_bias = size_bias
        self._tails: Tails | None = None
        self._prefill: tuple[PromptState, torch.device, Tensor | None] | None = None
        self._prompts: dict[tuple[int, torch.device], Tensor | None] = {}
        self._steps: dict[tuple[int, torch.device], Tensor | None] = {}

    @property
    def steps(self) -> int:
        """Tokens generated so far, the one under way included."""
        return 0 if self._tails is None else self._tails.steps

    def begin(self, tails: Tails) -> None:
        """The prompts are complete: their causal masks go, the largest thing kept here."""
        self._tails, self._prefill = tails, None

    def advance(self, parents: Tensor | None) -> None:
        """Go on to the next token, see `Tails.advance`."""
        assert self._tails is not None, "begin was not called"
        self._tails.advance(parents)
        self._steps.clear()

    def prefill(self, state: PromptState, like: Tensor) -> Tensor | None:
        """See `causal_mask`; layers that see the same batch share one."""
        held = self._prefill
        if held is None or held[0] is not state or held[1] != like.device:
            held = self._prefill = None  # the old one goes before the new one is made
            mask = causal_mask(state, self.size_bias, like)
            held = self._prefill = state, like.device, mask
        return held[2]

    def prompt(self, state: PromptState, like: Tensor) -> Tensor | None:
        """See `prompt_mask`. States outlive the cache's layers, so their identity is a key."""
        key = id(state), like.device
        if key not in self._prompts:
            self._prompts[key] = prompt_mask(state, self.size_bias, like)
        return self._prompts[key]

    def decode(self, state: PromptState, like: Tensor) -> Tensor | None:
        """Mask of one new token of each beam over the prompt and all generated slots.

        Returns:
            Additive, (rows, 1, beams, slots); None where every beam sees all.
        """
        key = id(state), like.device
        if key not in self._steps:
            self._steps[key] = self._decode(self.prompt(state, like), state.width, like)
        return self._steps[key]

    def _decode(self, prompt: Tensor | None, width: int, like: Tensor) -> Tensor | None:
        tails = self._tails
        assert tails is not None, "begin was not called"
        if tails.beams == 1:
            return None if prompt is None else torch.nn.functional.pad(prompt, (0, tails.steps))
        rows = len(tails.seen)
        if prompt is None:
            prompt = like.new_zeros(1, 1, 1, width)
        prompt = prompt.expand(rows, -1, tails.beams, -1)
        unseen = ~tails.seen.to(like.device)
        tail = like.new_zeros(unseen.shape).masked_fill_(unseen, -torch.inf)
        return torch.cat([prompt, tail.unsqueeze(1)], dim=-1)


def log_sizes(state: PromptState, device: torch.device) -> Tensor | None:
    """What the size bias adds to the scores of each key, (rows, width); None while all are 0."""
    return None if state.sizes is None else state.sizes_on(device).log()


def causal_mask(state: PromptState, size_bias: bool, like: Tensor) -> Tensor | None:
    """Causal mask of a right-aligned batch, (rows, 1, width, width); None where no row is padded.

    Boolean, or additive with the log sizes in it; on the device and, if additive, in the dtype of
    `like`. Where there is none, log sizes go by other means (see `attention.biased`).
    """
    pad = state.columns.pad
    if not any(pad):
        return None
    bias = log_sizes(state, like.device) if size_bias else None
    column = torch.arange(state.width, device=like.device)
    first = torch.tensor(pad, device=like.device).view(-1, 1, 1)
    # a padding query sees itself: a row without any key would be undefined
    visible = (column <= column[:, None]) & ((column >= first) | (column == column[:, None]))
    visible = visible.unsqueeze(1)
    if bias is None:
        return visible
    bias = bias.to(like.dtype)[:, None, None, :]
    return torch.where(visible, bias, torch.finfo(like.dtype).min)


def prompt_mask(state: PromptState, size_bias: bool, like: Tensor) -> Tensor | None:
    """Mask of one later token over the prompt: additive, (rows, 1, 1, width); None if it sees all.

    On the device and in the dtype of `like`.
    """
    pad = state.columns.pad
    bias = log_sizes(state, like.device) if size_bias else None
    if bias is None and not any(pad):
        return None
    if bias is None:
        bias = like.new_zeros(len(state.rows), state.width)
    hidden = torch.arange(state.width, device=like.device) < torch.tensor(
        pad, device=like.device
    ).unsqueeze(1)
    return bias.to(like.dtype).masked_fill(hidden, -torch.inf)[:, None, None, :]
