"""Checkpoints of models that transformers has no class for, rewritten as ones of a class it has.

Each layout has a module of its own here. It reads safetensors or refuses, holds a shard at a time,
and runs none of the code that a checkpoint may bring. Imports nothing heavy before it converts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import UsageError

Tell = Callable[[str], None]

CONVERTERS = {"qwen-audio": "qwen_audio", "wavllm": "wavllm"}
"""Published layout -> the module of this folder whose `convert(source, target, tell)` reads it."""


def convert(name: str, source: Path, target: Path, tell: Tell) -> None:
    """Rewrite a checkpoint; `target` comes into being whole or not at all.

    Args:
        name: of `CONVERTERS`.
        source: the published checkpoint, for most layouts a folder.
        target: a new or empty folder.
        tell: takes a line about how far it is.

    Raises:
        UsageError: no such layout or source, or something is in the target's place.
        StartError: the checkpoint is not what its layout says.
    """
    if name not in CONVERTERS:
        raise UsageError(f"unknown layout '{name}'; choose one of {', '.join(CONVERTERS)}")
    if not source.exists():
        raise UsageError(f"{source} does not exist; download the checkpoint and say where it is")
    with _fresh(target) as folder:
        import_module(f".{CONVERTERS[name]}", __package__).convert(source, folder, tell)


@contextmanager
def _fresh(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its place at the end, or goes when something fails."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is there and not empty; name a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as place:
        # temporary folders are closed to others: what stays is a plain one inside
        folder = Path(place) / "made"
        folder.mkdir()
        yield folder
        folder.replace(target)
