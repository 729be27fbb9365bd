"""What only real processes show: pipes, signals, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, start


def results(folder: Path) -> list[str]:
    path = folder / "results.jsonl"
    return (
        [json.loads(line)["id"] for line in path.read_text().splitlines()] if path.exists() else []
    )


def wait_for_lines(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(results(folder)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def slow(folder: Path, number: int, seconds: float) -> list[str]:
    folder.mkdir(exist_ok=True)
    names = [f"{index:02d}.wav" for index in range(number)]
    for name in names:
        (folder / name).write_text(f"!sleep {seconds}\nword")
    return names


def test_a_line_arrives_as_soon_as_its_recording_is_done(tmp_path: Path) -> None:
    slow(tmp_path / "in", 2, 0.0)
    (tmp_path / "in" / "zz.wav").write_text("!sleep 60")
    process = start("run", tmp_path / "in")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["id"] == "00.wav"
    process.kill()
    process.communicate()


def test_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    slow(tmp_path / "in", 40, 0.02)
    process = start("run", tmp_path / "in", "-q")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(60) == 0


@pytest.mark.parametrize("output", [True, False])
def test_an_interrupt_is_130_and_keeps_finished_work(tmp_path: Path, output: bool) -> None:
    names = slow(tmp_path / "in", 30, 0.1)
    out = tmp_path / "out"
    process = start("run", tmp_path / "in", *(["-o", out] if output else []))
    if output:
        wait_for_lines(out, 2)
    else:
        assert process.stdout is not None
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in stderr
    if output:
        done = results(out)
        assert done == names[: len(done)]
        assert 2 <= len(done) < 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    slow(tmp_path / "in", 3, 0.0)
    (tmp_path / "in" / "01.wav").write_text("!sleep 120")
    process = start("run", tmp_path / "in", "-o", tmp_path / "out")
    wait_for_lines(tmp_path / "out", 1)
    assert process.stderr is not None
    process.send_signal(number)
    while "once more ends it at once" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(number)
    begun = time.monotonic()
    _, stderr = process.communicate(timeout=60)
    assert time.monotonic() - begun < 60
    assert process.returncode == 130
    assert stderr.splitlines()[-1].startswith("error: interrupted")
    assert results(tmp_path / "out") == ["00.wav"]


def test_a_signal_that_is_to_be_ignored_stays_ignored(tmp_path: Path) -> None:
    """Started with nohup or & a run must not end with its terminal's Ctrl-C."""
    names = slow(tmp_path / "in", 4, 0.1)
    process = start(
        "run",
        tmp_path / "in",
        "-o",
        tmp_path / "out",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    wait_for_lines(tmp_path / "out", 1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert results(tmp_path / "out") == names


def test_killed_in_mid_run_the_same_command_goes_on(tmp_path: Path) -> None:
    names = slow(tmp_path / "in", 12, 0.1)
    out = tmp_path / "out"
    command = ("run", tmp_path / "in", "-o", out, "-f", "srt")
    for count in (2, 5):
        process = start(*command)
        wait_for_lines(out, count)
        process.kill()
        process.communicate()
    process = start(*command)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "skipped" in stderr
    assert results(out) == names
    assert sorted(path.stem for path in out.glob("*.srt")) == [name[:2] for name in names]


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    slow(tmp_path / "in", 30, 0.2)
    out = tmp_path / "out"
    first = start("run", tmp_path / "in", "-o", out)
    wait_for_lines(out, 1)
    second = start("run", tmp_path / "in", "-o", out)
    _, stderr = second.communicate(timeout=60)
    first.kill()
    first.communicate()
    assert second.returncode == 2
    assert "another run" in stderr


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(
    ("more", "shown"), [([], True), (["--no-progress"], False), (["--quiet"], False)]
)
def test_a_bar_on_a_terminal_only(tmp_path: Path, more: list[str], shown: bool) -> None:
    import pty

    slow(tmp_path / "in", 2, 0.0)
    command = ("run", tmp_path / "in", "-o", tmp_path / "out", *more)
    ours, theirs = pty.openpty()
    process = start(*command, stderr=theirs, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    told = b""
    try:
        while chunk := os.read(ours, 4096):
            told += chunk
    except OSError:  # how Linux says that the other side has closed
        pass
    os.close(ours)
    assert process.wait(60) == 0
    assert (b"transcribing" in told) == shown
    _, plain = start(*command, "--overwrite").communicate(timeout=60)
    assert "transcribing" not in plain


def test_as_a_module_and_without_torch() -> None:
    """The quick answers import no torch, transformers or numpy."""
    code = (
        "import sys; sys.argv = ['fastadasp', {words}]\n"
        "from fastadasp_cli.main import app\n"
        "try: app()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {{'torch', 'transformers', 'numpy'}} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy or code else 0)\n"
    )
    for words in ("'--version'", "'--help'", "'presets'", "'run', '--help'"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(words=words)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        [sys.executable, "-m", "fastadasp_cli", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("fastadasp ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
@pytest.mark.parametrize("words", [("presets",), ("run", "IN")])
def test_what_cannot_be_written_is_no_success(tmp_path: Path, words: tuple[str, ...]) -> None:
    slow(tmp_path / "in", 1, 0.0)
    words = tuple(str(tmp_path / "in") if word == "IN" else word for word in words)
    with open("/dev/full", "w") as full:
        process = start(*words, stdout=full)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "No space left" in stderr
    assert "Traceback" not in stderr


def test_the_process_ends_without_taking_the_interpreter_apart() -> None:
    """With torch in it that costs seconds, and aborts under a library's thread."""
    code = (
        "import atexit, sys; sys.argv = ['fastadasp', 'presets', 'show', {name!r}]\n"
        "atexit.register(print, 'taken apart')\n"
        "from fastadasp_cli.main import main; main()\n"
    )
    for name, end in (("none", 0), ("nothing", 2)):
        done = subprocess.run(
            [sys.executable, "-c", code.format(name=name)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == end
        assert "taken apart" not in done.stdout
        assert done.stdout.startswith("name: none") == (end == 0)


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on POSIX only")
def test_a_name_that_is_no_utf8_in_a_c_locale(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    name = os.fsencode(folder) + b"/gr\xfc\xdf.wav"
    with open(name, "wb") as file:
        file.write("grüß dich".encode())
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for more in ([], ["-o", tmp_path / "out", "-f", "txt"]):
        process = start("run", folder, *more, env=env, encoding="utf-8")
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        text = stdout or (tmp_path / "out" / "results.jsonl").read_text(encoding="utf-8")
        data = json.loads(text)
        assert data["pred_text"] == "grüß dich"
        assert os.fsencode(data["audio_filepath"]) == name
