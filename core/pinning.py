"""Settings whose name stays while what they mean changes: weights, and a method's own file.

A run that goes on after weeks must not mix the texts of two models of one name.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from .config import RunConfig


def pinned(config: RunConfig) -> RunConfig:
    """The settings with what they mean today; their `settings_hash` tells it from tomorrow's."""
    from .models.revision import revision_of

    revision = revision_of(config.model, offline=config.offline)

    def now(one: RunConfig) -> RunConfig:
        digest = _digest(one.reduction.method)
        return replace(one, model_revision=revision, method_digest=digest)

    return replace(now(config), also=tuple(map(now, config.also)))


def _digest(method: str) -> str | None:
    """Of the file that an external method, `FILE.py:Name`, lies in; None for any other."""
    path, mark, _ = method.rpartition(".py:")
    try:
        return hashlib.sha256(Path(f"{path}.py").read_bytes()).hexdigest() if mark else None
    except OSError:  # the loader of methods says what is wrong with it
        return None
