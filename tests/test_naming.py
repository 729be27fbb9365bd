"""One file, one record, however it was named; two files, two records, whatever their names."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from core.flags import resolve
from core.media.discover import discover
from core.naming import settle
from core.pipeline import run
from core.records import Recording
from core.results.store import MemorySink, Store
from core.shard import Shard
from tests.fakes import FakeStages

CONFIG = resolve(model="fake")
HASHED = resolve(model="fake", hash=True)
NAMES = [f"talks/{number:04d}.wav" for number in range(60)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def put(name: str, text: str = "words", time: int = 1_700_000_000) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time, time))
    return path


def go(
    *inputs: str, config: Any = CONFIG, shard: Shard | None = None, stdin: bytes = b""
) -> list[str]:
    """What was transcribed by a run into `out`."""
    stages = FakeStages()
    found: Any = discover(inputs, stdin=io.BytesIO(stdin))
    part = shard.suffix if shard else ""
    with Store(Path("out"), CONFIG.settings, ["txt"], part=part) as store:
        recordings = found if "-" in inputs else list(found)
        mine = settle(recordings, store, shard, hashed=config.hash)
        run(config, mine, store, stages=stages)
    return [name for batch in stages.log if isinstance(batch, list) for name, _ in batch]


def records() -> dict[str, str]:
    """Path and text of each record by id, from all parts."""
    found: dict[str, str] = {}
    for path in Path("out").glob("results*.jsonl"):
        for one in map(json.loads, path.read_text().splitlines()):
            assert one["id"] not in found
            found[one["id"]] = one["pred_text"]
    return found


def test_a_second_folder_with_the_same_names_replaces_nothing(here: Path) -> None:
    put("d1/r.wav", "one"), put("d2/r.wav", "two"), put("d3/d2/r.wav", "six")
    assert go("d1") == ["r.wav"]
    assert go("d2") == ["d2/r.wav"]  # of the same size and time
    assert go("d3/d2") == [next(iter(set(records()) - {"r.wav", "d2/r.wav"}))]
    assert sorted(records().values()) == ["one", "six", "two"]
    texts = sorted(path.read_text() for path in Path("out").rglob("*.txt"))
    assert texts == ["one\n", "six\n", "two\n"]
    assert go("d1") == go("d2") == go("d3/d2") == go("d1", "d2", "d3") == []


def test_a_folder_more_redoes_nothing(here: Path) -> None:
    put("d1/r.wav", "one"), put("d2/r.wav", "two"), put("d1/sub/q.wav", "sub")
    assert go("d1") == ["r.wav", "sub/q.wav"]
    assert go("d1", "d2") == ["d2/r.wav"]
    assert go("d2", "d1") == go("d1") == go("d2") == []
    assert records() == {"r.wav": "one", "d2/r.wav": "two", "sub/q.wav": "sub"}


def ways(path: Path, here: Path) -> dict[str, list[str]]:
    """Ways to name the file d1/r.wav."""
    os.symlink(here / "d1", "link")
    os.symlink("d1/r.wav", "other.wav")
    Path("list.jsonl").write_text(json.dumps({"audio_filepath": "d1/r.wav", "text": "ref"}))
    Path("d1/list.txt").write_text("r.wav\n")
    return {
        "relative": ["d1/r.wav"],
        "dotted": ["./d1/../d1/r.wav"],
        "absolute": [str(path.resolve())],
        "folder": ["d1"],
        "absolute folder": [str(here / "d1")],
        "above": ["."],
        "glob": ["d1/*.wav"],
        "deep glob": ["**/*.wav"],
        "link to its folder": ["link"],
        "link": ["other.wav"],
        "manifest": ["list.jsonl"],
        "list": ["d1/list.txt"],
        "stdin": ["-"],
        "several": ["d1", "other.wav", "link/r.wav", "list.jsonl"],
    }


@pytest.mark.parametrize("first", range(14))
def test_a_file_is_the_same_file_however_it_was_named(first: int, here: Path) -> None:
    listed = list(ways(put("d1/r.wav", "one"), here).values())
    assert len(go(*listed[first], stdin=b"d1/r.wav\n")) == 1
    for inputs in listed:
        assert go(*inputs, stdin=b"d1/r.wav\n") == []
    assert list(records().values()) == ["one"]


def test_a_changed_file_is_done_again_under_its_name(here: Path) -> None:
    put("d1/r.wav", "one"), put("d2/r.wav", "two")
    go("d1"), go("d1", "d2")
    put("d1/r.wav", "other", time=1_700_000_001)
    assert go("d1/r.wav") == ["r.wav"]
    assert records() == {"r.wav": "other", "d2/r.wav": "two"}


@pytest.mark.parametrize("inputs", [["new/d1", "new/d2"], ["new"]])
def test_moved_files_are_known_by_name_size_and_time(inputs: list[str], here: Path) -> None:
    put("d1/r.wav", "one"), put("d2/r.wav", "other"), put("d2/q.wav", "three")
    go("d1", "d2")
    before = records()
    Path("new").mkdir()
    shutil.move("d1", "new/d1"), shutil.move("d2", "new/d2")
    assert go(*inputs) == []
    put("new/d1/r.wav", "one", time=1)  # another one, as far as anybody can tell
    assert len(go("new")) == 1
    assert set(before.items()) <= set(records().items())


def test_a_copy_is_another_file_but_not_with_hash(here: Path) -> None:
    put("d1/r.wav", "one")
    go("d1", config=HASHED)
    shutil.copytree("d1", "d2")  # with its times
    assert go("d2", config=HASHED) == []
    assert go("d2") == ["d2/r.wav"]
    put("d3/r.wav", "six")
    assert go("d3", config=HASHED) == ["d3/r.wav"]
    assert go("d1", "d2", "d3", config=HASHED) == []
    assert sorted(records().values()) == ["one", "one", "six"]


def test_equal_files_of_one_run_have_a_record_each(here: Path) -> None:
    put("d1/r.wav", "one"), put("d2/r.wav", "one")
    assert go("d1", config=HASHED) == ["r.wav"]
    assert go("d1", "d2", config=HASHED) == ["d2/r.wav"]
    assert go("d2", "d1", config=HASHED) == []


def test_a_name_is_given_once(here: Path) -> None:
    put("d1/r.wav", "one")
    go("d1", config=HASHED)
    shutil.copytree("d1", "d2")
    assert go("d2", "d1/r.wav", config=HASHED) == ["d1/r.wav"]  # the copy has come first
    assert records() == {"r.wav": "one", "d1/r.wav": "one"}
    shutil.rmtree("out")
    go("d1")
    shutil.rmtree("d1")
    shutil.copytree("d2", "d3")
    assert go("d2", "d3") == ["d3/r.wav"]  # one of them is the one that was moved


def test_names_that_a_manifest_gives(here: Path) -> None:
    put("d1/r.wav", "one"), put("d2/r.wav", "two")
    rows = [{"audio_filepath": "d1/r.wav", "id": name} for name in ("en", "de")]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("b.jsonl").write_text(json.dumps({"audio_filepath": "d2/r.wav", "id": "en"}))
    assert go("a.jsonl") == ["en", "de"]
    assert go("d1") == ["r.wav"]  # a name of its own makes a record of its own
    [other] = go("b.jsonl")
    assert other.startswith("en~")
    assert go("a.jsonl") == go("b.jsonl") == go("d1") == []
    assert records() == {"en": "one", "de": "one", "r.wav": "one", other: "two"}


def test_several_questions_about_one_file(here: Path) -> None:
    put("a.wav", "!ask")
    sqa = resolve(model="fake", task="sqa")
    rows = [{"audio_filepath": "a.wav", "question": asked} for asked in ("who?", "when?")]
    Path("list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for skipped in (0, 2):
        with Store(Path("out"), sqa.settings) as store:
            mine = settle(list(discover(["list.jsonl"])), store)
            assert run(sqa, mine, store, stages=FakeStages()).skipped == skipped
    assert sorted(records().values()) == ["when?", "who?"]


def test_a_link_that_leads_elsewhere_now(here: Path) -> None:
    put("far/one.wav", "one"), put("far/two.wav", "two")
    os.symlink("far/one.wav", "latest.wav")
    assert go("latest.wav") == ["latest.wav"]
    os.unlink("latest.wav")
    os.symlink("far/two.wav", "latest.wav")
    assert len(go("latest.wav")) == 1
    assert go("far") == go("latest.wav") == []
    assert sorted(records().values()) == ["one", "two"]


def test_a_file_that_was_missing_keeps_its_name(here: Path) -> None:
    put("b.wav", "two")
    assert go("a.wav", "b.wav") == ["b.wav"]
    put("a.wav", "one")
    assert go(str(here / "a.wav"), "b.wav") == ["a.wav"]
    assert records() == {"a.wav": "one", "b.wav": "two"}


@pytest.mark.parametrize("seed", range(12))
def test_any_runs_over_any_folders_give_a_record_a_file(seed: int, here: Path) -> None:
    """Nothing is done twice, nothing is lost, and no side file is shared."""
    rng = Random(seed)
    files: dict[str, str] = {}
    for round_ in range(5):
        for _ in range(rng.randint(1, 4)):
            folders = [rng.choice(("x", "y", "x/y")) for _ in range(rng.randint(1, 2))]
            name = "/".join([*folders, rng.choice(("r.wav", "r.mp3", "q.wav"))])
            text = files.setdefault(str(here / name), f"{round_:02d}{len(files):03d}")
            put(name, text)
        inputs = [_written(rng, name, here) for name in rng.sample(sorted(files), len(files))]
        inputs = inputs[: rng.randint(1, len(inputs))]
        before = records() if Path("out").exists() else {}
        done = go(*inputs)
        assert len(done) == len(set(done)) and not set(done) & set(before)
        assert set(before.items()) <= set(records().items())
    go(".")
    assert sorted(records().values()) == sorted(files.values())
    texts = sorted(path.read_text().strip() for path in Path("out").rglob("*.txt"))
    assert sorted(set(texts)) == sorted(files.values())
    assert go(".") == []


def _written(rng: Random, path: str, here: Path) -> str:
    """A file or a folder above it, relative or absolute, or a glob."""
    name = os.path.relpath(path, here)
    top = name.split("/")[0]
    ways = (name, path, os.path.dirname(name), top, f"./{top}", str(here / top), f"{top}/**/*")
    return rng.choice(ways)


def shares(count: int, *inputs: str) -> list[str]:
    return [name for n in range(1, count + 1) for name in go(*inputs, shard=Shard(n, count))]


def test_shards_know_what_the_others_have_done(here: Path) -> None:
    for number in range(12):
        put(f"d1/{number:02d}.wav", f"a{number:02d}"), put(f"d2/{number:02d}.wav", f"b{number:02d}")
    assert len(shares(3, "d1")) == 12
    assert sorted(shares(3, "d1", "d2")) == [f"d2/{number:02d}.wav" for number in range(12)]
    assert shares(3, "d2", "d1") == shares(3, "d1") == shares(3, "d2") == []
    assert len(records()) == 24
    assert len({path.read_text() for path in Path("out").rglob("*.txt")}) == 24
    put("d1/03.wav", "new", time=1)
    assert shares(3, ".") == ["03.wav"]


def test_shards_on_a_stream(here: Path) -> None:
    names = [f"d1/{number}.wav" for number in range(9)]
    for name in names:
        put(name, name)
    stdin = "\n".join(names).encode()
    done = [name for n in (1, 2) for name in go("-", shard=Shard(n, 2), stdin=stdin)]
    assert sorted(done) == names
    assert shares(2, "d1") == []


def test_a_list_stays_a_list_and_a_stream_a_stream() -> None:
    found = [Recording(name, Path(name)) for name in NAMES]
    mine = settle(found, MemorySink(), Shard(1, 4))
    assert isinstance(mine, list)
    assert 0 < len(mine) < len(found)
    assert list(settle(iter(found), MemorySink(), Shard(1, 4))) == mine
    assert settle(found, MemorySink()) == found


def test_all_are_announced_also_those_of_other_shards() -> None:
    class Announced(MemorySink):
        def expect(self, ids: Any) -> None:
            self.ids = [*getattr(self, "ids", ()), *ids]

    found = [Recording(name, Path(name)) for name in NAMES]
    sink = Announced()
    settle(found, sink, Shard(1, 4))
    assert sink.ids == NAMES


def test_names_that_no_disk_can_hold(here: Path) -> None:
    put("b.wav", "two")
    odd: Sequence[str] = ["nul\0.wav", "x" * 300 + ".wav", "", "."]
    for _ in range(2):
        go("b.wav", *odd[:3])
        go(*odd[:3], ".")
    assert records()["b.wav"] == "two"
