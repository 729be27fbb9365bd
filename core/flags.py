"""From what a user says to a `RunConfig`: a preset, then single flags on top, all of it validated.

Knows presets, config and errors; no torch, no model, no method: whether a method or a language
exists is asked of those who know. `resolve` is the way in for the command line and for Python.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

import presets
from presets import DEFAULT_BY_TASK, Preset, PresetError

from .config import ASKING, AUTO, DEFAULT_MODEL, DTYPES, OutputConfig, RunConfig
from .errors import UsageError
from .languages import language_code
from .listening_flags import audio_track, channels
from .reduction_flags import REDUCTION_FLAGS, choice, reduction_config
from .shard import Shard

TASKS = tuple(DEFAULT_BY_TASK)
TASK_ALIASES = {"transcribe": "asr", "translate": "st"}
SEGMENT_MODES = ("vad", "fixed", "whole")
# for the other tasks, what is no speech may matter too: a caption, a mood, a noise
DEFAULT_SEGMENT = {task: "vad" if task in ("asr", "st") else "fixed" for task in TASKS}
FORMATS = ("jsonl", "srt", "vtt", "txt", "tsv", "json")
QUANTIZATIONS = ("8bit", "4bit")
DTYPE_ALIASES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

Number = TypeVar("Number", int, float)


class Flags(TypedDict, total=False):
    """What a user may say; None or left out = the default. Names are those of the long flags."""

    task: str | None
    lang: str | None
    language: str | None
    question: str | None
    prompt: str | None
    preset: str | None
    reduce: float | None
    method: str | None
    schedule: str | None
    start_layer: int | None
    positions: str | None
    size_bias: bool | None
    threshold: float | None
    model: str | None
    device: str | None
    dtype: str | None
    quantize: str | None
    batch_size: int | str | None
    num_beams: int | None
    max_new_tokens: int | None
    segment: str | None
    chunk_length: float | None
    offline: bool | None
    hash: bool | None
    max_memory: int | str | None
    audio_track: int | str | None
    channels: int | str | None


def resolve(**flags: Unpack[Flags]) -> RunConfig:
    """The task's default preset or the one named, then flags on top; all of it validated.

    Raises:
        UsageError: names the flag, what is wrong with it, and the way out.
    """
    said = _said(flags)
    task = task_name(said.get("task", "asr"))
    language, target = _languages(task, said)
    _check_question(task, said)
    model = said.get("model", DEFAULT_MODEL)
    preset, base = _presets(task, said)
    overrides = {name: said[name] for name in REDUCTION_FLAGS if name in said}
    segment = choice("--segment", said.get("segment", DEFAULT_SEGMENT[task]), SEGMENT_MODES)
    chunk_length = said.get("chunk_length")
    if chunk_length is not None and not chunk_length >= 1:
        raise UsageError(f"--chunk-length {chunk_length:g}: must be at least 1 second")
    if segment == "whole" and chunk_length is not None:
        raise UsageError("--segment whole makes no chunks: leave out --chunk-length, or use fixed")
    return RunConfig(
        task=task,
        language=language,
        target_language=target,
        question=said.get("question"),
        prompt=said.get("prompt"),
        preset=preset.name,
        overrides=overrides,
        reduction=reduction_config(_for_model(base, model), overrides),
        model=model,
        device=_device(said.get("device", "auto")),
        dtype=_dtype(said.get("dtype", "auto")),
        batch_size=_batch_size(said.get("batch_size", "auto")),
        num_beams=_above_zero("--num-beams", said.get("num_beams", 1)) or 1,
        max_new_tokens=_above_zero("--max-new-tokens", said.get("max_new_tokens")),
        segment=segment,
        chunk_length=chunk_length,
        offline=bool(said.get("offline", False)),
        hash=bool(said.get("hash", False)),
        max_memory=_bytes(said.get("max_memory")),
        quantize=_quantize(said.get("quantize")),
        audio_track=audio_track(said.get("audio_track", "auto")),
        channels=channels(said.get("channels", "mix"), said.get("audio_track")),
    )


def resolve_tasks(**flags: Unpack[Flags]) -> RunConfig:
    """The same where `task` may be several with commas: the first, with the others in `also`.

    Each task has the settings that it would have alone. A flag that only some tasks can take goes
    to these; if none can, that is an error as ever.

    Raises:
        UsageError: as `resolve`; also for a prompt that would make all tasks the same.
    """
    first, *others = (resolve(**one) for one in _task_by_task(flags))
    return replace(first, also=tuple(others))


def _task_by_task(flags: Flags) -> list[Flags]:
    words = str(flags.get("task") or "asr").split(",")
    tasks = tuple(dict.fromkeys(task_name(word) for word in words))
    if len(tasks) == 1:
        return [Flags({**flags, "task": tasks[0]})]
    if flags.get("prompt"):
        raise UsageError(f"--prompt replaces the prompt of one task, not of {', '.join(tasks)}")
    takers = {"lang": ("st",) if "st" in tasks else ("asr",), "question": ASKING}
    left_out = {
        task: {name for name, able in takers.items() if task not in able and {*able} & {*tasks}}
        for task in tasks
    }
    return [
        Flags({**flags, **dict.fromkeys(left_out[task]), "task": task})  # type: ignore[typeddict-item]
        for task in tasks
    ]


def notices(**flags: Unpack[Flags]) -> tuple[str, ...]:
    """What a user should be told about flags that are allowed but easily misread."""
    found = (text for one in _task_by_task(flags) for text in _notices(one))
    return tuple(dict.fromkeys(found))


def _notices(flags: Flags) -> tuple[str, ...]:
    said = _said(flags)
    task = task_name(said.get("task", "asr"))
    found = []
    if task == "asr" and "lang" in said and "language" not in said:
        found.append(
            f"--lang {said['lang']} is taken as the spoken language; to translate add --task st"
        )
    preset = _load(said.get("preset", DEFAULT_BY_TASK[task]))
    if task not in preset.tasks:
        found.append(f"preset {preset.name} is meant for {', '.join(preset.tasks)}, not for {task}")
    return tuple(found)


def resolve_output(
    output_dir: str | Path | None = None,
    formats: str | Sequence[str] | None = None,
    shard: str | None = None,
    **switches: bool,
) -> OutputConfig:
    """Output side of a run; `formats` as a comma list or a sequence of names, `shard` as N/M."""
    words = formats.split(",") if isinstance(formats, str) else formats or ("jsonl",)
    asked = (word.strip().lower() for word in words)
    names = tuple(dict.fromkeys(choice("--format", name, FORMATS) for name in asked if name))
    if not names:
        raise UsageError(f"--format is empty; choose from {', '.join(FORMATS)}")
    if output_dir is None and names != ("jsonl",):
        raise UsageError(f"--format {','.join(names)} writes files: say where with -o DIR")
    folder = None if output_dir is None else Path(output_dir)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder} is a file; give a folder")
    part = None if shard is None else Shard.parse(shard)
    return OutputConfig(output_dir=folder, formats=names, shard=part, **switches)


def task_name(name: str) -> str:
    """The short name of a task, aliases resolved."""
    word = name.strip().lower()
    return choice("--task", TASK_ALIASES.get(word, word), (*TASKS, *TASK_ALIASES))


def _said(flags: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in flags if name not in Flags.__annotations__]
    if unknown:
        allowed = ", ".join(Flags.__annotations__)
        raise UsageError(f"unknown setting {', '.join(unknown)}; settings are {allowed}")
    return {name: value for name, value in flags.items() if value is not None}


def _languages(task: str, said: Mapping[str, Any]) -> tuple[str | None, str | None]:
    spoken = language_code("--language", said.get("language"))
    lang = language_code("--lang", said.get("lang"))
    if task == "st":
        if lang is None:
            heard = f" (--language {spoken} is the spoken one)" if spoken else ""
            raise UsageError(f"--task st needs the language to translate into: --lang CODE{heard}")
        return spoken, lang
    if lang is None:
        return spoken, None
    if task != "asr":
        raise UsageError(
            f"--lang is the target of --task st; for {task} say the spoken language with --language"
        )
    if spoken not in (None, lang):
        raise UsageError(
            f"--lang {lang} and --language {spoken} differ; for a translation add --task st"
        )
    return lang, None


def _check_question(task: str, said: Mapping[str, Any]) -> None:
    if said.get("question") and task not in ASKING:
        raise UsageError(f"--question goes with --task sqa, not with {task}; or use --prompt")


def no_question(task: str) -> str:
    """The way out for a task that needs a question and has none."""
    way = '--question "..."' if task == "sqa" else '--prompt "..."'
    return f'--task {task} needs a question: {way}, or a manifest with "question" in its rows'


def _presets(task: str, said: Mapping[str, Any]) -> tuple[Preset, Preset]:
    """The preset that was asked for, and the one that the numbers come from."""
    preset = _load(said.get("preset", DEFAULT_BY_TASK[task]))
    bare = preset.method == "none" and "method" not in said and said.get("reduce", 0) != 0
    return preset, _load(DEFAULT_BY_TASK[task]) if bare else preset


def _load(name: str) -> Preset:
    try:
        return presets.load(name)
    except PresetError as error:
        raise UsageError(f"--preset: {error}") from error


def _for_model(preset: Preset, model: str) -> Preset:
    try:
        return preset.for_model(model)
    except PresetError as error:
        raise UsageError(f"--preset: {error}") from error


def _above_zero(flag: str, value: Number | None) -> Number | None:
    if value is not None and not value > 0:
        raise UsageError(f"{flag} {value}: must be above 0")
    return value


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|split|cuda(:\d+)?", value):
        raise UsageError(f"--device {value}: choose one of auto, cpu, cuda, cuda:N, mps, split")
    return value


def _dtype(value: str) -> str:
    return choice("--dtype", DTYPE_ALIASES.get(value, value), (AUTO, *DTYPES))


def _quantize(value: str | None) -> str | None:
    return None if value is None else choice("--quantize", value, QUANTIZATIONS)


def _batch_size(value: int | str) -> int | None:
    if value == "auto":
        return None
    if not str(value).isdecimal() or int(value) < 1:
        raise UsageError(f"--batch-size {value}: give auto or a number from 1 up")
    return int(value)


def _bytes(value: int | str | None) -> int | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", str(value).strip(), re.IGNORECASE)
    size = int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " ")) if found else 0
    if size < 1:
        raise UsageError(f"--max-memory {value}: give a size such as 8G or 500M")
    return size
