"""Standard streams that whoever started this has closed: a service, cron, `<&-` in a shell."""

from __future__ import annotations

import os
import sys

from core.errors import UsageError

_MODES = {"stdin": "r", "stdout": "w", "stderr": "w"}
_closed: set[str] = set()


def reopen() -> None:
    """Put the null device where a stream is closed, before anything of ours is opened there.

    A file that gets the number of a closed stream would get what libraries print, too.
    """
    for number in range(len(_MODES)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest number
    for name, mode in _MODES.items():
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
            _closed.add(name)


def check_stdout() -> None:
    """Refuse work whose answer nobody could get.

    Raises:
        UsageError: stdout was closed when the process began.
    """
    if "stdout" in _closed:
        raise UsageError("stdout is closed, and the answer goes there: redirect it, or give -o")
