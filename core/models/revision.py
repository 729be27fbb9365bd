"""Which weights a model's name means now, told without loading them. Imports nothing heavy."""

from __future__ import annotations

import hashlib
from pathlib import Path

EMBEDDED = "embedded"
FOLDER = Path(__file__).parent
_DIGITS = 12
_PARTS = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja"})


def revision_of(model: str, *, offline: bool = False) -> str | None:
    """What must be the same for the same model to give the same text.

    Args:
        model: `embedded` (a digest of its weights), a folder (a digest of the names, sizes and
            times of change of its files: reading tens of gigabytes would take minutes), or a hub
            id (the commit on this machine, else the hub's newest, for which its `config.json` is
            fetched).
        offline: look only on this machine.

    Returns:
        None when it cannot be told; loading the model will say why.
    """
    if model == EMBEDDED:
        weights = FOLDER / EMBEDDED / "model.safetensors"
        return hashlib.sha256(weights.read_bytes()).hexdigest()[:_DIGITS]
    if Path(model).is_dir():
        return _of_folder(Path(model))
    return _of_hub(model, offline)


def _of_folder(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in _PARTS:
            stat = path.stat()
            digest.update(f"{path.name}/{stat.st_size}/{stat.st_mtime_ns}/".encode())
    return digest.hexdigest()[:_DIGITS]


def _of_hub(model: str, offline: bool) -> str | None:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    try:
        found = try_to_load_from_cache(model, "config.json")
        if not isinstance(found, str) and not offline:
            found = hf_hub_download(model, "config.json")
    except Exception:
        return None
    # .../snapshots/<commit>/config.json
    return Path(found).parent.name if isinstance(found, str) else None
