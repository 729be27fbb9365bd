"""Weights out of a checkpoint, all of them; what it lacks is never drawn at random.

transformers fills holes with random numbers and says so in its log alone: the model then loads,
runs and answers nonsense.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import StartError

_log = logging.getLogger(__name__)
_SHOWN = 3
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
# no part of another parameter's name: peft finds an adapter's own by it
_ADAPTER = "fastadasp_ears"


def load_weights(architecture: Any, place: str, **how: Any) -> Any:
    """A model of the class with the weights of a folder or hub id, in eval mode.

    Args:
        architecture: class of transformers, or one like it.
        place: folder or hub id.
        how: as `from_pretrained` takes it.

    Raises:
        StartError: the checkpoint lacks weights of the class, or has them in other shapes.
    """
    with _without_adapters():
        # pickled weights could run anything
        model, info = architecture.from_pretrained(
            place, use_safetensors=True, output_loading_info=True, **how
        )
    odd = [name for name, *_ in info["mismatched_keys"]]
    _refuse_holes(place, architecture.__name__, [*info["missing_keys"], *odd])
    if info["unexpected_keys"]:
        _log.info("%s: %d weights have no use here", place, len(info["unexpected_keys"]))
    return model.eval()


def load_adapter(model: Any, place: str, folder: str, how: Mapping[str, Any]) -> None:
    """Put the LoRA that hears on a loaded model, out of the checkpoint's own commit.

    Args:
        model: without it.
        place: folder or hub id of the checkpoint.
        folder: of the adapter inside it, "" = beside the weights.
        how: where to look and for which revision, as `from_pretrained` takes it.

    Raises:
        StartError: peft is not installed, there is no such adapter, or a part of it is missing.
    """
    from transformers.utils import cached_file

    if find_spec("peft") is None:
        raise StartError(f"{place} hears through a LoRA; run pip install peft")
    where = {name: how[name] for name in ("revision", "local_files_only") if name in how}
    try:
        # both files, or transformers would go on to a pickled one
        *_, weights = (cached_file(place, one, subfolder=folder, **where) for one in _ADAPTER_FILES)
    except OSError as error:
        raise StartError(
            f"{place} hears through a LoRA and lacks {' or '.join(_ADAPTER_FILES)}:"
            " download it again"
        ) from error
    info = model.load_adapter(str(Path(weights).parent), adapter_name=_ADAPTER)
    odd = [name for name, *_ in info.mismatched_keys]
    _refuse_holes(place, "its LoRA", [*info.missing_keys, *odd])
    model.set_adapter(_ADAPTER)


@contextmanager
def _without_adapters() -> Iterator[None]:
    """transformers takes an adapter beside the weights along and then reports on that alone.

    Or on weights of another place that the adapter names.
    """
    from transformers.integrations import peft

    asked = peft.is_peft_available
    peft.is_peft_available = lambda: False
    try:
        yield
    finally:
        peft.is_peft_available = asked


def _refuse_holes(place: str, what: str, missing: Collection[str]) -> None:
    if not missing:
        return
    names = ", ".join(sorted(missing)[:_SHOWN])
    more = ", ..." if len(missing) > _SHOWN else ""
    raise StartError(
        f"{place} lacks weights of {what}: {len(missing)} ({names}{more}); download it again, or"
        " give a checkpoint of this class"
    )
