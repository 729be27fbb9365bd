"""A tool for other people's recordings tells nobody that it runs, nor do the libraries it uses."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec

_SWITCHES = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",  # or it leaves a device id below the home folder
    "RAY_USAGE_STATS_ENABLED": "0",
}


def settle() -> None:
    """Set what libraries read when they are imported; who has set it otherwise is obeyed."""
    for name, value in _SWITCHES.items():
        os.environ.setdefault(name, value)


def import_urllib3() -> None:
    """Import it without the socket that it binds to learn whether this machine has IPv6.

    Nobody here needs it, but transformers imports it where mistral-common is installed.
    """
    if "urllib3" in sys.modules or not (find_spec("mistral_common") and find_spec("urllib3")):
        return
    import socket

    able, socket.has_ipv6 = socket.has_ipv6, False
    try:
        connection = import_module("urllib3.util.connection")
    finally:
        socket.has_ipv6 = able
    connection.HAS_IPV6 = able  # type: ignore[attr-defined]  # by Python's word, unasked
