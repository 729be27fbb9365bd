"""Parts of recordings by NeMo's offset and duration: exactly that sound, and nothing in silence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import MediaError
from core.media import apart
from core.media.apart import decode_apart
from core.media.decode import decode
from core.media.part import part
from core.records import CUT_SHORT, SLACK, Waveform

from .sounds import cut, tone, write

RATE = 100  # samples a second, so that a slack is 10 of them
TIMES = st.integers(0, 500).map(lambda samples: samples / RATE)


def blocks(sizes: list[int], error: MediaError | None = None) -> Iterator[Waveform]:
    """Samples that say where they stand."""
    at = 0
    for size in sizes:
        yield np.arange(at, at + size, dtype=np.float32)
        at += size
    if error is not None:
        raise error


@given(st.lists(st.integers(1, 90), min_size=1, max_size=9), TIMES | st.none(), TIMES | st.none())
def test_it_is_the_sound_between_two_times(
    sizes: list[int], offset: float | None, duration: float | None
) -> None:
    said: list[str] = []
    length, first = sum(sizes), round((offset or 0) * RATE)
    end = length if duration is None else first + round(duration * RATE)
    made = part(blocks(sizes), RATE, offset, duration, said.append)
    if first and length <= first:
        with pytest.raises(MediaError, match="lies behind"):
            list(made)
        return
    got = np.concatenate(list(made))
    whole = length - end <= SLACK * RATE
    assert got.tolist() == list(range(first, length if whole else end))
    short = [text for text in said if text.startswith("ends at")]
    assert bool(short) == (length < end - SLACK * RATE)
    assert [text for text in said if text not in short] == (
        [f"{CUT_SHORT}: there is more behind the {duration:g} s of its manifest"]
        if offset is None and not whole
        else []
    )


def test_damage_behind_the_part_does_not_matter() -> None:
    error = MediaError("breaks off")
    got = list(part(blocks([50, 50], error), RATE, 0.2, 0.8, print))
    assert len(np.concatenate(got)) == 80
    for duration in (0.9, None):
        with pytest.raises(MediaError, match="breaks off"):
            list(part(blocks([50, 50], error), RATE, 0.2, duration, print))


def test_nothing_is_decoded_behind_it() -> None:
    made = part(blocks([50] * 4, MediaError("read too far")), RATE, 0.0, 1.0, print)
    assert len(np.concatenate(list(made))) == 100


@pytest.mark.usefixtures("fresh_decoders")
@pytest.mark.parametrize("kind", ["wav", "mp3", "m4a"])
def test_the_decoder_makes_it_and_stays(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a.{kind}", tone(25, 44_100), 44_100)
    whole = np.concatenate(list(decode(path)))
    said: list[str] = []
    for offset, duration in ((20.5, 2.0), (None, 3.0), (11.0, None)):
        found = list(decode_apart(path, 16_000, said.append, offset, duration))
        first = round((offset or 0) * 16_000)
        end = None if duration is None else first + round(duration * 16_000)
        assert np.array_equal(np.concatenate(found), whole[first:end])
        assert all(len(block) for block in found)
    assert said == [f"{CUT_SHORT}: there is more behind the 3 s of its manifest"]
    with pytest.raises(MediaError, match=r"offset of 26 s lies behind its 25\.\d s"):
        list(decode_apart(path, 16_000, None, 26.0, 1.0))
    assert len(apart._idle) == 1  # it was not ended, as it is for sound that nobody takes


@pytest.mark.usefixtures("fresh_decoders")
def test_an_error_names_the_time_in_the_recording(tmp_path: Path) -> None:
    path = cut(write(tmp_path / "a.wav", tone(10)))
    with pytest.raises(MediaError, match=r"^breaks off at 5\.0 s of 10\.0 s$"):
        list(decode_apart(path, 16_000, None, 2.0, 6.0))
    assert len(np.concatenate(list(decode_apart(path, 16_000, None, 2.0, 2.8)))) == 44_800


@pytest.mark.usefixtures("hostile")
def test_a_crash_is_told_with_the_time_in_the_recording(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"breaks off at 1\.0 s: it crashed"):
        list(decode_apart(tmp_path / "crash", 16_000, None, 0.5, 6.0))
