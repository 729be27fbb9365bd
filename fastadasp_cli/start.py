"""Where `fastadasp` begins: imports the command line, and says what stands in the way of that."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

CANNOT_START = 3


def main() -> NoReturn:
    """Entry point of `fastadasp`."""
    try:
        from .main import main as run
    except Exception:  # whatever code of that name does
        reason = collision()
        if reason is None:
            raise
        sys.stderr.write(f"error: {reason}\n")
        raise SystemExit(CANNOT_START) from None
    run()


def collision() -> str | None:
    """Whose `core` or `presets` is found in place of ours, in one line; None if ours are.

    Python looks first in the folder where it was started or where the script lies, and then along
    PYTHONPATH: a project there may well have folders of these names.
    """
    root = Path(__file__).resolve().parents[1]
    for name in ("core", "presets"):
        found = _found(name)
        if found is not None and found != root / name:
            return (
                f"fastadasp needs its own '{name}' ({root / name}) and Python finds {found}: start"
                " it from another folder, or rename that one"
            )
    return None


def _found(name: str) -> Path | None:
    """Folder or file that `import name` takes."""
    try:
        spec = find_spec(name)
    except ValueError:  # put there by hand
        return None
    if spec is None:
        return None
    places = [*(spec.submodule_search_locations or ()), *filter(None, [spec.origin])]
    return Path(places[0]).resolve() if places else None
