"""Files of results in a folder where others may write too."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import FastAdaSPError, UsageError
from core.results.files import replace_file
from core.results.store import Store
from tests.samples import BASE, record

HASH = BASE.settings_hash


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file outside the folder of results."""
    path = tmp_path / "victim"
    path.write_text("precious\n")
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_a_link_in_the_place_of_a_side_file_is_left_alone(victim: Path, out: Path) -> None:
    (out / "a.srt").symlink_to(victim)
    for _ in range(2):
        with Store(out, HASH, ["srt"]) as store:
            if not store.done(("a.wav", "asr"), BASE.source):
                assert store.write(record("a.wav")).warnings == ("left_alone:a.srt",)
    assert victim.read_text() == "precious\n"
    assert (out / "a.srt").is_symlink()


def test_a_link_in_the_place_of_a_side_file_is_replaced_on_request(victim: Path, out: Path) -> None:
    (out / "a.srt").symlink_to(victim)
    with Store(out, HASH, ["srt"], overwrite=True) as store:
        store.write(record("a.wav"))
    assert victim.read_text() == "precious\n"
    assert (out / "a.srt").is_file() and not (out / "a.srt").is_symlink()


@pytest.mark.parametrize("name", ["results.jsonl", ".results.jsonl.lock", ".results.jsonl.files"])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_the_place_of_the_results_is_refused(
    name: str, there: bool, victim: Path, out: Path
) -> None:
    if not there:
        victim.unlink()
    (out / name).symlink_to(victim)
    with pytest.raises(UsageError, match=rf"{name} is a link.*remove it.*-o DIR") as told:
        Store(out, HASH).__enter__()
    assert len(str(told.value).splitlines()) == 1
    assert victim.exists() == there
    assert not there or victim.read_text() == "precious\n"


def test_the_results_are_opened_through_no_link(
    victim: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also not through one that came after the look."""
    monkeypatch.setattr("core.results.files.check_plain", lambda path: None)
    monkeypatch.setattr("core.results.line_file.check_plain", lambda path: None)
    (out / "results.jsonl").symlink_to(victim)
    victim.write_text("")
    with pytest.raises(UsageError, match="is a link"):
        Store(out, HASH).__enter__()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_the_results_is_refused(out: Path) -> None:
    os.mkfifo(out / "results.jsonl")
    with pytest.raises(UsageError, match=r"results.jsonl is no file.*remove it"):
        Store(out, HASH).__enter__()


def test_a_link_in_the_place_of_another_shard_is_not_read(victim: Path, out: Path) -> None:
    (out / "results-2-of-2.jsonl").symlink_to(victim)
    with pytest.raises(UsageError, match=r"results-2-of-2.jsonl is a link"):
        Store(out, HASH, part="-1-of-2").__enter__()


def test_a_folder_that_leads_out_is_refused(tmp_path: Path, out: Path) -> None:
    outside = tmp_path / "home"
    outside.mkdir()
    (outside / "c.srt").write_text("precious\n")
    (out / "day2").symlink_to(outside)
    with Store(out, HASH, ["srt"]) as store:
        for name in ("day2/c.wav", "day2/new/c.wav"):
            error = store.write(record(name)).error
            assert error is not None and error.type == "OutputError"
            assert re.search(r"day2.* is a link.*remove it", error.message)
    assert [path.name for path in outside.iterdir()] == ["c.srt"]
    assert (outside / "c.srt").read_text() == "precious\n"


def test_the_output_folder_itself_may_be_a_link(tmp_path: Path, out: Path) -> None:
    (tmp_path / "link").symlink_to(out)
    with Store(tmp_path / "link", HASH, ["srt"]) as store:
        store.write(record("day2/c.wav"))
    assert (out / "day2" / "c.srt").is_file()


def test_temporary_names_cannot_be_guessed(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    plain = Path.replace

    def noted(self: Path, target: Path) -> Path:
        seen.append(self)
        assert stat.S_ISREG(self.lstat().st_mode)
        return plain(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    for _ in range(2):
        replace_file(out / "a.txt", b"x")
    assert len({path.name for path in seen}) == 2
    assert all(path.parent == out and len(path.name) > 32 for path in seen)
    assert all(path.name.startswith(".") for path in seen)


def test_a_name_that_was_guessed_is_not_written_through(
    victim: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.results.files.secrets.token_hex", lambda _: "0" * 16)
    replace_file(out / "a.txt", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: None)
        replace_file(out / "a.txt", b"new")
    [temporary] = out.glob(".*.tmp")
    temporary.unlink()
    temporary.symlink_to(victim)
    with pytest.raises(OSError, match="exists"):
        replace_file(out / "a.txt", b"new")
    assert victim.read_text() == "precious\n"
    assert (out / "a.txt").read_text() == "old"


def test_a_folder_that_may_be_written_and_not_read(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    for name in ("scandir", "open"):  # by which a folder is listed, and synced
        plain = getattr(os, name)
        monkeypatch.setattr(
            os,
            name,
            lambda path, *more, plain=plain: (refuse if path == out else plain)(path, *more),
        )
    replace_file(out / "a.txt", b"x")
    assert (out / "a.txt").read_bytes() == b"x"


def test_permissions_are_those_of_any_new_file(out: Path) -> None:
    (out / "plain").touch()
    replace_file(out / "a.txt", b"x")
    assert (out / "a.txt").stat().st_mode == (out / "plain").stat().st_mode


@pytest.fixture
def failing_sync(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, bool], None]:
    """Make the disk refuse to take what a file or a folder holds."""

    def fail(number: int, of_folder: bool) -> None:
        def broken(handle: int) -> None:
            if stat.S_ISDIR(os.fstat(handle).st_mode) == of_folder:
                raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", broken)

    return fail


@pytest.mark.parametrize("of_folder", [True, False])
def test_a_disk_that_loses_data_is_not_passed_over(
    of_folder: bool, out: Path, failing_sync: Callable[[int, bool], None]
) -> None:
    with Store(out, HASH, ["srt"]) as store:
        failing_sync(errno.EIO, of_folder)
        with pytest.raises(FastAdaSPError, match=r"cannot write into .*: Input/output error"):
            store.write(record("a.wav"))
    assert not list(out.glob(".*.tmp"))


@pytest.mark.parametrize("of_folder", [True, False])
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_disk_that_cannot_sync_is_written_to(
    number: int, of_folder: bool, out: Path, failing_sync: Callable[[int, bool], None]
) -> None:
    failing_sync(number, of_folder)
    with Store(out, HASH, ["srt"]) as store:
        store.write(record("a.wav"))
    assert (out / "a.srt").is_file()


def test_the_folder_is_synced_after_a_file_moved_into_it(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[bool] = []
    plain = os.fsync

    def noted(handle: int) -> None:
        if os.path.samestat(os.fstat(handle), out.stat()):
            there.append((out / "a.txt").exists())
        plain(handle)

    monkeypatch.setattr(os, "fsync", noted)
    replace_file(out / "a.txt", b"x")
    assert there == [True]
    with Store(out, HASH):  # which makes the file of results
        assert len(there) == 2
