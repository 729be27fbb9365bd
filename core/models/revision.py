"""Which weights a model's name means now, told without loading them. Imports nothing heavy."""

from __future__ import annotations

import hashlib
from pathlib import Path

EMBEDDED = "embedded"
FOLDER = Path(__file__).parent
_DIGITS = 12
_PARTS = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja"})


def revision_of(model: str, *, offline: bool = False, asked: str | None = None) -> str | None:
    """What must be the same for the same model to give the same text.

    Args:
        model: `embedded` (a digest of its weights), a folder (a digest of the names, sizes and
            times of change of its files: reading tens of gigabytes would take minutes), or a hub id
            (the commit on this machine, else the hub's newest, whose `config.json` is fetched).
        offline: look only on this machine.
        asked: commit, branch or tag of a hub model, None = its main one.

    Returns:
        None when it cannot be told; loading the model will say why.
    """
    if model == EMBEDDED:
        # what lies beside them comes with the version of this package, which a record has too
        weights = FOLDER / EMBEDDED / "model.safetensors"
        return hashlib.sha256(weights.read_bytes()).hexdigest()[:_DIGITS]
    if Path(model).is_dir():
        return _of_folder(Path(model))
    return _of_hub(model, offline, asked)


def _of_folder(folder: Path) -> str:
    """Of the files that make a model, those of an adapter in a folder of its own among them."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)  # what downloads left behind
        if path.suffix in _PARTS and path.is_file() and not hidden:
            stat = path.stat()
            digest.update(f"{name.as_posix()}/{stat.st_size}/{stat.st_mtime_ns}/".encode())
    return digest.hexdigest()[:_DIGITS]


def _of_hub(model: str, offline: bool, asked: str | None) -> str | None:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    try:
        found = try_to_load_from_cache(model, "config.json", revision=asked)
        if not isinstance(found, str) and not offline:
            found = hf_hub_download(model, "config.json", revision=asked)
    except Exception:
        return None
    # .../snapshots/<commit>/config.json
    return Path(found).parent.name if isinstance(found, str) else None
