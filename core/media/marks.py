"""What text begins with that is not UTF-8, or says that it is: byte-order marks."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before that of UTF-16, which it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def may_begin_a_mark(first: bytes) -> bool:
    """Whether more bytes are needed to know if there is a mark."""
    return any(mark.startswith(first) and mark != first for mark in _MARKS)


def in_utf8(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same text in UTF-8 without its mark; bytes without one stay as they are.

    Args:
        chunks: of one text, the first of them long enough for a mark.
    """
    decoder = None
    for number, chunk in enumerate(chunks):
        if number == 0:
            mark = next(filter(chunk.startswith, _MARKS), b"")
            chunk = chunk.removeprefix(mark)
            if mark and _MARKS[mark] != "utf-8":
                decoder = codecs.getincrementaldecoder(_MARKS[mark])("replace")
        yield decoder.decode(chunk).encode() if decoder else chunk
