"""What a manifest's row says is right, for each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import UsageError
from ..labels import LABELS, label_of

Reference = tuple[str, ...]
"""The right answers to one recording: one, or several of which any will do; () = not known."""

REFERENCE_KEYS = {
    "asr": ("text",),
    "st": ("translation", "target_text"),
    "er": ("emotion", "label"),
    "sv": ("speakers",),
    "sqa": ("answer",),
    "ac": ("captions", "caption"),
}
"""Where a row keeps the reference of a task, the first that is there counts."""

_VAGUE = frozenset({"label"})  # means an emotion in some manifests and anything in others
_SEVERAL = frozenset({"answer", "captions", "caption"})


def reference(task: str, row: Mapping[str, Any]) -> Reference:
    """The reference of a task in a manifest's row.

    Args:
        task: asr | st | er | sv | sqa | ac; all others have none.
        row: an object of the manifest.

    Raises:
        UsageError: the key is there but holds something else, or a label that is not known.
    """
    for key in REFERENCE_KEYS.get(task, ()):
        if row.get(key) is not None:
            found = _texts(key, row[key])
            if task in LABELS:
                found = _label(task, key, found[0])
            if found:
                return found
    return ()


def _texts(key: str, value: Any) -> Reference:
    values = value if isinstance(value, list) and key in _SEVERAL else [value]
    numbers = key in ("speakers", "answer")
    wanted = (str, int) if numbers else (str,)
    if not values or any(isinstance(one, bool) or not isinstance(one, wanted) for one in values):
        raise UsageError(f'"{key}" is {value!r}; expected a {"number or " * numbers}string')
    return tuple(str(one) for one in values)


def _label(task: str, key: str, said: str) -> Reference:
    label = label_of(task, said)
    if label is None and key not in _VAGUE:
        raise UsageError(f'"{key}" is {said!r}; expected one of {", ".join(LABELS[task])}')
    return () if label is None else (label,)
