"""How the decoding process is started: no code from the working folder, no secrets of the user."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

_START = Path(__file__).absolute().with_name("start.py")
_PACKAGES = Path(np.__file__).parents[1]  # where this process has its own libraries from
_PASSED_ON = frozenset(
    (
        *("PATH", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR"),
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"),
        *("LANG", "LANGUAGE", "TZ"),
    )
)
_SINGLE = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def launch() -> subprocess.Popen[bytes]:
    """The process, which serves requests as `child` says; its three streams are pipes.

    Raises:
        OSError: it does not start.
    """
    return subprocess.Popen(
        [sys.executable, "-I", "-S", _START, *_packages()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=os.path.abspath(os.sep),
        env=_environment(),
        start_new_session=True,  # Ctrl-C is for the run, which ends its decoders itself
    )


def _packages() -> list[str]:
    """Folders that this process imports from, but for the working folder."""
    here = ""
    with suppress(OSError):  # it is gone
        here = os.path.realpath(os.getcwd())
    return [
        place
        for place in sys.path
        if os.path.isabs(place)
        and (os.path.realpath(place) != here or os.path.samefile(place, _PACKAGES))
    ]


def _environment() -> dict[str, str]:
    """What a decoder needs; one thread a library, for files are decoded side by side as it is."""
    needed = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith("LC_")
    }
    return needed | dict.fromkeys(_SINGLE, "1")
