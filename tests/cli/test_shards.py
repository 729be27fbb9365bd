"""`--shard`: each machine does its part, all parts together are the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fastadasp
from tests.fakes import FakeStages

COUNT = 4


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Thirty recordings, of which some share a stem."""
    folder = tmp_path / "in"
    for index in range(15):
        for kind in ("wav", "mp3"):
            path = folder / f"day{index % 3}" / f"{index:02d}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"one\n{index} {kind}")
    return folder


def records(*texts: str) -> dict[str, Any]:
    """By id, without what the machine has a part in; a double id is an error."""
    found: dict[str, Any] = {}
    for line in "".join(texts).splitlines():
        data = json.loads(line)
        assert data["id"] not in found
        found[data["id"]] = {key: value for key, value in data.items() if key != "batch_size"}
    return found


def test_all_shards_on_stdout_are_the_unsharded_run(cli: Any, many: Path) -> None:
    whole = cli("run", many)
    shards = [cli("run", many, "--shard", f"{n}/{COUNT}") for n in range(1, COUNT + 1)]
    assert all(shard.exit_code == 0 and shard.stdout for shard in shards)
    assert records(*(shard.stdout for shard in shards)) == records(whole.stdout)


def test_all_shards_in_one_folder_are_the_unsharded_run(
    cli: Any, many: Path, stages: FakeStages, tmp_path: Path
) -> None:
    one, all_ = tmp_path / "one", tmp_path / "all"
    for number in range(1, COUNT + 1):
        command = ("run", many, "-o", one, "-f", "txt", "--shard", f"{number}/{COUNT}")
        assert cli(*command).exit_code == 0
    cli("run", many, "-o", all_, "-f", "txt")
    parts = [path.read_text() for path in one.glob("results-*-of-4.jsonl")]
    assert len(parts) == COUNT
    assert records(*parts) == records((all_ / "results.jsonl").read_text())
    texts = {path.relative_to(all_): path.read_text() for path in all_.rglob("*.txt")}
    assert len(texts) == 30
    assert {path.relative_to(one): path.read_text() for path in one.rglob("*.txt")} == texts
    stages.log.clear()
    assert "skipped" in cli(*command).stderr
    assert stages.log == []


def test_another_way_to_share_is_refused_with_the_way_out(
    cli: Any, many: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    cli("run", many, "-o", out, "--shard", "1/4")
    for words in (("--shard", "2/5"), ()):
        refused = cli("run", many, "-o", out, *words)
        assert refused.exit_code == 2
        assert "--shard N/4" in refused.stderr


def test_paths_from_a_pipe(cli: Any, many: Path) -> None:
    paths = "".join(f"{path}\n" for path in sorted(many.rglob("*.*")))
    parts = [cli("run", "-", "--shard", f"{n}/2", input=paths).stdout for n in (1, 2)]
    assert len(records(*parts)) == 30


def test_a_shard_without_recordings_is_a_success(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("one")
    ends = [cli("run", tmp_path / "a.wav", "--shard", f"{n}/9", "-q") for n in range(1, 10)]
    assert {end.exit_code for end in ends} == {0}
    assert sum(len(end.stdout.splitlines()) for end in ends) == 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "half"])
def test_no_shard(cli: Any, many: Path, text: str) -> None:
    refused = cli("run", many, "--shard", text)
    assert refused.exit_code == 2
    assert "3/16" in refused.stderr


@pytest.mark.usefixtures("stages")
def test_in_python(many: Path, tmp_path: Path) -> None:
    parts = [
        fastadasp.transcribe(many, shard=f"{n}/2", output_dir=tmp_path / "out", formats="txt")
        for n in (1, 2)
    ]
    assert sorted(one.id for part in parts for one in part) == sorted(
        one.id for one in fastadasp.transcribe(many)
    )
    assert len(list((tmp_path / "out").rglob("*.txt"))) == 30
