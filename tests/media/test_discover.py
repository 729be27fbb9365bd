"""What the user types becomes recordings with stable, safe and unique ids."""

import io
import json
import ntpath
import os
import posixpath
import subprocess
import sys
from pathlib import Path, PureWindowsPath

import pytest

from core.errors import UsageError
from core.ids import safe_id, source_of
from core.media.discover import discover
from core.records import Recording, Source

from .finding import errors, find, ids, make


def test_a_folder_gives_its_media_sorted_and_relative_to_it(here: Path) -> None:
    make("in/b.MP3", "in/a.wav", "in/sub/c.mp4", "in/notes.txt", "in/cover.jpg", "in/noext")
    make("in/.hidden.wav", "in/.git/d.wav")
    assert ids("in") == ids("in/") == ids(str(here / "in")) == ["a.wav", "b.MP3", "sub/c.mp4"]
    assert [found.path for found in find("in")][2] == Path("in/sub/c.mp4")


def test_a_file_is_taken_whatever_its_extension(here: Path) -> None:
    make("in/a.dat", "in/b", "in/c.wav")
    assert ids("in/a.dat") == ["in/a.dat"]
    Path("in/a.dat").write_bytes(b"RIFF\x24\0\0\0WAVEfmt ")
    Path("in/b").write_bytes(b"OggS\0\2")
    assert ids("in/a.dat", "in/b", "in/c.wav") == ["in/a.dat", "in/b", "in/c.wav"]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("talks/a.wav", "talks/a.wav"),
        ("./talks//a.wav", "talks/a.wav"),
        ("talks/./a.wav", "talks/a.wav"),
    ],
)
def test_a_files_id_is_its_path_as_written(written: str, name: str, here: Path) -> None:
    make("talks/a.wav")
    assert ids(written) == [name]


def test_ids_stay_below_an_output_folder(here: Path) -> None:
    make("talks/a.wav", "work/x.wav")
    root = str(here).strip("/")
    assert ids(str(here / "talks/a.wav")) == [f"{root}/talks/a.wav"]
    os.chdir("work")
    assert ids("../talks/a.wav") == [f"{root}/talks/a.wav"]


def test_two_folders_do_not_share_ids(here: Path) -> None:
    make("a/x.wav", "b/x.wav")
    assert ids("a", "b") == ["a/x.wav", "b/x.wav"]
    assert ids("b", "a") == ["b/x.wav", "a/x.wav"]


def test_the_same_id_for_two_files_is_told_apart_for_good(here: Path) -> None:
    make("in/talks/a.wav", "talks/a.wav")
    first, second = ids("in", "talks/a.wav")
    assert first == "talks/a.wav"
    assert second.startswith("talks/a~") and second.endswith(".wav")
    assert ids("in", "talks/a.wav") == [first, second]


def test_a_file_reached_twice_is_done_once(here: Path) -> None:
    make("in/a.wav", "in/b.wav")
    assert ids("in", "in/a.wav", str(here / "in" / "b.wav"), "in") == ["in/a.wav", "in/b.wav"]
    os.symlink("a.wav", "in/0link.wav")
    assert ids("in") == ["a.wav", "b.wav"]


def test_links_in_a_ring_end(here: Path) -> None:
    make("in/a.wav", "in/sub/b.wav")
    os.symlink("..", "in/sub/up")
    os.symlink("self", "in/self")
    os.symlink(here / "in", "in/sub/again")
    assert ids("in") == ["a.wav", "sub/b.wav"]


def test_a_linked_folder_is_walked(here: Path) -> None:
    make("far/a.wav")
    os.makedirs("in")
    os.symlink(here / "far", "in/near")
    assert ids("in") == ["near/a.wav"]


def test_globs(here: Path) -> None:
    make("in/a.wav", "in/b.mp3", "in/notes.txt", "in/sub/c.wav", "in/x.dat")
    assert ids("in/*.wav") == ["in/a.wav"]
    assert ids("in/*") == ["in/a.wav", "in/b.mp3", "in/sub/c.wav"]
    assert ids("in/**/*.wav") == ["in/a.wav", "in/sub/c.wav"]
    assert ids("in/**") == ["in/a.wav", "in/b.mp3", "in/sub/c.wav"]
    assert ids("in/*.dat") == ["in/x.dat"]
    assert errors(find("in/*.wav", "in/*.ogg")) == {
        "in/a.wav": None,
        "in/*.ogg": "nothing matches this pattern",
    }


def test_a_name_with_brackets_is_a_name_first(here: Path) -> None:
    make("talk [1].wav", "talk 1.wav")
    assert ids("talk [1].wav") == ["talk [1].wav"]


@pytest.mark.parametrize("name", ["a b.wav", 'it\'s "x".wav', "-r.wav", "Привет.wav", "a\nb.wav"])
def test_odd_names(name: str, here: Path) -> None:
    make(f"in/{name}")
    assert ids("in") == [name]
    os.chdir("in")
    assert ids(name) == [name]


def test_names_that_are_not_utf8(here: Path) -> None:
    raw = b"caf\xe9.wav"
    os.makedirs("in")
    Path("in", os.fsdecode(raw)).write_bytes(b"x")
    for found in (*find("in"), *find("-", stdin=io.BytesIO(b"in/" + raw + b"\n"))):
        assert found.id.endswith("caf%E9.wav")
        json.dumps(found.id, ensure_ascii=False).encode("utf-8")
        assert found.path.read_bytes() == b"x"


def test_a_missing_path_among_good_ones_is_a_record(here: Path) -> None:
    make("a.wav")
    found = find("gone.wav", "a.wav", "nul\0.wav", "x" * 300 + ".wav")
    assert found[0] == Recording("gone.wav", Path("gone.wav"), None, "no such file")
    assert [item.error is None for item in found] == [False, True, False, False]
    assert all("\n" not in (item.error or "") for item in found)


def test_an_unreadable_path_is_a_record(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("a.wav", "locked.wav", "in/b.wav", "in/vault/c.wav")
    # the tests may run as root, whom no mode stops
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path))
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("vault"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert errors(find("a.wav", "locked.wav", "in")) == {
        "a.wav": None,
        "locked.wav": "no permission to read it",
        "b.wav": None,
        "vault": "cannot list this folder: Permission denied",
    }


@pytest.mark.parametrize("inputs", [["gone.wav"], ["empty"], ["*.wav"], [], ["empty", "gone.wav"]])
def test_nothing_usable_is_a_usage_error(inputs: list[str], here: Path) -> None:
    os.makedirs("empty")
    with pytest.raises(UsageError) as caught:
        find(*inputs)
    assert "\n" not in str(caught.value)


def test_folders_are_walked_while_the_run_goes_on(here: Path) -> None:
    make("in/a.wav", "in/b/c.wav")
    found = discover(["in"])
    assert next(found).id == "a.wav"
    make("in/b/d.wav")
    assert [item.id for item in found] == ["b/c.wav", "b/d.wav"]


def test_source_of(here: Path) -> None:
    make("a.wav")
    stat = os.stat("a.wav")
    assert source_of(Path("a.wav")) == Source(1, stat.st_mtime_ns)
    assert source_of(Path("gone.wav")) == Source()


def test_importing_costs_no_audio_library() -> None:
    heavy = "{'torch', 'av', 'soundfile', 'soxr', 'onnxruntime', 'silero_vad'}"
    rooms = "core.media.discover, core.media.decode, core.media.segment"
    code = f"import sys, {rooms}; sys.exit(bool({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("C:/x.wav", "x.wav"),
        ("C:x.wav", "x.wav"),
        ("C:\\talks\\a.wav", "talks/a.wav"),
        ("\\\\host\\share\\a.wav", "a.wav"),
        ("..\\..\\..\\..\\..\\..\\..\\..\\a.wav", "a.wav"),
        ("talks/a.wav", "talks/a.wav"),
    ],
)
def test_an_id_on_windows_has_no_drive(written: str, name: str) -> None:
    assert safe_id(written, ntpath) == name
    assert not PureWindowsPath(safe_id(written, ntpath)).anchor


def test_a_colon_is_a_letter_like_others_elsewhere() -> None:
    assert safe_id("C:/x.wav", posixpath) == "C:/x.wav"
