from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.errors import UsageError
from core.methods import CACHE_METHODS, METHODS
from core.studies.grid import Grid, check
from core.studies.sets import find_blocks, find_sets
from tests.studies.fakes import make_set

ABLE = ("asr", "st", "er")


def test_a_set_is_a_manifest_a_folder_or_a_folder_of_folders(tmp_path: Path) -> None:
    one = make_set(tmp_path / "all" / "speech", {"a.wav": {"text": "red"}})
    make_set(tmp_path / "all" / "er", {"b.wav": {"emotion": "sad"}})
    (tmp_path / "all" / "empty").mkdir()
    for item in (one, one / "manifest.jsonl"):
        [found] = find_sets([item])
        assert (found.name, [recording.id for recording in found.recordings]) == (
            "speech",
            ["a.wav"],
        )
    assert [found.name for found in find_sets([tmp_path / "all"])] == ["er", "speech"]
    assert len(find_sets([one, one / "manifest.jsonl"])) == 1


def test_sets_of_one_name_are_told_apart(tmp_path: Path) -> None:
    sets = [make_set(tmp_path / day / "talks", {"a.wav": {"text": "red"}}) for day in "123"]
    assert [found.name for found in find_sets(sets)] == ["talks", "talks-2", "talks-3"]
    other = sets[0] / "dev.jsonl"
    other.write_text((sets[0] / "manifest.jsonl").read_text())
    assert [found.name for found in find_sets([other])] == ["talks-dev"]


def test_tasks_are_what_references_and_model_allow(tmp_path: Path) -> None:
    rows: dict[str, dict[str, Any]] = {
        "a.wav": {"text": "red", "translation": "rot", "emotion": "sad", "answer": "x"},
        "b.wav": {"text": "blue"},
        "c.wav": {"emotion": "happy", "text": None},
    }
    sets = find_sets([make_set(tmp_path / "s", rows)])
    blocks = find_blocks(sets, (), ABLE)
    found = {block.task: ([one.id for one in block.recordings], block.left_out) for block in blocks}
    assert found == {
        "asr": (["a.wav", "b.wav"], 1),
        "st": (["a.wav"], 2),
        "er": (["a.wav", "c.wav"], 1),
    }
    assert [block.references for block in blocks if block.task == "er"] == [(("sad",), ("happy",))]
    # asked for by name: the model may refuse it, but it is not passed over
    assert [block.task for block in find_blocks(sets, ("er",), ("asr",))] == ["er"]


def test_a_question_makes_an_answer_a_reference(tmp_path: Path) -> None:
    rows = {"a.wav": {"question": "who?", "answer": "she"}, "b.wav": {"answer": "he"}}
    [block] = find_blocks(find_sets([make_set(tmp_path / "s", rows)]), ("sqa",), ABLE)
    # the second fails in the run, rather than being passed over in silence
    assert [one.question for one in block.recordings] == ["who?", None]


def test_a_limit_is_spread_over_the_set(tmp_path: Path) -> None:
    rows = {f"{number}.wav": {"text": "red"} for number in range(10)}
    sets = find_sets([make_set(tmp_path / "s", rows)])
    for limit, ids in ((3, ["0.wav", "3.wav", "6.wav"]), (99, list(rows))):
        [block] = find_blocks(sets, ("asr",), ABLE, limit)
        assert [recording.id for recording in block.recordings] == ids


@pytest.mark.parametrize(
    ("tasks", "row", "complaint"),
    [
        ((), {"duration": 1.0}, '"text"'),
        (("st",), {"text": "red"}, 'st .*"translation" or "target_text"'),
        (("sqa",), {"answer": "red"}, '"answer" and "question"'),
        (("chat",), {"text": "red"}, "never scored"),
        (("er",), {"emotion": "bored"}, "a.wav: .*neutral, happy"),
    ],
)
def test_a_set_without_references_says_what_it_lacks(
    tmp_path: Path, tasks: tuple[str, ...], row: dict[str, Any], complaint: str
) -> None:
    sets = find_sets([make_set(tmp_path / "s", {"a.wav": row})])
    with pytest.raises(UsageError, match=complaint):
        find_blocks(sets, tasks, ABLE)


def test_what_is_no_set(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("")
    for item, complaint in (("gone", "no such"), ("a.wav", "JSON lines"), ("", "subfolders")):
        with pytest.raises(UsageError, match=complaint):
            find_sets([tmp_path / item])


def settings(grid: Grid, task: str = "asr") -> list[tuple[Any, ...]]:
    found = (config.reduction for config in grid.reduced(task))
    return [(how.method, how.schedule, how.positions, how.start_layer, how.reduce) for how in found]


def test_the_task_decides_where_nothing_was_said() -> None:
    levels = (0.1, 0.2, 0.3, 0.4, 0.5)
    assert settings(Grid()) == [("fastadasp", "constant", "keep", None, x) for x in levels]
    assert settings(Grid(levels=(0, 0.3)), "er") == [("ward", "once", "keep", None, 0.3)]
    full = Grid().full("asr")
    assert (full.reduction.method, full.reduction.reduce) == ("none", 0.0)


def test_every_combination_is_a_point() -> None:
    grid = Grid((0.2,), ("all",), ("once", "decay"), ("keep", "reindex"), (0, 2))
    found = settings(grid)
    assert len(found) == len(set(found)) == 8 * len(METHODS) + len(CACHE_METHODS)
    assert ("fastadasp", "decay", "reindex", 2, 0.2) in found
    assert ("h2o", None, None, None, 0.2) in found


def test_a_start_layer_is_for_schedules_that_begin_at_one() -> None:
    found = settings(Grid((0.2,), ("ward",), ("input", "once"), (), (0, 2)))
    assert [(how[1], how[3]) for how in found] == [("input", None), ("once", 0), ("once", 2)]


def test_presets_as_they_are_shipped() -> None:
    grid = Grid(presets=("none", "asr-safe", "er-aggressive"))
    assert [config.preset for config in grid.reduced("asr")] == ["asr-safe"]
    assert [config.preset for config in grid.reduced("er")] == ["er-aggressive"]
    # beside a grid, and once when the grid has the same settings
    both = Grid(levels=(0.2, 0.4), presets=("asr-safe",)).reduced("asr")
    assert [(config.reduction.reduce, config.overrides) for config in both] == [
        (0.2, {}),
        (0.4, {"reduce": 0.4}),
    ]


@pytest.mark.parametrize(
    ("grid", "way_out"),
    [
        (Grid(levels=(2.0,)), "0 to 0.9"),
        (Grid(levels=(float("nan"),)), "0 to 0.9"),
        (Grid(methods=("fastadsap",)), "fastadasp"),
        (Grid(methods=("all", "fastadasp")), "fastadasp"),
        (Grid(schedules=("wonce",)), "once, constant"),
        (Grid(positions=("kept",)), "reindex, keep"),
        (Grid(presets=("asr-saef",)), "asr-safe"),
        (Grid(common={"device": "gpu"}), "cuda"),
    ],
)
def test_a_grid_is_checked_before_a_model_loads(grid: Grid, way_out: str) -> None:
    with pytest.raises(UsageError, match=way_out):
        check(grid)
