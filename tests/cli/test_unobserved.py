"""A run tells nobody: no socket, nothing below the home folder, no file but its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import core
from core import unobserved
from tests.cli.conftest import ROOT

AUDIO = ROOT / "examples" / "audio"
KITCHEN = str(AUDIO / "kitchen.wav")

# what every interpreter of the run does before anything else, and those that it starts
WATCH = """
import os, sys
WRITES = os.O_WRONLY | os.O_RDWR
def watch(event, args, log=os.open(os.environ["WATCHED"], os.O_WRONLY | os.O_APPEND)):
    if event.startswith("socket."):
        os.write(log, f"{event} {args!r}\\n".encode())
    elif event == "open" and args[2] & WRITES and not isinstance(args[0], int):
        os.write(log, f"write {os.path.realpath(os.fsdecode(args[0]))}\\n".encode())
    elif event == "os.mkdir":
        os.write(log, f"write {os.path.realpath(os.fsdecode(args[0]))}\\n".encode())
sys.addaudithook(watch)
"""

COMMANDS = {
    "run": ["-m", "fastadasp_cli", "run", KITCHEN, "-o", "OUT", "-f", "srt,json"],
    "profile": ["-m", "fastadasp_cli", "profile", KITCHEN, "--seconds", "2", "--reduce", "0.2"],
    "eval": [
        *("-m", "fastadasp_cli", "eval", str(AUDIO / "manifest.jsonl"), "--limit", "1"),
        *("-t", "asr", "--reduce", "0.2", "-o", "OUT", "--plot", "OUT/plot.png"),
    ],
    "python": ["-c", f"import fastadasp; fastadasp.transcribe({KITCHEN!r}, output_dir='OUT')"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_it_opens_no_socket_and_leaves_nothing_at_home(name: str, tmp_path: Path) -> None:
    home, out, temporary, hooks, log, calls = (
        tmp_path / part for part in ("home", "out", "temporary", "hooks", "log", "calls")
    )
    for folder in (home, out, temporary, hooks):
        folder.mkdir()
    log.touch()
    (hooks / "sitecustomize.py").write_text(WATCH)
    told = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    environment = {
        **told,
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PYTHONPATH": os.pathsep.join([str(hooks), str(ROOT)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "WATCHED": str(log),
    }
    words = [word.replace("OUT", str(out)) for word in COMMANDS[name]]
    command = [*_traced(calls), sys.executable, *words]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*")) == []
    said = log.read_text().splitlines()
    assert [line for line in said if line.startswith("socket.")] == []
    written = [Path(line.removeprefix("write ")) for line in said if line.startswith("write ")]
    own = (out.resolve(), temporary.resolve(), Path("/dev"), Path("/proc"))
    assert [path for path in written if not any(map(path.is_relative_to, own))] == []
    if calls.exists():  # also what libraries in C open
        assert [line for line in calls.read_text().splitlines() if "AF_INET" in line] == []


def _traced(calls: Path) -> list[str]:
    """What shows the system calls of a command, where it is installed and allowed."""
    trace = ["strace", "-f", "-e", "trace=network", "-o", str(calls)]
    if shutil.which("strace") and not subprocess.run([*trace, "true"], check=False).returncode:
        return trace
    return []


def test_who_wants_to_be_counted_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    unobserved.settle()
    assert core.__version__
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_ipv6_is_not_lost_by_not_asking() -> None:
    code = (
        "import socket, sys; from core.unobserved import import_urllib3\n"
        "able = socket.has_ipv6\n"
        "sys.addaudithook(lambda event, args: event != 'socket.bind' or sys.exit(3))\n"
        "import_urllib3(); from urllib3.util import connection\n"
        "assert socket.has_ipv6 == able == connection.HAS_IPV6\n"
    )
    pytest.importorskip("mistral_common")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
