"""What a batch cost: clocks that wait for the device, FLOPs by the cost model, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from ..flops import (
    DecoderShape,
    PromptLengths,
    Scoring,
    decode_flops,
    kv_bytes,
    prefill_flops,
)
from ..records import Cost, Seconds

_STATUS = Path("/proc/self/status")
# writing 5 sets the high-water mark back to what is held now (Linux, proc(5))
_CLEAR_REFS = Path("/proc/self/clear_refs")


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


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that one batch spent in each stage; `first_token` counts from the batch's start."""

    encode: Seconds
    prefill: Seconds
    first_token: Seconds
    decode: Seconds


@dataclass(frozen=True, slots=True)
class Row:
    """One segment of a batch after generation.

    Attributes:
        seconds: of audio.
        prompt: token counts before reduction.
        kept: audio tokens entering each layer, then leaving the last one.
        held: audio tokens in each layer's cache once the prompt has been read.
        generated: new tokens, the end token included.
        scoring: what the method paid where tokens went, or keys and values of them.
        beams: hypotheses followed.
        tail: cached tokens behind the prompt when decoding ended, those of all beams together.
    """

    seconds: Seconds
    prompt: PromptLengths
    kept: tuple[int, ...]
    held: tuple[int, ...]
    generated: int
    scoring: Scoring
    beams: int = 1
    tail: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """Bytes of one cached value, and the most memory held so far."""

    value_bytes: int
    peak: int


def peak_bytes(device: torch.device) -> int:
    """Most memory held since `reset_peak`: of the device on CUDA, else of the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak(device: torch.device) -> None:
    """Count the peak from here on, where the system can (CUDA, Linux)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        _CLEAR_REFS.write_text("5")


def costs(
    rows: Sequence[Row],
    times: Times,
    encoder_flops: int,
    decoder: DecoderShape,
    machine: Machine,
) -> list[Cost]:
    """Cost of each row: its share of the batch's time by audio seconds, its own FLOPs and bytes.

    KV bytes are those of the row's own tokens at the end of decoding, the prompt held once for all
    beams: neither a ragged batch's padding nor the buffers' spare room.
    """
    seconds = sum(row.seconds for row in rows)
    shares = [row.seconds / seconds if seconds else 1 / len(rows) for row in rows]
    return [
        _cost(row, share, times, encoder_flops, decoder, machine)
        for row, share in zip(rows, shares, strict=True)
    ]


def _cost(
    row: Row,
    share: float,
    times: Times,
    encoder_flops: int,
    decoder: DecoderShape,
    machine: Machine,
) -> Cost:
    steps = max(row.generated - 1, 0)

    def cached(held: Sequence[int] | None, tail: int) -> int:
        return kv_bytes(decoder, row.prompt, machine.value_bytes, held, tail)

    return Cost(
        encode_s=times.encode * share,
        prefill_s=times.prefill * share,
        decode_s=times.decode * share,
        first_token_s=times.first_token,
        prompt_tokens=row.prompt.total,
        audio_in=row.prompt.audio,
        audio_kept=row.kept[-1],
        generated=row.generated,
        encoder_flops=encoder_flops,
        prefill_full_flops=prefill_flops(decoder, row.prompt),
        prefill_flops=prefill_flops(decoder, row.prompt, row.kept, row.scoring, row.held),
        decode_full_flops=row.beams * decode_flops(decoder, row.prompt, steps),
        decode_flops=row.beams * decode_flops(decoder, row.prompt, steps, row.held),
        kv_bytes_full=cached(None, row.tail),
        kv_bytes=cached(row.held, row.tail),
        peak_bytes=machine.peak,
        prompt_kv_bytes_full=cached(None, 0),
        prompt_kv_bytes=cached(row.held, 0),
    )
