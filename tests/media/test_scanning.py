"""Large files are looked through block by block, and their holes are not read at all."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from core.media.scanning import Begin, Watched, matches, padding_from

BEGIN = Begin(b"mark", 2, re.compile(rb"a.mark\d"))
BLOCK = 1 << 17


@pytest.mark.parametrize("place", [0, 1, BLOCK - 70, BLOCK - 4, BLOCK - 1, BLOCK, 3 * BLOCK + 5])
def test_a_mark_is_found_wherever_it_lies(place: int, tmp_path: Path) -> None:
    path = tmp_path / "a"
    data = bytearray(b"x" * (4 * BLOCK))
    data[place : place + 7] = b"a.mark1"
    data[-7:] = b"a.mark2"
    data[2 * BLOCK : 2 * BLOCK + 7] = b"b.mark3"  # which is none
    path.write_bytes(data)
    with Watched(path, lambda: None) as file:
        assert list(matches(file, BEGIN, 0, len(data))) == [place, len(data) - 7]
        assert list(matches(file, BEGIN, place + 1, len(data))) == [len(data) - 7]


def test_a_mark_between_holes_has_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a"
    places = [1000, 50 * BLOCK + 77, 400 * BLOCK + 5]
    with path.open("wb") as file:
        for place in places:
            file.seek(place)
            file.write(b"a.mark1")
        file.truncate(10_000 * BLOCK)
    read: list[int] = []

    class Counted(Watched):
        def read(self, size: int | None = -1, /) -> bytes:
            read.append(size or 0)
            return super().read(size)

    with Counted(path, lambda: None) as counted:
        assert list(matches(counted, BEGIN, 0, 10_000 * BLOCK)) == places
    if hasattr(os, "SEEK_DATA"):
        assert sum(read) < 100 * BLOCK


def test_who_reads_much_gives_a_sign_of_life(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.truncate(200 << 20)
    ticks: list[int] = []
    with Watched(path, lambda: ticks.append(1)) as watched:
        while watched.read(1 << 20):
            pass
    assert 2 <= len(ticks) <= 4


@pytest.mark.parametrize("zeros", [0, 100, 5000, BLOCK, 3 * BLOCK])
@pytest.mark.parametrize("tags", [0, 1, 2])
def test_padding_at_the_end(zeros: int, tags: int, tmp_path: Path) -> None:
    path = tmp_path / "a"
    tag = b"TAG" + bytes(range(125))
    ape = b"APETAGEX" + bytes(4) + (100).to_bytes(4, "little") + bytes(16)
    tail = bytes(zeros) + (bytes(68) + ape) * (tags > 1) + tag * (tags > 0)
    path.write_bytes(b"sound" * 1000 + tail)
    with Watched(path, lambda: None) as file:
        end = padding_from(file, 5000 + len(tail))
    assert end == 5000 + (zeros if zeros <= 100 else 0)
