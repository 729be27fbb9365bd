"""Where a table that grows and its progress go: terminals, pipes, quiet ones."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")

CODE = """
import sys
from fastadasp_cli.measuring import Measuring
quiet, no_progress = "q" in sys.argv[1], "n" in sys.argv[1]
view = Measuring(("side", "RTF"), 2, quiet=quiet, no_progress=no_progress)
with view.following():
    view.begin("about")
    for number in range(2):
        view.step(f"run {number}", number / 2)
        view.row(f"row {number}", "fast", ["mine", f"0.{number}"])
"""
TABLE = "about\nside          RTF\nmine          0.0\nmine          0.1\n"


def told(flags: str, *, stdout_too: bool) -> tuple[str, str]:
    """What stdout's pipe and the terminal at stderr (and stdout) get."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, flags],
        stdout=theirs if stdout_too else subprocess.PIPE,
        stderr=theirs,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # how Linux says that the other side has closed
        pass
    os.close(ours)
    piped = process.communicate(timeout=60)[0] or b""
    assert process.returncode == 0
    return piped.decode(), shown.decode().replace("\r\n", "\n")


def test_a_bar_beside_a_table_that_goes_elsewhere() -> None:
    piped, shown = told("-", stdout_too=False)
    assert piped == TABLE
    assert "measuring" in shown and "run 1" in shown and "50%" in shown
    assert "of 2" not in shown and "mine" not in shown


def test_rows_stand_above_the_bar_on_one_terminal() -> None:
    _, shown = told("-", stdout_too=True)
    assert "measuring" in shown
    assert "of 2" not in shown
    # a row begins on a line that the bar has left
    assert shown.count("\x1b[2Kmine") == 2


def test_no_bar_is_asked_for() -> None:
    piped, shown = told("n", stdout_too=False)
    assert (piped, shown) == (TABLE, "1 of 2: row 0: fast\n2 of 2: row 1: fast\n")
    # on one terminal the rows of the table are enough
    shown = told("n", stdout_too=True)[1]
    assert shown.count("mine") == 2 and "of 2" not in shown


def test_quiet_is_quiet() -> None:
    assert told("q", stdout_too=False) == (TABLE, "")
