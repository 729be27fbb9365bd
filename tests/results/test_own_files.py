"""Whose a file in the folder of results is, and what becomes of one that cannot be written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.errors import FastAdaSPError, UsageError
from core.records import Source, Span, Transcript
from core.results import side
from core.results.line_file import LineFile
from core.results.store import Store
from core.results.writers import WRITERS
from tests.samples import BASE, failed, record

HASH = BASE.settings_hash
KEY = ("a.wav", "asr")
KINDS = tuple(WRITERS)


def said(text: str, name: str = "a.wav", **more: Any) -> Transcript:
    return record(name, segments=(Span(0.0, 1.5, text),), pred_text=text, **more)


def save(folder: Path, one: Transcript, *formats: str, **more: Any) -> Transcript:
    """In a process of its own."""
    with Store(folder, HASH, formats or KINDS, **more) as store:
        return store.write(one)


def stored(folder: Path, name: str = "a.wav") -> dict[str, Any]:
    lines = map(json.loads, (folder / "results.jsonl").read_text().splitlines())
    return next(one for one in lines if one["id"] == name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a.wav", "deep/er/b.mp3"])
def test_a_users_file_is_left_alone_and_named(kind: str, name: str, tmp_path: Path) -> None:
    path = (tmp_path / name).with_suffix(f".{kind}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"mine \xff\r\n")
    for text in ("one", "one", "other"):
        made = save(tmp_path, said(text, name))
        assert made.status == "ok"
        assert made.warnings == (f"left_alone:{path.relative_to(tmp_path).as_posix()}",)
        assert stored(tmp_path, name)["warnings"] == list(made.warnings)
    assert path.read_bytes() == b"mine \xff\r\n"
    others = {path.with_suffix(f".{other}") for other in KINDS} - {path}
    assert all("other" in one.read_text() for one in others)
    assert save(tmp_path, said("new", name), overwrite=True).warnings == ()
    assert "new" in path.read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_here_is_replaced_until_somebody_changes_it(
    kind: str, tmp_path: Path
) -> None:
    for text in ("one", "two", "three"):
        assert save(tmp_path, said(text), kind).warnings == ()
    path = tmp_path / f"a.{kind}"
    assert "three" in path.read_text()
    path.write_text(path.read_text().replace("three", "four"))
    assert save(tmp_path, said("five"), kind).warnings == (f"left_alone:a.{kind}",)
    assert "four" in path.read_text()
    path.unlink()
    assert save(tmp_path, said("six"), kind).warnings == ()
    assert "six" in path.read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_a_format_asked_later_leaves_alone_too(kind: str, tmp_path: Path) -> None:
    with Store(tmp_path, HASH) as store:
        store.write(said("one"))
    (tmp_path / f"a.{kind}").write_text("mine")
    for told in ([f"a.{kind}"], []):
        with Store(tmp_path, HASH, KINDS) as store:
            assert store.done(KEY, BASE.source)
            assert store.left_alone == told  # once
    assert stored(tmp_path)["warnings"] == [f"left_alone:a.{kind}"]
    assert (tmp_path / f"a.{kind}").read_text() == "mine"
    (tmp_path / f"a.{kind}").unlink()
    with Store(tmp_path, HASH, KINDS) as store:
        assert store.done(KEY, BASE.source)
    assert stored(tmp_path)["warnings"] == []


def test_a_kill_leaves_no_file_that_looks_like_a_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for text in ("one", "two"):  # the answers may differ: other company, another machine
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(LineFile, "append", killed)
            save(tmp_path, said(text))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(side, "replace_file", killed)
            save(tmp_path, said(f"{text} more"))
    assert save(tmp_path, said("three")).warnings == ()
    assert all("three" in (tmp_path / f"a.{kind}").read_text() for kind in KINDS)


def test_without_its_journal_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    save(tmp_path, said("one"))
    (tmp_path / ".results.jsonl.files").unlink()
    (tmp_path / "a.txt").write_text("mine")
    assert save(tmp_path, said("two")).warnings == ("left_alone:a.txt",)
    assert "two" in (tmp_path / "a.json").read_text()


def test_a_side_file_of_another_recording_is_not_replaced(tmp_path: Path) -> None:
    save(tmp_path, said("one", "a.wav"), "srt")
    (tmp_path / "results.jsonl").unlink()  # so that nobody knows that the stem is shared
    assert save(tmp_path, said("two", "a.mp3"), "srt").warnings == ("left_alone:a.srt",)
    assert "one" in (tmp_path / "a.srt").read_text()


def test_the_journal_is_mended(tmp_path: Path) -> None:
    save(tmp_path, said("one"), "srt")
    save(tmp_path, said("one", "b.wav"), "srt")
    path = tmp_path / ".results.jsonl.files"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    for name in ("b.wav", "a.wav"):
        assert save(tmp_path, said("two", name), "srt").warnings == ()
    assert {json.loads(one)["id"] for one in path.read_bytes().splitlines()} == {"a.wav", "b.wav"}
    before = path.read_bytes()
    save(tmp_path, said("two"), "srt")  # says nothing new
    assert path.read_bytes() == before


def test_other_shards_files_are_known_too(tmp_path: Path) -> None:
    save(tmp_path, said("one"), "srt", part="-1-of-2")
    with Store(tmp_path, HASH, part="-2-of-2") as store:
        [known] = store.known()
    assert (known.id, known.path, known.here) == ("a.wav", os.path.realpath("a.wav"), False)


@pytest.fixture(params=["folder", "file", "name", "permission"])
def blocked(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, str]]:
    """A recording whose srt cannot be written, and what is said of it."""
    (tmp_path / "in").mkdir()
    if request.param == "folder":
        (tmp_path / "in/a.srt").mkdir()
    if request.param == "file":
        (tmp_path / "in").rmdir()
        (tmp_path / "in").write_text("mine")
    if request.param == "name":
        yield "/".join(["long" * 60] * 20) + "/a.wav", "File name too long"
        return
    if request.param == "permission":  # the tests may run as root, whom no mode stops
        plain = side.replace_file

        def refuse(path: Path, data: bytes) -> None:
            if path.name == "a.srt":
                raise PermissionError(errno.EACCES, "Permission denied")
            plain(path, data)

        monkeypatch.setattr(side, "replace_file", refuse)
    why = {"folder": "Is a directory", "file": "", "permission": "Permission denied"}
    yield "in/a.wav", why[request.param]


def test_a_file_that_cannot_be_written_fails_its_recording_alone(
    blocked: tuple[str, str], tmp_path: Path
) -> None:
    name, why = blocked
    with Store(tmp_path, HASH, ["srt", "txt"]) as store:
        made = store.write(said("words", name, source=Source(4, 5)))
        assert store.write(said("words", "b.wav")).status == "ok"
    assert made.status == stored(tmp_path, name)["status"] == "failed"
    assert made.error is not None and made.error.type == "OutputError"
    assert f"cannot write {tmp_path / name.removesuffix('.wav')}.srt" in made.error.message
    assert why in made.error.message and "-o DIR" in made.error.message
    assert made.pred_text == "words"  # what was paid for is kept
    with Store(tmp_path, HASH, ["srt", "txt"]) as store:
        assert not store.done((name, "asr"), made.source)
        assert store.done(("b.wav", "asr"), BASE.source)


def test_the_other_formats_are_written(tmp_path: Path) -> None:
    (tmp_path / "a.srt").mkdir()
    (tmp_path / "a.vtt").mkdir()
    made = save(tmp_path, said("words"), "srt", "txt", "vtt", "json")
    assert made.error is not None
    assert "a.srt" in made.error.message and "a.vtt" in made.error.message
    assert (tmp_path / "a.txt").exists() and (tmp_path / "a.json").exists()
    lost = said("words", status="partial", error=failed(message="breaks off").error)
    made = save(tmp_path, lost, "srt")
    assert made.error is not None and made.error.message.startswith("breaks off; cannot write")


def test_a_finished_recording_whose_new_format_is_blocked_is_not_done(tmp_path: Path) -> None:
    save(tmp_path, said("words"), "txt")
    (tmp_path / "a.srt").mkdir()
    with Store(tmp_path, HASH, ["txt", "srt"]) as store:
        assert not store.done(KEY, BASE.source)
        assert store.write(said("words")).status == "failed"
    (tmp_path / "a.srt").rmdir()
    assert save(tmp_path, said("words"), "txt", "srt").status == "ok"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_takes_no_more_ends_the_run(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with Store(tmp_path, HASH, ["srt"]) as store:
        monkeypatch.setattr(side, "replace_file", full)
        with pytest.raises(FastAdaSPError, match=f"cannot write into .*{os.strerror(number)}"):
            store.write(said("words"))
    assert (tmp_path / "results.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    "text", ['{"audio_filepath": "a.wav"}\n', '{"audio_filepath": "a.wav"}', "notes"]
)
def test_a_results_file_of_somebody_else_is_not_touched(text: str, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"results\.jsonl is no file of results: move it away"):
        save(tmp_path, said("one"))
    assert path.read_text() == text
    for number in (1, 2):
        with Store(tmp_path, "other" * number, overwrite=True) as store:
            store.write(said("one", settings_hash="other" * number))
    assert (tmp_path / "results.jsonl.bak").read_text().startswith(text)
    assert len((tmp_path / "results.jsonl.bak").read_text().splitlines()) == 2


@pytest.mark.parametrize("cut", [0, 5, 30])
def test_a_first_line_that_was_torn_is_ours(cut: int, tmp_path: Path) -> None:
    save(tmp_path, said("one"))
    path = tmp_path / "results.jsonl"
    path.write_bytes(path.read_bytes()[:cut])
    save(tmp_path, said("two"))
    assert stored(tmp_path)["pred_text"] == "two"
