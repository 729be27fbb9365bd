"""A user's own method: `path/to/file.py:Name`, loaded without touching the package."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from ..errors import UsageError
from .base import Method


def is_external(name: str) -> bool:
    """Whether a method's name means a file: it ends in `.py` or in `.py:Name`."""
    return name.partition(".py:")[1] != "" or name.endswith(".py")


def load(name: str) -> Method:
    """The method `Name` of the file, made without arguments.

    Raises:
        UsageError: one line that says what is wrong with the file or the name in it.
    """
    path, _, wanted = name.rpartition(":") if not name.endswith(".py") else (name, "", "")
    module = _module(str(Path(path).resolve()))
    offered = [
        key
        for key, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, Method)
        and value.__module__ == module.__name__
    ]
    if wanted not in offered:
        found = f"it has {', '.join(offered)}" if offered else "it has no subclass of Method"
        example = f"--method {path}:{offered[0] if offered else 'Name'}"
        raise UsageError(f"no method '{wanted}' in {path}: {found}; as in {example}")
    try:
        method: Method = getattr(module, wanted)()
    except Exception as error:
        raise UsageError(f"cannot make {wanted} of {path}: {_line(error)}") from error
    return method


@lru_cache(maxsize=16)
def _module(place: str) -> ModuleType:
    """Run the file once; the same classes each time it is asked for."""
    if not Path(place).is_file():
        raise UsageError(f"--method {place}: no such file")
    label = "fastadasp_method_" + hashlib.sha256(place.encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(label, place)
    if spec is None or spec.loader is None:
        raise UsageError(f"--method {place}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by name
    sys.modules[label] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[label]
        raise UsageError(f"--method {place}: {_line(error)}") from error
    return module


def _line(error: Exception) -> str:
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}: {words[0]}" if words else type(error).__name__
