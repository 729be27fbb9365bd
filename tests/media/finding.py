"""Short ways to ask what `discover` finds."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from core.media.discover import discover
from core.records import Recording


def make(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def find(*inputs: str, stdin: IO[bytes] | None = None, null: bool = False) -> list[Recording]:
    return list(discover(inputs, stdin=stdin, null=null))


def ids(*inputs: str, stdin: bytes = b"", null: bool = False) -> list[str]:
    return [found.id for found in find(*inputs, stdin=io.BytesIO(stdin), null=null)]


def errors(found: Sequence[Recording]) -> dict[str, str | None]:
    return {item.id: item.error for item in found}
