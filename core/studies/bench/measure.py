"""Runs every side in turn, round after round, on one prompt length and one number of beams."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import Any, NamedTuple

import torch

from ...engine.cost import Clock
from ...engine.peak import added_bytes, reset_peak
from ...errors import StartError, first_line
from ...records import Seconds
from ...reduction import why_not
from ..progress import Progress, Steps
from .limits import Limits
from .rows import Measured, Row, check, row
from .setting import PLAIN, Entrant, Setting, entrants
from .shapes import FRAMES, audio_like, build_decoder, build_encoder, parts, windows_of
from .sides import Run, Work

_WINDOWS_AT_ONCE = 8


class LeftOut(NamedTuple):
    """A side that cannot run here, and why."""

    side: str
    why: str


@torch.inference_mode()
def measure(
    setting: Setting, model: Any, limits: Limits, progress: Progress, memory: bool = True
) -> Iterator[Row | LeftOut]:
    """All sides of a setting, each as soon as it is known.

    Args:
        setting: what to measure.
        model: language model of its shape, see `build_decoder`.
        limits: of the machine, see `measure_limits`.
        progress: told of every run.
        memory: whether to measure that too; on a CPU each side then runs once more, in a process
            of its own.

    Raises:
        UsageError: see `entrants`.
        FastAdaSPError: the model cannot be reduced, or a cache does not hold what was planned.
    """
    everyone = list(entrants(setting))
    _check_decoder(setting, model)
    steps = Steps(progress, 1 + len(everyone) * (1 + setting.rounds + memory))
    steps.begin("encoder")
    encode = encoder_seconds(setting, model.device, model.dtype)
    work, number = work_of(setting, model), model.dtype.itemsize
    runs: dict[Entrant, list[Run]] = {}
    for entrant in everyone:
        steps.begin(f"warming up {entrant}")
        if reason := _reason(setting, entrant, work):
            yield LeftOut(str(entrant), reason)
        else:
            runs[entrant] = []
    for turn in range(setting.rounds):
        for entrant, found in runs.items():
            steps.begin(f"round {turn + 1} of {setting.rounds}, {entrant}")
            found.append(_run(setting, entrant, work))
    plain = next((found for one, found in runs.items() if one.side == PLAIN), [])
    for entrant, found in runs.items():
        if memory:
            steps.begin(f"memory of {entrant}")
        peak = peak_of(setting, entrant, work) if memory else None
        yield row(setting, Measured(entrant, found, plain, encode, peak, number), limits)


def _check_decoder(setting: Setting, model: Any) -> None:
    """Refuse before anything is measured what the engine refuses."""
    reason = (
        why_not(parts(model).stack, model.get_input_embeddings()) if any(setting.reduce) else ""
    )
    if reason:
        raise StartError(f"{setting.shape} cannot be reduced: {reason}; use --reduce 0")


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


def peak_of(setting: Setting, entrant: Entrant, work: Work) -> int | None:
    """Bytes that one run of this side adds to the memory held; None where that is not known."""
    device = work.device
    if not reset_peak(device):
        return None
    if device.type == "cuda":
        return _added(entrant, work)
    # an allocator that keeps what it once had hides what the next one needs
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as alone:
        return alone.submit(_added_alone, setting, str(entrant), work.embedded.dtype).result()


@torch.inference_mode()
def _added_alone(setting: Setting, name: str, dtype: torch.dtype) -> int | None:
    entrant = next(one for one in entrants(setting) if str(one) == name)
    return _added(
        entrant, work_of(setting, build_decoder(setting.size, torch.device("cpu"), dtype))
    )


def _added(entrant: Entrant, work: Work) -> int | None:
    return added_bytes(work.device, lambda: entrant.run(work))


def _run(setting: Setting, entrant: Entrant, work: Work) -> Run:
    """One run, that of the cut which its row will claim."""
    run = entrant.run(work)
    check(setting, entrant, run, work.embedded.dtype.itemsize)
    return run


def _reason(setting: Setting, entrant: Entrant, work: Work) -> str:
    """Run a side once; why it cannot run here, or nothing."""
    try:
        _run(setting, entrant, work)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        torch.cuda.empty_cache()
        return first_line(error)
    return ""
