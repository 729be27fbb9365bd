"""Analytic cost of encoder, prefill, decode and KV cache. Pure python, no torch.

Conventions, on the full and on the reduced side alike: 2 FLOPs per multiply-add; attention is the
full square although it is causal (what `torch.utils.flop_counter`, FastV and FastAdaSP count);
norms, activations, softmax and rotary embeddings are left out; the head works on one position.
The last layer is counted whole on both sides. The untouched model runs it whole; a reduced prefill
runs it for the last position only, does less than is counted (`last_layer_saving`), and takes no
credit for it: a cut of 30 % is one that merging makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Self

SCORE_CHUNK = 64
"""Queries per step of the received-attention pass (see `core.reduction.scores`)."""
SAMPLE_EVERY = 4
"""One query in so many is asked where received attention is estimated from a sample."""


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """Sizes of a pre-norm decoder-only language model.

    Attributes:
        hidden: width of the residual stream.
        layers: number of decoder layers.
        heads, kv_heads, head_dim: query heads, key/value heads, width of one head.
        intermediate: width of the MLP (of all experts a token visits, for a mixture of experts).
        vocab: rows of the head.
        gated: whether the MLP has a gate projection (SwiGLU: three matrices instead of two).
        experts: that a token chooses from, of a mixture; each is scored.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    gated: bool = True
    experts: int = 0

    @property
    def attention_linear(self) -> int:
        """FLOPs of the q, k, v and o projections for one token."""
        return 4 * self.hidden * self.head_dim * (self.heads + self.kv_heads)

    @property
    def mlp(self) -> int:
        """FLOPs of the MLP for one token."""
        matrices = 3 if self.gated else 2
        return 2 * self.hidden * (self.intermediate * matrices + self.experts)

    @property
    def pair(self) -> int:
        """FLOPs of one query meeting one key: scores and weighted sum over all heads."""
        return 4 * self.heads * self.head_dim

    @property
    def head(self) -> int:
        """FLOPs of the language-model head at one position."""
        return 2 * self.hidden * self.vocab

    @property
    def weights(self) -> int:
        """Parameters that a decode step reads: of the layers and the head."""
        return (self.layers * (self.attention_linear + self.mlp) + self.head) // 2  # 2 FLOPs each

    def kv_bytes(self, tokens: int, bytes_per_value: int) -> int:
        """Bytes of keys and values of `tokens` cached tokens in one layer."""
        return 2 * tokens * self.kv_heads * self.head_dim * bytes_per_value


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """Sizes of a Whisper-like audio encoder: strided convolution, transformer, pooling, projector.

    Attributes:
        mels: mel bins.
        width, layers, intermediate: of the transformer.
        projected: width of the audio tokens that leave the projector.
    """

    mels: int
    width: int
    layers: int
    intermediate: int
    projected: int

    def flops(self, frames: int) -> int:
        """FLOPs of one row of `frames` frames after the convolution (50 a second), padding too."""
        stem = 2 * 3 * self.width * (2 * frames * self.mels + frames * self.width)
        linear = 8 * self.width**2 + 4 * self.width * self.intermediate
        layer = frames * linear + 4 * frames**2 * self.width
        return stem + self.layers * layer + 2 * (frames // 2) * self.width * self.projected

    def map_flops(self, frames: int) -> int:
        """FLOPs of one layer's attention scores alone, its queries and keys made anew."""
        return 4 * frames * self.width**2 + 2 * frames**2 * self.width


@dataclass(frozen=True, slots=True)
class PromptLengths:
    """Tokens of one prompt: text `before` the audio, `audio` tokens, text `after` it.

    Attributes:
        before, after: text in front of all audio, and behind all of it.
        audio: audio tokens of all spans.
        gaps: borders between two spans of audio: the audio tokens in front of each, and the text
            tokens that stand there.
    """

    before: int
    audio: int
    after: int
    gaps: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, *runs: int) -> Self:
        """A prompt of text and audio in turn: text, audio, text, audio, ..., text."""
        spans, between = runs[1::2], runs[2:-1:2]
        gaps = zip(accumulate(spans[:-1]), between, strict=True)
        return cls(runs[0], sum(spans), runs[-1], tuple(gaps))

    @property
    def spans(self) -> tuple[int, ...]:
        """Audio tokens of each span."""
        ends = [0, *(first for first, _ in self.gaps), self.audio]
        return tuple(end - begin for begin, end in pairwise(ends))

    @property
    def between(self) -> int:
        """Text tokens between spans."""
        return sum(text for _, text in self.gaps)

    @property
    def text(self) -> int:
        """Tokens that are not audio."""
        return self.before + self.between + self.after

    @property
    def total(self) -> int:
        """All prompt tokens."""
        return self.text + self.audio

    @property
    def asking(self) -> int:
        """Text tokens that see the audio; those between spans count by the share that they see."""
        seen = sum(text * first for first, text in self.gaps)
        return self.after + (round(seen / self.audio) if seen else 0)

    def leaving(self, spans: Sequence[int]) -> Self:
        """The same text around so many audio tokens of each span."""
        between = (text for _, text in self.gaps)
        gaps = zip(accumulate(spans[:-1]), between, strict=True)
        return replace(self, audio=sum(spans), gaps=tuple(gaps))


@dataclass(frozen=True, slots=True)
class Scoring:
    """What a method spends in every layer (or at the input) where it removes audio tokens.

    Attributes:
        received: a second pass of queries over the audio columns.
        members: the pass is made over the columns of those tokens alone that merge with another.
        every: one query in so many makes that pass.
        last_query: the last prompt token's scores over the audio columns.
        dots: dot products of the hidden width, for each audio token.
        gram: how often every audio token's dot product with every other is taken.
    """

    received: bool = False
    members: bool = False
    every: int = 1
    last_query: bool = False
    dots: int = 0
    gram: int = 0

    def flops(self, shape: DecoderShape, audio: int, left: int, after: int | None) -> int:
        """FLOPs where `left` of `audio` tokens stay.

        How many of them are in a merge is up to the audio, and so is where they stand: as many are
        counted as if chance had chosen the joins. Audio whose like tokens lie in longer runs has
        fewer.

        Args:
            shape: the decoder.
            audio: tokens.
            left: those that stay.
            after: text tokens behind them; None at the input.
        """
        total = 2 * shape.hidden * audio * (self.dots + audio * self.gram)
        if after is not None and self.received:
            scored = scored_pairs(audio, after, self.every)
            if self.members:  # all but those whose neighbours on both sides are left alone
                scored = scored * (audio**2 - left**2) // audio**2
            total += scored * shape.pair // 2
        if after is not None and self.last_query:
            total += audio * shape.pair // 2
        return total


RECEIVED = Scoring(received=True)
"""The received-attention pass over all audio and nothing else."""
WEIGHTS = Scoring(received=True, members=True)
"""The same over what merges."""


def scored_pairs(audio: int, after: int, every: int = 1, chunk: int = SCORE_CHUNK) -> int:
    """Query-key pairs of one received-attention pass: causal in steps of `chunk` queries.

    Queries before the audio cannot see it; a step that starts inside the audio computes the
    columns up to its own last query. Of a sample, each audio token meets itself in addition.
    """
    queries = audio + after
    asked = -(-queries // every)
    early = (queries - 1) % every + 1 - every  # columns a first step of full size lacks, below 0
    causal = min((audio - early) // (every * chunk), asked // chunk)
    inside = chunk * (causal * early + every * chunk * causal * (causal + 1) // 2)
    return inside + (asked - causal * chunk) * audio + (audio if every > 1 else 0)


def prefill_flops(
    shape: DecoderShape,
    prompt: PromptLengths,
    kept: Sequence[int] | None = None,
    scoring: Scoring = WEIGHTS,
    held: Sequence[int] | None = None,
) -> int:
    """FLOPs of the language model over one prompt.

    Args:
        shape: the decoder.
        prompt: its token counts.
        kept: audio tokens that enter each layer's attention, then those that leave the last one
            (layers + 1 numbers); None for the full model. A first number below the prompt's means
            that tokens were removed before the first layer.
        scoring: what is paid wherever the count falls, or less is held than entered.
        held: audio tokens that each layer's cache keeps; None = all that entered it.
    """
    lengths = [prompt.audio] * (shape.layers + 1) if kept is None else kept
    cached = lengths[:-1] if held is None else held
    total, text, asking = shape.head, prompt.text, prompt.asking
    if lengths[0] < prompt.audio:
        total += scoring.flops(shape, prompt.audio, lengths[0], None)
    for (audio, left), stays in zip(pairwise(lengths), cached, strict=True):
        tokens = text + audio
        total += tokens * shape.attention_linear + tokens**2 * shape.pair
        total += (text + left) * shape.mlp
        if min(left, stays) < audio:
            total += scoring.flops(shape, audio, left, asking)
    return total


def last_layer_saving(
    shape: DecoderShape,
    prompt: PromptLengths,
    kept: Sequence[int],
    scoring: Scoring = WEIGHTS,
) -> int:
    """FLOPs that `prefill_flops` counts and a reduced prefill does not spend, see above.

    It computes keys and values of every token that enters the last layer, and query, attention,
    output projection and MLP of the last one; no token is scored or merged.
    """
    last = replace(prompt, audio=kept[-2])
    whole = prefill_flops(replace(shape, layers=1), last, kept[-2:], scoring) - shape.head
    cached = 4 * shape.hidden * shape.head_dim * shape.kv_heads
    alone = shape.attention_linear - cached + shape.mlp
    return whole - last.total * (cached + shape.pair) - alone


def decode_flops(
    shape: DecoderShape, prompt: PromptLengths, steps: int, held: Sequence[int] | None = None
) -> int:
    """FLOPs of `steps` decode steps of one sequence.

    Args:
        shape: the decoder.
        prompt: its token counts.
        steps: tokens fed back.
        held: audio tokens in each layer's cache; None for the full model.
    """
    lengths = [prompt.audio] * shape.layers if held is None else held
    cached = sum(prompt.text + audio for audio in lengths)
    linear = shape.layers * (shape.attention_linear + shape.mlp) + shape.head
    attended = steps * cached + shape.layers * steps * (steps + 1) // 2
    return steps * linear + attended * shape.pair


def kv_bytes(
    shape: DecoderShape,
    prompt: PromptLengths,
    bytes_per_value: int,
    held: Sequence[int] | None = None,
    tail: int = 0,
) -> int:
    """Bytes of the KV cache of one prompt, which all its beams share.

    Args:
        shape: the decoder.
        prompt: its token counts.
        bytes_per_value: of a cached number.
        held: audio tokens in each layer's cache; None for the full model.
        tail: cached tokens behind the prompt, those of all beams together.
    """
    lengths = [prompt.audio] * shape.layers if held is None else held
    cached = sum(prompt.text + audio + tail for audio in lengths)
    return shape.kv_bytes(cached, bytes_per_value)
