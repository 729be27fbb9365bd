"""The decoding process with hostile code in the place of a decoder, and what comes out of it."""

from __future__ import annotations

from pathlib import Path

from core.errors import MediaError
from core.media.apart import decode_apart

ROOT = Path(__file__).parents[2]

# a decoder that does what the file's name says, after a first block of sound
HOSTILE = """
import os, signal, sys, time
sys.path.extend(sys.argv[1:])
sys.path.append({root!r})
import numpy as np
from core.media import child

def decode(path, rate, warn, how, tick):
    yield np.ones(rate, np.float32)
    if path.name == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.name == "abort":
        os.write(2, b"x" * 1_000_000 + b"\\nfree(): \\x1b[2J " + b"y" * 300 + b" corrupted!\\n\\n")
        os.abort()
    if path.name == "hang":
        time.sleep(600)
    if path.name == "slow":
        time.sleep(1)
        yield np.ones(rate, np.float32)
    if path.name == "spin":
        while True:
            pass
    if path.name == "think":
        for _ in range(8):
            time.sleep(0.4)
            tick()
    if path.name == "eat":
        bytearray(8 << 30)
    if path.name == "chat":
        os.write(1, b"libsomething 1.2")
    if path.name == "bug":
        raise ValueError("of two\\nlines")
    if path.name == "tell":
        raise ValueError(f"{{os.getcwd()}} {{sorted(os.environ)}}")
    if path.name == "write":
        with open("{scratch}", "wb") as file:
            file.write(b"x")
    if path.name == "open":
        files = [open(os.devnull) for _ in range(100)]

child.decode = decode
child.STALL = {stall}
{more}
child.serve()"""


def heard(path: Path) -> tuple[int, str]:
    """Samples that came before the error, and the error."""
    count = 0
    try:
        for block in decode_apart(path):
            count += len(block)
    except MediaError as error:
        return count, str(error)
    return count, ""
