from __future__ import annotations

from pathlib import Path

import pytest

import presets

VALID = {"method": "fastadasp", "schedule": "once", "reduce": 0.4, "start": 0.1}


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", presets.names())
def test_every_shipped_preset_says_what_it_is_for_and_why(name: str) -> None:
    preset = presets.load(name)
    assert preset.name == name
    assert preset.description and len(preset.reason) > 60
    assert preset.tasks


def test_the_shipped_presets_are_these() -> None:
    assert presets.names()[0] == "none"
    assert {"none", "asr-safe", "st-safe", "er-aggressive"} <= set(presets.names())


@pytest.mark.parametrize(
    ("name", "reduce", "schedule"),
    [
        ("none", 0.0, "once"),
        ("asr-safe", 0.2, "constant"),
        ("asr-aggressive", 0.5, "input"),
        ("st-safe", 0.2, "decay"),
        ("er-aggressive", 0.5, "once"),
        ("sqa-safe", 0.3, "once"),
    ],
)
def test_levels_that_are_promised(name: str, reduce: float, schedule: str) -> None:
    preset = presets.load(name)
    assert (preset.reduce, preset.schedule, preset.positions) == (reduce, schedule, "keep")


@pytest.mark.parametrize(("task", "name"), presets.DEFAULT_BY_TASK.items())
def test_the_default_of_a_task_exists_and_is_meant_for_it(task: str, name: str) -> None:
    assert task in presets.load(name).tasks


def test_a_model_may_differ_by_id_or_by_folder_name() -> None:
    preset = presets.load("asr-safe")
    assert preset.start > 0
    assert preset.for_model("embedded").start == 0
    assert preset.for_model("/somewhere/embedded").start == 0
    assert preset.for_model("Qwen/Qwen2-Audio-7B-Instruct").start == preset.start


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = write(tmp_path, "method: fastadasp\nschedule: decay\nreduce: 0.4\nstart: 0.1\n")
    preset = presets.load(path)
    assert (preset.name, preset.schedule, preset.reduce) == ("mine", "decay", 0.4)


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(presets.PresetError, match=r"asr-saef.*none.*asr-safe.*er-aggressive"):
        presets.load("asr-saef")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reduce: [", "is not YAML"),
        ("- a\n- b\n", "must be a mapping"),
        ("method: a\nschedule: once\nreduce: 0.1\nstart: 0\nreduec: 0.2\n", "unknown key reduec;"),
        ("method: a\nschedule: once\nreduce: 0.1\n", "lacks start"),
        ("method: a\nschedule: wonce\nreduce: 0.1\nstart: 0\n", "schedule must be one of once"),
        ("method: 3\nschedule: once\nreduce: 0.1\nstart: 0\n", "method must be a word"),
        ("method: a\nschedule: once\nreduce: 95\nstart: 0\n", "reduce must be a number from 0 to"),
        ("method: a\nschedule: once\nreduce: yes\nstart: 0\n", "reduce must be a number"),
        (
            "method: a\nschedule: once\nreduce: 0.1\nstart: 2\n",
            "start must be a number from 0",
        ),
        (
            "method: a\nschedule: once\nreduce: 0.1\nstart: 0\nmodels: {m: {taks: 1}}\n",
            r"models\.m: unknown key taks",
        ),
        (
            "method: a\nschedule: once\nreduce: 0.1\nstart: 0\nmodels: {m: {reduce: 2}}\n",
            "reduce must be a number",
        ),
        ("method: a\nschedule: once\nreduce: 0.1\nstart: 0\npositions: k\n", "positions must be"),
        ("method: a\nschedule: once\nreduce: 0.1\nstart: 0\ntasks: [asd]\n", "tasks must be one"),
    ],
)
def test_a_bad_file_is_one_line_that_says_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(presets.PresetError, match=message) as error:
        presets.load(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_a_preset_error(tmp_path: Path) -> None:
    with pytest.raises(presets.PresetError, match="cannot read preset file"):
        presets.load(str(tmp_path / "absent.yaml"))
