from __future__ import annotations

import ntpath
import posixpath
from pathlib import Path

import pytest

from core.records import Span
from core.results import files
from core.results.journal import Journal
from core.results.side import SideFiles, _inside
from tests.samples import failed, record


def made(folder: Path, formats: list[str], **more: bool) -> SideFiles:
    """Side files of a process that has just begun."""
    folder.mkdir(exist_ok=True)
    journal = Journal(folder / "results.jsonl")
    journal.read()
    return SideFiles(folder, formats, journal, **more)


def names(folder: Path) -> list[str]:
    """Of what lies in a folder, without the journal."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".files")
    return sorted(str(path.relative_to(folder)) for path in files)


def test_the_tree_mirrors_the_input(tmp_path: Path) -> None:
    side = made(tmp_path, ["srt", "txt"])
    side.write(record("talks/a.b.mp3"))
    side.write(record("b.wav"))
    assert names(tmp_path) == ["b.srt", "b.txt", "talks/a.b.srt", "talks/a.b.txt"]


def test_one_stem_twice_keeps_the_extension(tmp_path: Path) -> None:
    side = made(tmp_path, ["srt"])
    side.expect(["a.wav", "a.mp3", "b/a.wav", "c.wav", "c.wav.mp3"])
    for name in ("a.wav", "a.mp3", "b/a.wav", "c.wav", "c.wav.mp3"):
        side.write(record(name))
    assert names(tmp_path) == ["a.mp3.srt", "a.wav.srt", "b/a.srt", "c.srt", "c.wav.mp3.srt"]


def test_an_id_cannot_leave_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    side = made(folder, ["txt"])
    for name in ("../../a.wav", "/abs/b.wav", ".."):
        side.write(record(name))
    assert names(tmp_path) == ["out/a.txt", "out/abs/b.txt", "out/recording.txt"]


def test_an_id_cannot_leave_the_folder_on_windows() -> None:
    for name in ("C:/x.wav", "C:x.wav", "..\\..\\x.wav", "\\\\host\\share\\x.wav", "/x.wav"):
        assert _inside(name, ntpath) == "x.wav"
    assert _inside("a:b/call:1.wav", posixpath) == "a:b/call:1.wav"


def test_the_longest_name_a_disk_takes(tmp_path: Path) -> None:
    side = made(tmp_path, ["json", "srt"])
    long, other = "ä" * 125 + ".wav", "ä" * 125 + "x.wav"
    side.write(record(long))
    side.write(record(other))
    assert len(names(tmp_path)) == 4
    assert all(len(name.encode()) <= 255 for name in names(tmp_path))
    assert f"{'ä' * 125}.srt" in names(tmp_path)
    assert not side.lacking(long, "asr")
    side.write(record(f"{'x' * 300}/{'y' * 300}.wav"))
    assert not side.lacking(f"{'x' * 300}/{'y' * 300}.wav", "asr")


def test_what_a_kill_left_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    side = made(tmp_path, ["txt"])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: None)  # as far as a kill lets it come
        side.write(record("a.wav"))
        side.write(record("b.wav"))
    files._left_behind.cache_clear()  # another process goes on
    assert len(names(tmp_path)) == 2
    side.write(record("a.wav"))
    left = names(tmp_path)
    assert left[1:] == ["a.txt"]  # what belongs to others, who may be at work, stays
    side.write(record("b.wav"))
    assert names(tmp_path) == ["a.txt", "b.txt"]


def test_no_half_file_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    side = made(tmp_path, ["txt"])
    side.write(record("a.wav"))

    def broken(self: Path, target: Path) -> None:
        raise OSError("no")

    monkeypatch.setattr(Path, "replace", broken)
    assert side.write(record("a.wav", segments=(Span(0, 1, "new"),))).status == "failed"
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "one\ntwo\n"


def test_missing(tmp_path: Path) -> None:
    side = made(tmp_path, ["srt", "txt"])
    assert side.lacking("a.wav", "asr")
    side.write(record("a.wav"))
    assert not side.lacking("a.wav", "asr")
    assert not made(tmp_path, []).lacking("b.wav", "asr")
    assert failed().segments == ()
