"""What `--dtype auto` means: bfloat16 where this machine is really faster at it, else float32.

Whether it is cannot be read off a processor's name, so the two race once. Small models stay in
float32 all the same: they have little to gain, and their text suffers first.
"""

from __future__ import annotations

import json
import os
import platform
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SMALL = 100_000_000
"""Parameters below which a model stays in float32."""
MARGIN = 1.3
"""How many times as fast bfloat16 must be to be chosen."""
_CLOSE = 1.25
"""So many times above or below the margin a result is not sure: another moment may decide."""
_ROUNDS, _MANY_ROUNDS = 5, 40
_CPU_SIZES, _GPU_SIZES = (256, 1024, 1024), (2048, 4096, 4096)
_PROCESSOR = Path("/proc/cpuinfo")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def for_size(parameters: int, device: torch.device) -> torch.dtype:
    """The dtype for a model of so many parameters on this device."""
    import torch

    if parameters < SMALL:
        return torch.float32
    if device.type == "mps":
        return torch.float16
    return torch.bfloat16 if speedup(device) >= MARGIN else torch.float32


def speedup(device: torch.device) -> float:
    """How many times as fast as float32 bfloat16 is here; asked of the device once, then known.

    Kept on the disk, where the user's cache can be written, so that a run goes on in the numbers
    that it was begun in. `kept` says whether and where.
    """
    return _speedup(str(device), _key(device))


@cache
def _speedup(device: str, key: str) -> float:
    import torch

    known = _known()
    if key not in known:
        known[key] = sure_race(torch.device(device))
        # a cache is a convenience: no home, no matter
        with suppress(OSError):
            _keep(known)
    return known[key]


def kept(device: torch.device) -> tuple[float, Path] | None:
    """What an earlier process found out about this device, and the file that says so."""
    ratio = _known().get(_key(device))
    return None if ratio is None else (ratio, _place())


def sure_race(device: torch.device) -> float:
    """`race`, run again for longer where the result lies close to the margin."""
    ratio = race(device)
    sure = not MARGIN / _CLOSE < ratio < MARGIN * _CLOSE
    return ratio if sure else race(device, _MANY_ROUNDS)


def race(device: torch.device, rounds: int = _ROUNDS) -> float:
    """Time of a matrix product in float32 over that in bfloat16, best of some rounds in turn.

    A few milliseconds a round, the first of which warms up. 0 where bfloat16 does not work.
    """
    import torch

    rows, inner, columns = _CPU_SIZES if device.type == "cpu" else _GPU_SIZES
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    try:
        sides = {
            dtype: (
                torch.ones(rows, inner, dtype=dtype, device=device),
                torch.ones(inner, columns, dtype=dtype, device=device),
            )
            for dtype in best
        }
        for _ in range(rounds):
            for dtype, (left, right) in sides.items():
                begin = time.perf_counter()
                (left @ right)[0, 0].item()  # waits for the device
                best[dtype] = min(best[dtype], time.perf_counter() - begin)
    except RuntimeError:
        return 0.0
    return best[torch.float32] / best[torch.bfloat16]


def _key(device: torch.device) -> str:
    """What the result hangs on: the processor, torch, and how much of a CPU there is to use."""
    import torch

    part = ""
    if device.type == "cpu":
        part = f"{torch.get_num_threads()} threads, "
        with suppress(OSError):
            part += f"quota {_QUOTA.read_text().strip()}, "
    return f"{_name(device)}, {part}torch {torch.__version__}"


def _name(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with suppress(OSError, StopIteration):
        lines = _PROCESSOR.read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def _place() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "fastadasp" / "bfloat16.json"


def _known() -> dict[str, float]:
    """What earlier processes found; a file that is no such thing is as good as none."""
    with suppress(OSError, ValueError, AttributeError, TypeError):
        return {key: float(ratio) for key, ratio in json.loads(_place().read_text()).items()}
    return {}


def _keep(known: dict[str, float]) -> None:
    place = _place()
    place.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=place.parent, prefix=".", delete=False) as fresh:
        json.dump(known, fresh, indent=1)
    Path(fresh.name).replace(place)
