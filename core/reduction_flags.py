"""The flags that say how a prompt is reduced: what they mean on top of a preset, and what clashes.

Knows presets, config and errors; no torch, no model. What methods there are is asked of those who
know; which of them read which flags is known here by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from presets import ANCHORED, MAX_REDUCE, POSITIONS, SCHEDULES, Preset, shares

from .config import ONE_PLACE, THRESHOLD_METHODS, ReductionConfig
from .errors import UsageError

PLACING_FLAGS = ("schedule", "start_layer", "positions", "size_bias")
REDUCTION_FLAGS = ("reduce", "method", "threshold", *PLACING_FLAGS)


def reduction_config(preset: Preset, overrides: Mapping[str, Any]) -> ReductionConfig:
    """The preset's settings with flags of `REDUCTION_FLAGS` on top, all of it validated.

    Raises:
        UsageError: names the flag, what is wrong with it, and the way out.
    """
    base = ReductionConfig(
        method=preset.method,
        schedule=preset.schedule,
        reduce=preset.reduce,
        positions=preset.positions,
        start_fraction=preset.start,
        size_bias=preset.size_bias,
    )
    config = replace(base, **overrides)
    if config.method == "none":
        config = _nothing(config, overrides)
    if not 0 <= config.reduce <= MAX_REDUCE:
        share = "KV bytes" if config.cuts_cache else "prefill FLOPs"
        raise UsageError(
            f"--reduce {config.reduce:g}: the share of {share} to cut goes from 0 to "
            f"{MAX_REDUCE}, as in --reduce 0.3"
        )
    if config.threshold is not None:
        config = _by_threshold(config, overrides)
    if config.cuts_cache:
        return _on_cache(config, overrides)
    if config.start_layer is not None and config.start_layer < 0:
        raise UsageError(f"--start-layer {config.start_layer}: layers are counted from 0")
    if not shares(str(config.schedule)):
        choice("--schedule", str(config.schedule), SCHEDULES)
    choice("--positions", str(config.positions), POSITIONS)
    if config.start_layer is not None and config.schedule not in ANCHORED:
        raise UsageError(
            f"--start-layer {config.start_layer}: schedule {config.schedule} begins at no layer;"
            f" leave it out, or use --schedule {' or '.join(ANCHORED)}"
        )
    return config


def _nothing(config: ReductionConfig, overrides: Mapping[str, Any]) -> ReductionConfig:
    """Settings that reduce nothing, whatever the preset's level; flags that ask for more clash."""
    level = ("reduce",) if overrides.get("reduce") else ()
    idle = [*level, *(name for name in PLACING_FLAGS if name in overrides)]
    if idle and "method" in overrides:
        raise UsageError(
            f"--method none reduces nothing: leave out {_flags(idle)}, or name a method"
        )
    return replace(config, reduce=0.0)


def _by_threshold(config: ReductionConfig, overrides: Mapping[str, Any]) -> ReductionConfig:
    """Settings of a method that decides by itself: no level, and one place, the input if unsaid."""
    if config.method not in THRESHOLD_METHODS:
        able = " or ".join(THRESHOLD_METHODS)
        raise UsageError(
            f"--threshold is not for {config.method}: say --method {able}, or use --reduce"
        )
    if "reduce" in overrides:
        raise UsageError("--threshold decides how much goes, and so does --reduce: leave one out")
    if not -1 <= (config.threshold or 0.0) <= 1:
        raise UsageError(f"--threshold {config.threshold:g}: a cosine, from -1 to 1")
    schedule = config.schedule if "schedule" in overrides else ONE_PLACE[0]
    if schedule not in ONE_PLACE:
        raise UsageError(
            f"--schedule {schedule}: a threshold decides at one place; use {' or '.join(ONE_PLACE)}"
        )
    return replace(config, reduce=0.0, schedule=schedule)


def _on_cache(config: ReductionConfig, overrides: Mapping[str, Any]) -> ReductionConfig:
    """Settings of a method that cuts the KV cache; what only the others read is refused."""
    idle = [name for name in PLACING_FLAGS if name in overrides]
    if idle:
        raise UsageError(
            f"--method {config.method} cuts the KV cache of every layer and leaves the prompt as "
            f"it is: leave out {_flags(idle)}"
        )
    return ReductionConfig(config.method, None, config.reduce, None, 0.0)


def _flags(names: Sequence[str]) -> str:
    return ", ".join("--" + name.replace("_", "-") for name in names)


def choice(flag: str, value: str, choices: tuple[str, ...]) -> str:
    """The value, if it is one of them.

    Raises:
        UsageError: names the flag and lists the choices.
    """
    if value not in choices:
        raise UsageError(f"{flag} {value}: choose one of {', '.join(choices)}")
    return value
