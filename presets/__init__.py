"""Presets: named, reasoned settings of the reduction, one YAML file each.

Knows YAML and nothing else of the house. What is wrong with a preset is a `PresetError`, one line
that names the allowed keys or values. Method names are not judged here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

ANCHORED = ("once", "constant", "decay")
"""Schedules that begin at the start layer."""
SCHEDULES = (*ANCHORED, "input")
POSITIONS = ("reindex", "keep")
MAX_REDUCE = 0.9

DEFAULT_BY_TASK = {
    "asr": "asr-safe",
    "st": "st-safe",
    "er": "er-aggressive",
    "sv": "er-aggressive",
    "sqa": "sqa-safe",
    "ac": "er-aggressive",
    "chat": "sqa-safe",
}


class PresetError(ValueError):
    """A preset that does not exist or does not say what it must."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One preset, as its YAML file says it.

    Attributes:
        name: what `--preset` takes.
        description: one line for the list of presets.
        tasks: what it is meant for; other tasks may use it, with a notice.
        method, schedule, reduce, positions, size_bias: see `core.config.ReductionConfig`.
        start: first reduced layer as a fraction of the number of decoder layers.
        reason: why these numbers.
        models: exceptions, model name to the keys that differ.
    """

    name: str
    method: str
    schedule: str
    reduce: float
    start: float
    description: str = ""
    tasks: tuple[str, ...] = tuple(DEFAULT_BY_TASK)
    positions: str = "keep"
    size_bias: bool | None = None
    reason: str = ""
    models: Mapping[str, Mapping[str, Any]] | None = None

    def for_model(self, model: str) -> Preset:
        """This preset with the exceptions that it makes for `model` (an id, a path or a name)."""
        exceptions = self.models or {}
        changes = exceptions.get(model) or exceptions.get(Path(model).name) or {}
        return _build({**_as_dict(self), **changes, "models": None}, f"preset {self.name}")


def names() -> tuple[str, ...]:
    """Names of the presets that come with the package, `none` first."""
    files = (Path(entry.name) for entry in resources.files(__name__).iterdir())
    found = sorted(file.stem for file in files if file.suffix == ".yaml")
    return tuple(sorted(found, key=lambda name: name != "none"))


def load(name: str) -> Preset:
    """The preset called `name`, or the one in the YAML file `name`."""
    text = read(name)
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise PresetError(f"preset {name} is not YAML: {where}") from error
    if not isinstance(data, dict):
        raise PresetError(f"preset {name} must be a mapping of {_choices(_KEYS)}")
    preset = _build({"name": Path(name).stem, **data}, f"preset {name}")
    for model in preset.models or {}:
        preset.for_model(model)
    return preset


def read(name: str) -> str:
    """The YAML text of a preset."""
    if _is_file(name):
        try:
            return Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PresetError(f"cannot read preset file {name}: {error}") from error
    if name not in names():
        raise PresetError(f"no preset {name!r}; choose one of {_choices(names())} or a .yaml file")
    return (resources.files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")


def _is_file(name: str) -> bool:
    return Path(name).suffix in (".yaml", ".yml") or Path(name).name != name


def shares(schedule: str) -> tuple[float, ...]:
    """What a schedule written in numbers says, such as `2-0-0-1`, relative to its largest.

    The input's share comes first, then each layer's; those behind the last number have none.

    Returns:
        () if it is not such a schedule.
    """
    if not re.fullmatch(r"\d+(\.\d+)?(-\d+(\.\d+)?)+", schedule):
        return ()
    numbers = [float(number) for number in schedule.split("-")]
    most = max(numbers)
    return tuple(number / most for number in numbers) if most else ()


_KEYS = tuple(field.name for field in fields(Preset))
_MODEL_KEYS = ("method", "schedule", "reduce", "start", "positions", "size_bias")


def _as_dict(preset: Preset) -> dict[str, Any]:
    return {key: getattr(preset, key) for key in _KEYS}


def _build(data: Mapping[str, Any], where: str) -> Preset:
    _check_keys(data, _KEYS, where)
    missing = [key for key in ("method", "schedule", "reduce", "start") if key not in data]
    if missing:
        raise PresetError(f"{where} lacks {_choices(missing)}")
    _check_values(data, where)
    for model, changes in (data.get("models") or {}).items():
        if not isinstance(changes, Mapping):
            raise PresetError(f"{where}: models.{model} must be a mapping")
        _check_keys(changes, _MODEL_KEYS, f"{where}, models.{model}")
    numbers = {"reduce": float(data["reduce"]), "start": float(data["start"])}
    tasks = tuple(data.get("tasks") or DEFAULT_BY_TASK)
    return Preset(**{**data, **numbers, "tasks": tasks})


def _check_keys(data: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    unknown = [str(key) for key in data if key not in allowed]
    if unknown:
        raise PresetError(f"{where}: unknown key {_choices(unknown)}; keys are {_choices(allowed)}")


def _check_values(data: Mapping[str, Any], where: str) -> None:
    for key in ("name", "method", "schedule"):
        if not isinstance(data[key], str):
            raise PresetError(f"{where}: {key} must be a word")
    if not shares(data["schedule"]):
        _check_choice(data["schedule"], SCHEDULES, f"{where}: schedule")
    _check_choice(data.get("positions", "keep"), POSITIONS, f"{where}: positions")
    for task in data.get("tasks") or ():
        _check_choice(task, tuple(DEFAULT_BY_TASK), f"{where}: tasks")
    _check_number(data["reduce"], MAX_REDUCE, f"{where}: reduce")
    _check_number(data["start"], 1.0, f"{where}: start")
    if not isinstance(data.get("size_bias"), bool | None):
        raise PresetError(f"{where}: size_bias must be true or false")


def _check_choice(value: object, choices: tuple[str, ...], where: str) -> None:
    if value not in choices:
        raise PresetError(f"{where} must be one of {_choices(choices)}, not {value!r}")


def _check_number(value: object, highest: float, where: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= float(str(value)) <= highest:
        raise PresetError(f"{where} must be a number from 0 to {highest:g}, not {value!r}")


def _choices(values: tuple[str, ...] | list[str]) -> str:
    return ", ".join(values)
