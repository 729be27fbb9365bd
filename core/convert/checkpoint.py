"""Weights on disk, read and written shard by shard: memory holds a shard, not a model."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path, PureWindowsPath
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import StartError, first_line

SHARD_BYTES = 10**9
"""Most bytes of a shard that is written, unless one tensor alone has more."""

_SINGLE = "model.safetensors"
_INDEX = f"{_SINGLE}.index.json"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_NAMED = 3


def read_json(path: Path) -> dict[str, Any]:
    """Settings of a checkpoint.

    Raises:
        StartError: no such file, or no JSON.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StartError(
            f"{path} cannot be read: {first_line(error)}; download the whole checkpoint"
        ) from error
    return found


class Shards:
    """The tensors of a safetensors checkpoint; never more than one of its files is open.

    Args:
        folder: with `model.safetensors`, or with shards and their index.

    Attributes:
        names: of all tensors, those of a shard side by side.

    Raises:
        StartError: it holds no safetensors.
    """

    def __init__(self, folder: Path) -> None:
        """Read names, no weights."""
        self._files = _files(folder)
        self.names = sorted(self._files, key=lambda name: self._files[name])

    def __getitem__(self, name: str) -> Tensor:
        """One tensor of the checkpoint."""
        with _opened(self._files[name]) as file:
            return cast(Tensor, file.get_tensor(name))

    def shards(self, names: Collection[str]) -> Iterator[tuple[Path, Iterator[tuple[str, Tensor]]]]:
        """Each file in turn, with its tensors among `names`, which are read as they are drawn."""
        wanted = [name for name in self.names if name in names]
        for file, inside in groupby(wanted, key=lambda name: self._files[name]):
            yield file, _tensors(file, list(inside))


def _tensors(file: Path, names: list[str]) -> Iterator[tuple[str, Tensor]]:
    with _opened(file) as opened:
        for name in names:
            yield name, opened.get_tensor(name)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as opened:
            yield opened
    except (SafetensorError, FileNotFoundError) as error:
        raise StartError(
            f"{file} cannot be read: {first_line(error)}; download it again"
        ) from error


def _files(folder: Path) -> dict[str, Path]:
    """Where each tensor lies."""
    if (folder / _INDEX).is_file():
        places = read_json(folder / _INDEX).get("weight_map") or {}
        return {name: folder / _inside(file, folder) for name, file in places.items()}
    file = folder / _SINGLE
    if file.is_file():
        with _opened(file) as opened:
            return dict.fromkeys(opened.keys(), file)
    if any(one.suffix in _PICKLED for one in folder.iterdir()):
        raise StartError(
            f"{folder} holds pickled weights only, and to read those is to run what is in them; get"
            " the safetensors: hf download ID --include '*.safetensors*' --local-dir FOLDER"
        )
    raise StartError(
        f"{folder} holds neither {_INDEX} nor {_SINGLE}; download the whole checkpoint"
    )


def _inside(file: object, folder: Path) -> str:
    """The name of a shard, if it lies in the checkpoint on any system."""
    if isinstance(file, str):
        path = PureWindowsPath(file)  # which knows both separators
        if not path.anchor and ".." not in path.parts:
            return file
    raise StartError(
        f"{folder / _INDEX} names {file!r}, which is no file in it; download the checkpoint again"
    )


class Writer:
    """Writes tensors in shards, with the index that transformers reads.

    Args:
        folder: where to.
        limit: most bytes of a shard.
    """

    def __init__(self, folder: Path, limit: int = SHARD_BYTES) -> None:
        """Write nothing yet."""
        self._folder, self._limit = folder, limit
        self._held: dict[str, Tensor] = {}
        self._shards: list[list[str]] = []
        self._bytes = 0

    def add(self, name: str, tensor: Tensor) -> None:
        """Take a tensor; what was taken before is written when it would become too much."""
        if self._held and _bytes(self._held) + tensor.nbytes > self._limit:
            self._write()
        # a view would keep all of what it is a view of, be it a file
        self._held[name] = tensor.clone(memory_format=torch.contiguous_format)

    def finish(self) -> None:
        """Write what is left, and the index."""
        self._write()
        if len(self._shards) == 1:
            self._part(0).rename(self._folder / _SINGLE)
            return
        places: dict[str, str] = {}
        for number, names in enumerate(self._shards):
            file = f"model-{number + 1:05}-of-{len(self._shards):05}.safetensors"
            self._part(number).rename(self._folder / file)
            places |= dict.fromkeys(names, file)
        index = {"metadata": {"total_size": self._bytes}, "weight_map": places}
        (self._folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n")

    def _write(self) -> None:
        save_file(self._held, self._part(len(self._shards)), metadata={"format": "pt"})
        self._shards.append(list(self._held))
        self._bytes += _bytes(self._held)
        self._held = {}

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number:05}.safetensors"


def _bytes(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def check_names(missing: Collection[str], left: Collection[str]) -> None:
    """Refuse a checkpoint whose parameters are not those of its layout.

    Args:
        missing: parameters of the new model that nothing becomes.
        left: parameters of the old one that become nothing.

    Raises:
        StartError: there are any.
    """
    found = [
        f"{what} {_some(names)}"
        for what, names in (("lacks", missing), ("has no use for", left))
        if names
    ]
    if found:
        raise StartError(f"the checkpoint {' and '.join(found)}; is it whole and of this layout?")


def _some(names: Collection[str]) -> str:
    first = sorted(names)[:_NAMED]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")
