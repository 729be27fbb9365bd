from __future__ import annotations

from pathlib import Path

import pytest

import core.pipeline
import fastadasp
from tests.fakes import FakeStages


@pytest.fixture
def talks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(core.pipeline, "Rooms", FakeStages)
    folder = tmp_path / "talks"
    folder.mkdir()
    (folder / "a.wav").write_text("one")
    (folder / "b.wav").write_text("!media damaged")
    return folder


def test_transcribe(talks: Path) -> None:
    first, second = fastadasp.transcribe(talks, reduce=0.3)
    assert (first.pred_text, first.overrides) == ("one", {"reduce": 0.3})
    assert (second.status, second.error and second.error.message) == ("failed", "damaged")


def test_a_folder_of_results_gives_earlier_ones_too(talks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fastadasp.transcribe([talks / "a.wav"], output_dir=out, formats="txt")
    assert len(list(out.rglob("a.txt"))) == 1
    (talks / "b.wav").write_text("two")
    again = fastadasp.transcribe([talks / "a.wav", str(talks / "b.wav")], output_dir=out)
    assert [record.pred_text for record in again] == ["one", "two"]


def test_confusions_are_exceptions(talks: Path) -> None:
    with pytest.raises(fastadasp.UsageError, match="--lang"):
        fastadasp.transcribe(talks, task="st")


def test_all_public_names_are_there() -> None:
    for name in fastadasp.__all__:
        assert getattr(fastadasp, name) is not None
