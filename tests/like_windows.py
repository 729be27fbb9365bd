"""`python -m tests.like_windows run a.ogg`: the command line without what only Unix has.

The libraries are imported first, as on this system they may use what it has.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from pathlib import Path

MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")
_LIBRARIES = ("onnxruntime", "rich.progress", "soundfile", "torch", "transformers.modeling_utils")
_SIGNALS = ("SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_DFL", "SIG_IGN")
_CALLS = (
    *("alarm", "getitimer", "pause", "pthread_kill", "pthread_sigmask", "setitimer"),
    *("siginterrupt", "sigpending", "sigwait"),
)
_FUNCTIONS = (
    *("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "WIFEXITED", "WIFSIGNALED"),
    *("chown", "chroot", "fchmod", "fchown", "fdatasync", "fork", "forkpty", "getegid", "geteuid"),
    *("getgid", "getgroups", "getloadavg", "getpgid", "getpgrp", "getpriority", "getsid", "getuid"),
    *("killpg", "lchown", "mkfifo", "mknod", "nice", "openpty", "posix_fadvise", "pread", "pwrite"),
    *("sched_getaffinity", "sched_setaffinity", "sched_yield", "sendfile", "setgid", "setpgid"),
    *("setpriority", "setsid", "setuid", "statvfs", "sync", "sysconf", "uname", "wait", "wait3"),
)


def hide() -> None:
    """Take away modules, signals and functions that Windows lacks, and what Linux has in /proc."""
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for name in _LIBRARIES:
        import_module(name)
    for name in dir(signal):
        if (name.startswith("SIG") and name not in _SIGNALS) or name in _CALLS:
            delattr(signal, name)
    for name in _FUNCTIONS:
        if hasattr(os, name):
            delattr(os, name)


def hide_proc() -> None:
    """Let the files be missing that only Linux has; ours are imported for it."""
    from core.engine import memory, peak
    from core.models import precision

    absent = Path("there is no such folder") / "file"
    memory._MEMORY = absent
    memory._GROUP_MOST = memory._GROUP_NOW = absent
    peak._STATUS = peak._CLEAR_REFS = absent
    precision._PROCESSOR = absent


if __name__ == "__main__":
    hide()
    if sys.argv[1:] == ["serve"]:
        from core.media.child import serve

        serve()
    else:
        hide_proc()
        from fastadasp_cli.main import main

        main()
