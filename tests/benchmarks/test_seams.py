from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.seams import EXAMPLES, errors, joined, read
from core import pipeline
from core.flags import resolve
from core.records import Span
from core.results.store import MemorySink

pytest.importorskip("jiwer")


def spans(*texts: str) -> list[Span]:
    return [Span(float(n), n + 1.0, text) for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("pieces", "found"),
    [
        (("a b", "c d"), {}),
        (("a b", "d"), {"seam_lost": 1}),
        (("a", "c d"), {"seam_lost": 1}),
        (("b c d",), {"lost": 1}),
        (("a b", "b c d"), {"seam_doubled": 1}),
        (("a b c", "b c d"), {"seam_doubled": 2}),
        (("a b", "x c d"), {"seam_put_in": 1}),
        (("a x", "c d"), {"seam_mistaken": 1}),
        (("x b", "c d"), {"mistaken": 1}),
    ],
)
def test_errors_are_counted_where_they_are(pieces: tuple[str, ...], found: dict[str, int]) -> None:
    counted = dict(errors("a b c d", spans(*pieces)))
    assert (counted.pop("words"), counted.pop("seams")) == (4, len(pieces) - 1)
    assert {key: value for key, value in counted.items() if value} == found


def test_no_word_is_lost_or_doubled_between_joined_recordings(tmp_path: Path) -> None:
    short = {one.id: one for one in read(EXAMPLES)}
    parts = [short[name] for name in ("market.flac", "station.mp3", "market.flac")]
    recording = joined(parts, 0.0, tmp_path / "joined.wav")
    sink = MemorySink()
    pipeline.run(resolve(reduce=0.0), [recording], sink)
    record = sink.records[recording.id]
    found = errors(str(recording.text), record.segments)
    assert found["seams"] >= 1
    assert record.coverage == 1.0
    assert not any(found[f"seam_{what}"] for what in ("lost", "doubled", "put_in")), record
