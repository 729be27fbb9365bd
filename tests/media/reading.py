"""What comes out of a file, in one piece."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from core.errors import MediaError
from core.media.decode import decode
from core.media.listening import Listening

from .sounds import Samples


def read(
    path: Path, warn: Callable[[str], None] | None = None, how: Listening | None = None
) -> tuple[Samples, str]:
    """What came before the error, and the error's text ('' if none)."""
    blocks = [np.zeros(0, np.float32)]
    try:
        blocks.extend(decode(path, warn=warn, how=how))
    except MediaError as error:
        return np.concatenate(blocks), str(error)
    return np.concatenate(blocks), ""
