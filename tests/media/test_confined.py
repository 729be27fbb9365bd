"""What the decoding process may not do: import strangers' code, see secrets, take all there is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.media import apart, launch
from core.media.apart import decode_apart

from .decoders import ROOT, heard
from .sounds import tone, write

pytestmark = pytest.mark.usefixtures("fresh_decoders")

TRAPS = ("json.py", "soxr.py", "soundfile.py", "av.py", "numpy/__init__.py", "core/__init__.py")


@pytest.fixture
def trapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, full of modules that leave a mark when they are imported."""
    folder = tmp_path / "downloads"
    for name in TRAPS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"open({str(tmp_path / 'MARK')!r} + '-' + __name__, 'w').close()\n")
    monkeypatch.chdir(folder)
    return folder


def marks(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("MARK*"))


@pytest.mark.parametrize("way", ["script", "module", "empty PYTHONPATH"])
def test_nothing_is_imported_from_the_working_folder(
    way: str, trapped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "module":  # `python -m` puts it in front of all
        monkeypatch.syspath_prepend(trapped)
    if way == "empty PYTHONPATH":
        monkeypatch.setenv("PYTHONPATH", os.pathsep)
    for name in ("a.wav", "a.mp3"):
        path = write(tmp_path / name, tone(2, 44_100), 44_100)
        assert heard(path) == (pytest.approx(32_000, abs=2_000), "")
        assert heard(Path(os.path.relpath(path, trapped)))[1] == ""
    assert marks(tmp_path) == []


def test_the_package_is_the_one_that_runs_whatever_else_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "elsewhere" / "core"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise ImportError('another package')\n")
    monkeypatch.syspath_prepend(other.parent)
    assert heard(write(tmp_path / "a.wav", tone(1))) == (16_000, "")


def test_packages_that_are_reached_by_the_path_of_the_parent_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `pip install --user`, PYTHONPATH, or a `.pth` file."""
    path = write(tmp_path / "a.mp3", tone(1))
    code = (
        "import sys; sys.path += sys.argv[2:]\n"
        "from pathlib import Path; from core.media.apart import decode_apart\n"
        "print(sum(map(len, decode_apart(Path(sys.argv[1])))))\n"
    )
    monkeypatch.chdir(tmp_path)
    reached = [str(ROOT), *launch._packages()]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, path, *reached],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "16000", done.stderr


def test_a_working_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert heard(write(tmp_path / "a.wav", tone(1))) == (16_000, "")


@pytest.mark.usefixtures("hostile")
def test_no_secret_reaches_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "HOME", "PYTHONPATH")
    for name in names:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("LC_TIME", "C")
    _, told = heard(tmp_path / "tell")
    assert told.startswith(f"the decoder failed: ValueError: {os.path.abspath(os.sep)} [")
    assert "'PATH'" in told and "'LC_TIME'" in told
    assert not [name for name in names if f"'{name}'" in told]


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="needs Linux's /proc")
def test_the_limits_are_in_force(tmp_path: Path) -> None:
    heard(write(tmp_path / "a.wav", tone(1)))
    [decoder] = apart._idle
    lines = Path(f"/proc/{decoder._process.pid}/limits").read_text().splitlines()
    found = {line[:26].strip(): line[26:].split()[:2] for line in lines}
    assert found["Max address space"] == [str(4 << 30)] * 2
    assert found["Max file size"] == found["Max core file size"] == ["0", "0"]
    assert found["Max open files"] == ["64", "64"]


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    ("name", "why"), [("write", "File too large"), ("open", "Too many open files")]
)
def test_it_writes_nothing_and_holds_few_files(name: str, why: str, tmp_path: Path) -> None:
    assert why in heard(tmp_path / name)[1]
    assert not (tmp_path / "scratch").exists() or (tmp_path / "scratch").read_bytes() == b""


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("import resource; resource.setrlimit = lambda *_: None", ("memory", "open files")),
        # as macOS does: it takes the limit, says that it has it, and gives more
        (
            "import resource; resource.setrlimit = lambda *_: None\n"
            "resource.getrlimit = lambda kind: (0, 0)",
            ("memory",),
        ),
        ("sys.modules['resource'] = None", ("memory", "files written", "open files", "core dumps")),
    ],
)
def test_limits_that_are_not_to_be_had_are_told_once(
    fault: str,
    said: tuple[str, ...],
    hostile_start: Callable[..., None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    apart._tell_unlimited.cache_clear()
    hostile_start(more=fault)
    for _ in range(2):
        assert heard(tmp_path / "good") == (16_000, "")
        apart.end_all()
    [told] = caplog.messages
    assert all(word in told for word in said)
    assert told.endswith("on another one")


def test_nothing_is_told_where_all_limits_hold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    apart._tell_unlimited.cache_clear()
    heard(write(tmp_path / "a.wav", tone(1)))
    assert (caplog.messages == []) == sys.platform.startswith("linux")


@pytest.mark.usefixtures("hostile")
def test_the_last_words_of_a_crash_are_told(tmp_path: Path) -> None:
    count, error = heard(tmp_path / "abort")
    assert count == 16_000
    assert error.startswith("breaks off at 1.0 s: it crashed the decoder (-6: ")
    assert error.endswith("y corrupted!)")
    assert error.isprintable() and len(error) < 300


def test_a_decoder_that_cannot_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_packages", list)
    _, error = heard(tmp_path / "a.wav")
    assert "ModuleNotFoundError: No module named 'numpy'" in error


def test_the_sound_of_other_folders_is_the_same(
    trapped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(trapped / "a.wav", tone(3, 44_100), 44_100)
    inside = list(decode_apart(Path("a.wav")))
    apart.end_all()
    monkeypatch.chdir(ROOT)
    outside = list(decode_apart(path))
    assert all(np.array_equal(*pair) for pair in zip(inside, outside, strict=True))
