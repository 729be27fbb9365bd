"""What segments cost: clocks that wait for the device, FLOPs by the cost model, memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..flops import (
    DecoderShape,
    PromptLengths,
    Scoring,
    decode_flops,
    prefill_flops,
)
from ..records import Cost, Seconds
from ..reduction import Observed


class Clock:
    """Seconds between marks; on CUDA and MPS each mark waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last = self._now()

    def lap(self) -> Seconds:
        """Seconds since the last call or since the beginning."""
        now = self._now()
        passed, self._last = now - self._last, now
        return passed

    def _now(self) -> Seconds:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()


@dataclass(slots=True)
class Spent:
    """Seconds that one segment has taken so far; those of all segments add up to the wall time.

    What several go through together is shared: encoder, prefill and beam search by seconds of
    audio, a greedy step equally among the rows that still want a token. Failed attempts count.

    Attributes:
        encode, prefill, decode: this segment's shares.
        first_token: from the beginning of its group to its first token, not shared.
    """

    encode: Seconds = 0.0
    prefill: Seconds = 0.0
    decode: Seconds = 0.0
    first_token: Seconds = 0.0


def shares(seconds: Sequence[Seconds]) -> list[float]:
    """The part of what they did together that falls to segments of such lengths."""
    whole = sum(seconds)
    return [one / whole if whole else 1 / len(seconds) for one in seconds]


@dataclass(frozen=True, slots=True)
class Work:
    """What one segment asked of the model.

    Attributes:
        prompt: token counts before reduction.
        observed: what became of it, read off the cache.
        scoring: what the method paid where tokens went, or keys and values of them.
        encoder_flops: its own, padding in its group included.
        generated: new tokens, the end token included.
        beams: hypotheses followed.
        tail: cached tokens behind the prompt when decoding ended, those of all beams together.
        sharing: prompts for which the prefill of its first part was done at once.
        apart: text tokens behind that part, if there is one.
    """

    prompt: PromptLengths
    observed: Observed
    scoring: Scoring
    encoder_flops: int
    generated: int
    beams: int = 1
    tail: int = 0
    sharing: int = 1
    apart: int = 0


def cost_of(work: Work, spent: Spent, decoder: DecoderShape, peak: int | None) -> Cost:
    """Cost of one segment; `peak` is the most memory held so far, in bytes, if that is known.

    What was reduced is what was observed. Audio tokens kept are those that entered the last layer,
    which its cache holds unless the method cuts that. KV bytes are those of its own tokens at the
    end of decoding, the prompt held once for all beams: neither the padding of the rows beside it
    nor the buffers' spare room.
    """
    prompt, seen = work.prompt, work.observed
    steps = max(work.generated - 1, 0)
    full = (prompt.audio,) * len(seen.held)

    def cached(audio: Sequence[int], tail: int) -> int:
        slots = zip(audio, seen.slot_bytes, strict=True)
        return sum((prompt.text + held + tail) * size for held, size in slots)

    return Cost(
        encode_s=spent.encode,
        prefill_s=spent.prefill,
        decode_s=spent.decode,
        first_token_s=spent.first_token,
        prompt_tokens=prompt.total,
        audio_in=prompt.audio,
        audio_kept=seen.kept[-2],
        generated=work.generated,
        encoder_flops=work.encoder_flops,
        prefill_full_flops=_prefilled(work, decoder, None),
        prefill_flops=_prefilled(work, decoder, seen.kept),
        decode_full_flops=work.beams * decode_flops(decoder, prompt, steps),
        decode_flops=work.beams * decode_flops(decoder, prompt, steps, seen.held),
        kv_bytes_full=cached(full, work.tail),
        kv_bytes=cached(seen.held, work.tail),
        peak_bytes=peak,
        prompt_kv_bytes_full=cached(full, 0),
        prompt_kv_bytes=cached(seen.held, 0),
    )


def _prefilled(work: Work, decoder: DecoderShape, kept: Sequence[int] | None) -> int:
    """FLOPs of its prefill, full (None) or reduced; what is shared counts in equal parts."""
    prompt = work.prompt
    how = () if kept is None else (kept, work.scoring, work.observed.held)
    alone = prefill_flops(decoder, prompt, *how)
    if work.sharing == 1:
        return alone
    stem = replace(prompt, after=prompt.after - work.apart)
    shared = prefill_flops(decoder, stem, *how) - decoder.head
    # a word meets what stands before it, but what was shared does not meet the word
    slots = decoder.layers * (stem.total if kept is None else stem.text + kept[0])
    return alone - shared - work.apart * slots * decoder.pair + shared // work.sharing
