"""Services and cron may start a run with any of the standard streams closed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, start

CLOSED = [some for count in range(4) for some in combinations((0, 1, 2), count)]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX processes")


def without(streams: tuple[int, ...]) -> Callable[[], None]:
    return lambda: [os.close(number) for number in streams] and None


@pytest.mark.parametrize("closed", CLOSED, ids=str)
@pytest.mark.parametrize("output", [True, False])
def test_every_stream_may_be_closed(
    closed: tuple[int, ...], output: bool, talks: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["run", talks, *(["-o", out, "-f", "txt"] if output else [])]
    process = start(*words, stdin=subprocess.PIPE, preexec_fn=without(closed))
    stdout, stderr = process.communicate(timeout=60)
    lost = 1 in closed and not output  # nobody would get the records
    assert process.returncode == (2 if lost else 0), stderr
    assert "Traceback" not in stderr
    if lost:
        assert 2 in closed or stderr.startswith("error: stdout is closed")
        return
    lines = (out / "results.jsonl").read_text() if output else stdout
    assert len([json.loads(line) for line in lines.splitlines()]) == 3
    if output:
        assert (out / "a.txt").read_text() == "one\ntwo\n"


@pytest.mark.parametrize("command", ["presets", "models"])
def test_a_command_that_only_tells_ends_well(command: str) -> None:
    process = start(command, preexec_fn=without((0, 1)))
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


@pytest.mark.parametrize("closed", CLOSED, ids=str)
def test_no_file_gets_the_number_of_a_closed_stream(closed: tuple[int, ...]) -> None:
    code = (
        "import os, sys; from fastadasp_cli import streams; streams.reopen()\n"
        "assert os.open(os.devnull, os.O_RDONLY) > 2\n"
        "print('lost'); print('lost', file=sys.stderr); os.write(2, b'lost')\n"
        "assert sys.stdin.read() == ''\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        preexec_fn=without(closed),
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("rest", [["-"], ["-", "--null"]])
def test_paths_on_a_closed_stdin_are_none(rest: list[str], tmp_path: Path) -> None:
    process = start("run", *rest, "-o", tmp_path, preexec_fn=without((0,)))
    assert "no audio or video files among the inputs" in process.communicate(timeout=60)[1]
    assert process.returncode == 2
