"""Subtitles leave the screen while nobody speaks, whatever length of piece was asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.flags import resolve
from core.media.decode import decode
from core.media.discover import discover
from core.pipeline import run
from core.records import Hypothesis, Segment
from core.results.lines import read_results, record_of
from core.results.store import Store
from tests.hearing import Hearing

RATE = 16_000
KITCHEN = Path(__file__).parents[1] / "examples" / "audio" / "kitchen.wav"
CLOCK = re.compile(r"(\d\d):(\d\d):(\d\d),(\d{3}) --> (\d\d):(\d\d):(\d\d),(\d{3})")


class Chatterbox:
    """Says three words for each second of a piece."""

    def transcribe(self, segments: Iterator[Segment]) -> Iterator[Hypothesis]:
        for piece in segments:
            text = " ".join(["word"] * max(1, round(3 * piece.duration)))
            yield Hypothesis(
                *(piece.recording_id, piece.index, piece.start, piece.end, text),
                speech=piece.speech,
            )


def shown(path: Path) -> list[tuple[float, float]]:
    """Beginning and end of each cue."""
    found = []
    for match in CLOCK.finditer(path.read_text()):
        first, last = map(int, match.groups()[:4]), map(int, match.groups()[4:])
        h, m, s, ms = first
        h2, m2, s2, ms2 = last
        found.append((h * 3600 + m * 60 + s + ms / 1000, h2 * 3600 + m2 * 60 + s2 + ms2 / 1000))
    return found


@pytest.mark.parametrize("chunk", [None, 5.0, 30.0])
@pytest.mark.parametrize("pauses", [(8.0,), (2.5, 12.0), (1.6, 4.0, 1.2)])
def test_no_cue_covers_a_pause(
    chunk: float | None, pauses: tuple[float, ...], tmp_path: Path
) -> None:
    speech = np.concatenate(list(decode(KITCHEN)))
    loud = np.flatnonzero(np.abs(speech) > 0.02)
    speech = speech[loud[0] : loud[-1]]
    parts, silences, at = [speech], [], len(speech) / RATE
    for pause in pauses:
        parts += [np.zeros(round(pause * RATE), np.float32), speech]
        silences.append((at, at + pause))
        at += pause + len(speech) / RATE
    soundfile.write(tmp_path / "p.wav", np.concatenate(parts), RATE)
    config = resolve(chunk_length=chunk)
    with Store(tmp_path / "out", config.settings, ["srt"]) as store:
        run(config, list(discover([str(tmp_path / "p.wav")])), store, stages=Hearing(Chatterbox()))
    [path] = (tmp_path / "out").rglob("p.srt")
    for start, end in shown(path):
        for begun, ended in silences:
            # the detector hears speech end a little late, and a cue may linger
            assert min(end, ended) - max(start, begun) < 0.5
    [record] = map(record_of, read_results(tmp_path / "out" / "results.jsonl"))
    for span in record.segments:
        assert span.speech is not None
        assert span.start <= span.speech[0][0] and span.speech[-1][1] <= span.end
