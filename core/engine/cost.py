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
        generated: new tokens, the end token included.
        scoring: what the method paid where tokens went.
        beams: hypotheses followed.
        tail: cached tokens behind the prompt when decoding ended, those of all beams together.
    """

    seconds: Seconds
    prompt: PromptLengths
    kept: tuple[int, ...]
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
    found = []
    for row in rows:
        share = row.seconds / seconds if seconds else 1 / len(rows)
        steps = max(row.generated - 1, 0)
        found.append(
            Cost(
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
                prefill_flops=prefill_flops(decoder, row.prompt, row.kept, row.scoring),
                decode_full_flops=row.beams * decode_flops(decoder, row.prompt, steps),
                decode_flops=row.beams * decode_flops(decoder, row.prompt, steps, row.kept),
                kv_bytes_full=kv_bytes(decoder, row.prompt, machine.value_bytes, None, row.tail),
                kv_bytes=kv_bytes(decoder, row.prompt, machine.value_bytes, row.kept, row.tail),
                peak_bytes=machine.peak,
            )
        )
    return found
