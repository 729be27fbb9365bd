"""What an evaluation has heard once it does not hear again, and it stays the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from core.models.base import Encoded
from core.records import Recording, Segment
from core.studies.heard import Heard

RECORDING = Recording("a.wav", Path("a.wav"))


class Ear:
    """A model whose encoder says how long each waveform is, and counts what it was given."""

    device = torch.device("cpu")
    facts = SimpleNamespace(max_seconds=30.0, sample_rate=16_000)

    def __init__(self) -> None:
        self.heard: list[int] = []

    def encode(self, waves: Sequence[Any], scored: bool = False) -> Encoded:
        self.heard += [len(wave) for wave in waves]
        tokens = [torch.full((2, 4), float(len(wave))) for wave in waves]
        maps = [torch.full((2,), float(len(wave))) for wave in waves] if scored else None
        return Encoded(tokens, [10 + scored] * len(waves), maps, maps)


def ear_of() -> Any:
    return Ear()


class Cut:
    """Two segments, cut at a price."""

    audio_s, load_s, segment_s, warnings = 2.0, 0.25, 0.5, ("odd",)

    def __iter__(self) -> Iterator[Segment]:
        yield segment(100, features=(np.zeros(7, np.float32),))
        yield segment(200, index=1)


def segment(samples: int, **others: Any) -> Segment:
    given: dict[str, Any] = {"index": 0, **others}
    return Segment("a.wav", start=0.0, samples=np.zeros(samples, np.float32), **given)


def values(encoded: Encoded) -> list[float]:
    return [float(row[0, 0]) for row in encoded.tokens]


def read_twice(heard: Heard, how: Sequence[str] = ("vad", "vad")) -> tuple[list[Any], int]:
    times = []

    def read(recording: Recording, check: object) -> Cut:
        times.append(recording.id)
        return Cut()

    cuts = []
    for one in how:
        cut = heard.reader(one, read)(RECORDING, lambda: None)
        cuts.append((cut, list(cut)))
    return cuts, len(times)


def test_a_recording_is_cut_once_for_each_way_of_cutting() -> None:
    cuts, times = read_twice(Heard())
    (first, drawn), (again, same) = cuts
    assert times == 1
    assert [one.features for one in same] == [(), ()]
    assert [one.samples is two.samples for one, two in zip(drawn, same, strict=True)] == [True] * 2
    numbers = [(one.audio_s, one.load_s, one.segment_s, one.warnings) for one in (first, again)]
    assert numbers == [(2.0, 0.25, 0.5, ("odd",))] * 2
    assert read_twice(Heard(), ("vad", "fixed"))[1] == 2


def test_a_recording_that_was_not_read_to_its_end_is_read_again() -> None:
    heard = Heard()
    next(iter(heard.reader("vad", lambda *given: Cut())(RECORDING, lambda: None)))
    assert read_twice(heard)[1] == 1


def test_only_what_is_new_is_encoded_and_all_stand_in_order() -> None:
    heard, ear = Heard(), ear_of()
    one, two, three = (segment(n) for n in (100, 200, 300))
    heard.encode(ear, [one, three], False)
    found, flops = heard.encode(ear, [three, two, one], False)
    assert values(found) == [300, 200, 100]
    assert flops == [10, 10, 10]
    assert found.received is None
    assert ear.heard == [100, 300, 200]


def test_attention_is_asked_for_once_more_and_charged() -> None:
    heard, ear = Heard(), ear_of()
    one, two = segment(100), segment(200)
    heard.encode(ear, [one, two], False)
    for _ in range(2):
        found, flops = heard.encode(ear, [two, one], True)
        assert found.received is not None
        assert [float(row[0]) for row in found.received] == [200, 100]
        assert flops == [11, 11]
    assert heard.encode(ear, [one], False)[1] == [10]
    assert ear.heard == [100, 200, 200, 100]


def test_what_finds_no_room_is_heard_again() -> None:
    assert [read_twice(Heard(room=300 * 4 - less))[1] for less in (0, 1)] == [1, 2]
    heard, ear = Heard(room=40), ear_of()
    one, two = segment(100), segment(200)
    for _ in range(2):
        assert values(heard.encode(ear, [one, two], False)[0]) == [100, 200]
    assert ear.heard == [100, 200, 200]
