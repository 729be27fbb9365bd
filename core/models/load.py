"""From an id or a folder to a loaded `SpeechLM`; the folder of this file is the registry."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StartError, first_line
from ..unobserved import import_urllib3
from .quantized import check_packages, check_quantized, quantization
from .revision import EMBEDDED, FOLDER, revision_of
from .shape import check_positions, check_weights
from .weights import load_weights

if TYPE_CHECKING:
    import torch

    from .base import SpeechLM
    from .facts import Family

_NOT_FAMILIES = frozenset(
    {
        "base",
        "counting",
        "facts",
        "hearing",
        "load",
        "native",
        "precision",
        "quantized",
        "revision",
        "shape",
        "weights",
        EMBEDDED,
    }
)
SPLIT = "split"
"""In place of a device: over all GPUs, and what they cannot hold in main memory."""
_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class FamilyRow:
    """One line of `fastadasp models`.

    Attributes:
        model: what to hand to `--model`.
        family: `model_type` of its configuration.
        tasks: that it has.
        window: longest piece in seconds.
        tokens_per_second: audio tokens.
        tested: on what weights the project's own tests run it, reduced and not; a published
            checkpoint is tried by `models check`.
        note: what else to know.
    """

    model: str
    family: str
    tasks: tuple[str, ...]
    window: float
    tokens_per_second: float
    tested: str
    note: str


def families() -> tuple[str, ...]:
    """Supported `model_type`s: the module names of this folder."""
    names = (module.name for module in pkgutil.iter_modules([str(FOLDER)]))
    return tuple(sorted(name for name in names if name not in _NOT_FAMILIES))


def list_models() -> list[FamilyRow]:
    """What `--model` takes: the embedded model, then a line for each family."""
    rows = [_row(name) for name in families()]
    card = json.loads((FOLDER / EMBEDDED / "fastadasp.json").read_text())
    own = next(row for row in rows if row.family == "qwen2_audio")
    embedded = replace(
        own,
        model=EMBEDDED,
        tasks=tuple(card.get("tasks") or own.tasks),
        tested="its own weights",
        note="built in; English speech, small vocabulary",
    )
    return [embedded, *rows]


def _row(name: str) -> FamilyRow:
    about: Family = _family(name).about
    notes = [f"needs pip install {about.needs}" if about.needs else "", about.limits]
    return FamilyRow(
        model=about.example,
        family=name,
        tasks=about.tasks,
        window=about.max_seconds,
        tokens_per_second=about.tokens_per_second,
        tested="tiny random weights",
        note="; ".join(filter(None, notes)) or "hub id or folder",
    )


def load_model(
    model: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    offline: bool = False,
    revision: str | None = None,
    quantize: str | None = None,
) -> SpeechLM:
    """Load a model by hub id, by folder, or the embedded one.

    Args:
        model: `embedded`, a folder, or a hub id.
        device: auto | cpu | cuda | cuda:N | mps | split (all GPUs, then main memory).
        dtype: auto | float32 | bfloat16 | float16; for auto see `precision`.
        offline: look only on this machine.
        revision: commit of a hub model, None = as `revision_of`; a folder is what it is.
        quantize: 8bit | 4bit, the weights of the decoder's layers; None = as they are.

    Raises:
        StartError: no such model, family, device, dtype or quantization, a package for it is
            missing, or the model does not load.
    """
    from transformers import AutoConfig

    place = str(FOLDER / EMBEDDED) if model == EMBEDDED else model
    where = _device("auto" if device == SPLIT else device)
    _check_dtype(dtype)
    if device == SPLIT:
        check_packages("--device split", "accelerate")
    local = offline or Path(place).is_dir()
    if Path(place).is_dir() and not (Path(place) / "config.json").is_file():
        raise StartError(f"{place} holds no config.json; give a model folder or a hub id")
    try:
        # everything comes from this commit, so that the record names what was loaded
        commit = revision_of(model, offline=offline, asked=revision)
        # never another's code: a checkpoint is weights and settings
        how: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False}
        if not Path(place).is_dir():
            how["revision"] = commit or revision
        _register(place, how)
        config = AutoConfig.from_pretrained(place, **how)
        family = _family(_card(place).get("family", config.model_type))
        loading: dict[str, Any] = {"dtype": _dtype(dtype, family, config, where)}
        if quantize is not None:
            empty = _empty(family, config)
            loading["quantization_config"] = quantization(quantize, family, empty, loading["dtype"])
        if quantize is not None or device == SPLIT:
            loading["device_map"] = "auto" if device == SPLIT else {"": where}
        parts = _build(family, place, how, config, loading)
    except StartError:
        raise
    except Exception as error:
        raise StartError(_why(model, error, local)) from error
    lm: SpeechLM = family(model, commit, *parts, _card(place))
    if quantize is not None:
        check_quantized(lm.model, lm.decoder.layers, quantize)
    else:
        check_weights(model, lm.decoder_shape, lm.decoder.layers)
    check_positions(model, lm.model.config.get_text_config())
    if "device_map" not in loading:
        lm.model.to(where)
    return lm


def place_of(device: str, dtype: str, parameters: int) -> tuple[torch.device, torch.dtype]:
    """The device and the numbers that these names mean for a model of so many parameters.

    Raises:
        StartError: one of them does not exist here.
    """
    from .precision import for_size

    where = _device(device)
    _check_dtype(dtype)
    return where, for_size(parameters, where) if dtype == "auto" else _named(dtype)


def _build(
    family: Any, place: str, how: Mapping[str, Any], config: Any, loading: Mapping[str, Any]
) -> tuple[Any, Any]:
    """The transformers model, ready to hear, and its processor."""
    _check_needs(family)
    import_urllib3()
    architecture = _architecture(family, config)
    processor = family.load_processor(place, how)
    model = load_weights(architecture, place, **loading, **how)
    family.prepare(model, place, how)
    model.requires_grad_(False)
    return model, processor


def _card(place: str) -> dict[str, Any]:
    """What a folder says of its model beyond the configuration; nothing for a hub id."""
    file = Path(place) / "fastadasp.json"
    card: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return card


def _register(place: str, how: Mapping[str, Any]) -> None:
    """Let the family tell transformers of classes that it lacks."""
    from transformers import PretrainedConfig

    named, _ = PretrainedConfig.get_config_dict(place, **how)
    if named.get("model_type") in families():
        _family(named["model_type"]).register()


def _check_needs(family: Any) -> None:
    needed = family.about.needs
    if needed and find_spec(needed.replace("-", "_")) is None:
        raise StartError(f"models like {family.about.example} need {needed}: pip install {needed}")


def _architecture(family: Any, config: Any) -> Any:
    import transformers

    if isinstance(family.architecture, type):
        return family.architecture
    names = [family.architecture] if family.architecture else config.architectures or []
    found = next((getattr(transformers, name, None) for name in names), None)
    if found is None:
        raise StartError(
            f"this transformers has no class {', '.join(names) or '(none named)'};"
            " upgrade transformers"
        )
    return found


def _family(model_type: str) -> Any:
    # an omni model's thinker may have been saved alone
    model_type = model_type.removesuffix("_thinker")
    if model_type not in families():
        raise StartError(
            f"model family '{model_type}' is not supported; supported: {', '.join(families())}"
        )
    return import_module(f".{model_type}", __package__).FAMILY


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise StartError(
            f"device '{name}' cannot be used: {first_line(error)}; try --device cpu"
        ) from error
    return device


def _dtype(name: str, family: Any, config: Any, device: torch.device) -> torch.dtype:
    from .precision import for_size

    if name == "auto":
        parameters = sum(one.numel() for one in _empty(family, config).parameters())
        return for_size(parameters, device)
    return _named(name)


def _empty(family: Any, config: Any) -> Any:
    """The model without its weights."""
    import torch

    with torch.device("meta"):
        return _architecture(family, config)(getattr(config, "thinker_config", config))


def _named(dtype: str) -> torch.dtype:
    import torch

    found: torch.dtype = getattr(torch, dtype)
    return found


def _check_dtype(name: str) -> None:
    if name not in ("auto", *_DTYPES):
        raise StartError(f"unknown dtype '{name}'; choose one of auto, {', '.join(_DTYPES)}")


def _why(model: str, error: Exception, local: bool) -> str:
    first = first_line(error)[:200]
    hint = "check the name, or download it first and drop --offline" if local else "check the name"
    if "trust_remote_code" in str(error):
        hint = "its own code is never run; fastadasp convert --help says what can be converted"
    return f"model '{model}' cannot be loaded: {first} ({hint})"
