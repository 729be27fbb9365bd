"""The part of a recording that a row of a manifest names, by NeMo's `offset` and `duration`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ..errors import MediaError
from ..records import CUT_SHORT, SLACK, Seconds, Waveform


def part(
    blocks: Iterable[Waveform],
    rate: int,
    offset: Seconds | None,
    duration: Seconds | None,
    warn: Callable[[str], None],
) -> Iterator[Waveform]:
    """The blocks between two times; what lies behind is not decoded.

    Args:
        blocks: the recording from its beginning; an error of it behind the part does not matter.
        rate: its samples a second.
        offset: where the part begins; None = at the beginning, and `warn` hears of what is left.
        duration: of the part, and up to `SLACK` more if that is all; None = to the end.
        warn: called with one line when the part is not what somebody may think.

    Yields:
        Arrays of shape (n,); empty ones for what lies before the part, as a sign of life.

    Raises:
        MediaError: as `blocks` does; also where the part begins behind the end.
    """
    first, at = round((offset or 0.0) * rate), 0
    end = None if duration is None else first + round(duration * rate)
    behind: list[Waveform] = []
    for block in _as_far_as(blocks, end):
        yield block[max(0, first - at) : None if end is None else max(0, end - at)]
        if end is not None:
            behind.append(block[max(0, end - at) :])
        at += len(block)
        if end is not None and at > end + SLACK * rate:
            if offset is None:
                warn(f"{CUT_SHORT}: there is more behind the {duration:g} s of its manifest")
            return
    if at <= first and offset:
        raise MediaError(f"the manifest's offset of {offset:g} s lies behind its {at / rate:.1f} s")
    yield from behind
    if end is not None and at < end - SLACK * rate:
        warn(f"ends at {at / rate:.1f} s, before the {end / rate:g} s of its manifest")


def _as_far_as(blocks: Iterable[Waveform], end: int | None) -> Iterator[Waveform]:
    count = 0
    try:
        for block in blocks:
            count += len(block)
            yield block
    except MediaError:
        if end is None or count < end:
            raise
