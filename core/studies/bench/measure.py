"""Runs every side in turn, round after round, on one prompt length and one number of beams."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import Any

import torch

from ...engine.cost import Clock, peak_bytes, reset_peak
from ...errors import first_line
from ...records import Seconds
from .limits import Limits
from .rows import Measured, Row, row
from .setting import PLAIN, Entrant, Setting, entrants
from .shapes import FRAMES, audio_like, build_decoder, build_encoder, windows_of
from .sides import Run, Work

Progress = Callable[[str], None]

_WINDOWS_AT_ONCE = 8


@torch.inference_mode()
def measure(
    setting: Setting, model: Any, limits: Limits, progress: Progress, memory: bool = True
) -> tuple[list[Row], dict[str, str]]:
    """All sides of a setting.

    Args:
        setting: what to measure.
        model: language model of its shape, see `build_decoder`.
        limits: of the machine, see `measure_limits`.
        progress: told what is about to run.
        memory: whether to measure that too; on a CPU each side then runs once more, in a process
            of its own.

    Returns:
        The rows, and for each side that could not run the reason.

    Raises:
        UsageError: see `entrants`.
    """
    named = f"{setting.seconds:g} s, {setting.beams} beam{'s' * (setting.beams > 1)}"
    everyone = list(entrants(setting))
    progress(f"{named}: encoder")
    encode = encoder_seconds(setting, model.device, model.dtype)
    work = work_of(setting, model)
    runs: dict[Entrant, list[Run]] = {}
    failed: dict[str, str] = {}
    for entrant in everyone:
        progress(f"{named}: warming up {entrant}")
        reason = _reason(entrant, work)
        if reason:
            failed[str(entrant)] = reason
        else:
            runs[entrant] = []
    for number in range(setting.rounds):
        for entrant, found in runs.items():
            progress(f"{named}: round {number + 1} of {setting.rounds}, {entrant}")
            found.append(entrant.run(work))
    plain = next((found for one, found in runs.items() if one.side == PLAIN), [])
    rows = []
    for entrant, found in runs.items():
        progress(f"{named}: memory of {entrant}")
        peak = peak_of(setting, entrant, work) if memory else None
        value_bytes = model.dtype.itemsize
        rows.append(
            row(setting, Measured(entrant, found, plain, encode, peak, value_bytes), limits)
        )
    return rows, failed


def work_of(setting: Setting, model: Any) -> Work:
    """What all sides are given."""
    prompt = setting.size.prompt(setting.seconds)
    embedded = audio_like(prompt, model.lm_head.weight, setting.batch)
    return Work(model, embedded, prompt, setting.beams, setting.tokens)


def encoder_seconds(setting: Setting, device: torch.device, dtype: torch.dtype) -> Seconds:
    """Median time of the encoder over all windows of all prompts, in groups that fit."""
    encoder = build_encoder(setting.size, device, dtype)
    count = windows_of(setting.seconds) * setting.batch
    sizes = [min(_WINDOWS_AT_ONCE, count - at) for at in range(0, count, _WINDOWS_AT_ONCE)]
    mels = setting.size.encoder.mels
    features = torch.randn(max(sizes), mels, 2 * FRAMES, device=device).to(dtype)
    encoder(features)
    clock, times = Clock(device), []
    for _ in range(setting.rounds):
        clock.lap()
        for size in sizes:
            encoder(features[:size])
        times.append(clock.lap())
    return median(times)


def peak_of(setting: Setting, entrant: Entrant, work: Work) -> int:
    """Bytes that one run of this side adds to the memory held."""
    device = work.device
    if device.type == "cuda":
        return _added(entrant, work)
    # an allocator that keeps what it once had hides what the next one needs
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as alone:
        return alone.submit(_added_alone, setting, str(entrant), work.embedded.dtype).result()


@torch.inference_mode()
def _added_alone(setting: Setting, name: str, dtype: torch.dtype) -> int:
    entrant = next(one for one in entrants(setting) if str(one) == name)
    return _added(
        entrant, work_of(setting, build_decoder(setting.size, torch.device("cpu"), dtype))
    )


def _added(entrant: Entrant, work: Work) -> int:
    reset_peak(work.device)
    before = peak_bytes(work.device)
    entrant.run(work)
    return peak_bytes(work.device) - before


def _reason(entrant: Entrant, work: Work) -> str:
    """Run a side once; why it cannot run here, or nothing."""
    try:
        entrant.run(work)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        torch.cuda.empty_cache()
        return first_line(error)
    return ""
