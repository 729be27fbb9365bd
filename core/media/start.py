"""Entry of the decoding process: run as a file, by an interpreter that looks into no other folder.

A file `soxr.py` in the working folder must not become code that runs. So the interpreter starts
with `-I -S`, which leaves it the standard library; the folders of installed packages are handed
over by the parent and come behind it, and `core` is taken from where this file lies.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path


def main(packages: Sequence[str]) -> None:
    """Serve the parent until it has no more files.

    Args:
        packages: folders to import from, behind the standard library.
    """
    sys.path.extend(packages)
    home = Path(__file__).parents[1]
    spec = spec_from_file_location(
        "core", home / "__init__.py", submodule_search_locations=[str(home)]
    )
    assert spec is not None and spec.loader is not None
    core = sys.modules["core"] = module_from_spec(spec)
    spec.loader.exec_module(core)
    import_module("core.media.child").serve()


if __name__ == "__main__":
    main(sys.argv[1:])
