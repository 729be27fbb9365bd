"""Transfer entropies of a tiny model's layers, against numpy on features held all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import presets
from core.config import ReductionConfig, RunConfig
from core.engine import Engine
from core.engine.features import AudioFeatures, audio_features
from core.errors import FastAdaSPError, UsageError
from core.flags import resolve
from core.media.discover import discover
from core.models import load_model
from core.models.base import SpeechLM
from core.pipeline import run
from core.records import Recording, Segment
from core.results.store import MemorySink
from core.studies import calibrate as study
from core.studies.calibrate import Search, Step, calibrate
from core.studies.layers import Calibration, LayerPoint, preset
from tests.folders import save_tiny

CARD = {"tasks": ["asr"], "prompts": {"asr": "transcribe the speech"}}
LEVEL = 0.3
LAYERS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"), CARD)


@pytest.fixture(scope="module")
def lm(folder: Path) -> SpeechLM:
    return load_model(str(folder), device="cpu")


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """Five recordings of noise, the last of them of two windows."""
    where = tmp_path / "talks"
    where.mkdir()
    draw = np.random.default_rng(5)
    for number, seconds in enumerate((1.9, 1.4, 1.7, 1.6, 3.8)):
        soundfile.write(
            where / f"{number}.wav", draw.normal(0, 0.1, round(16_000 * seconds)), 16_000
        )
    return where


def config(**changes: Any) -> RunConfig:
    how = ReductionConfig("fastadasp", "constant", 0.2, "keep", 0.0)
    return replace(RunConfig("asr", how, segment="fixed", batch_size=3), **changes)


def found_in(folder: Path) -> list[Recording]:
    return list(discover([str(folder)]))


def distances(found: Calibration) -> list[float | None]:
    return [point.transfer_entropy for point in found.points]


def segments_in(folder: Path) -> list[Segment]:
    waves = [soundfile.read(path, dtype="float32")[0] for path in sorted(folder.iterdir())]
    pieces = [
        wave[first : first + 32_000] for wave in waves for first in range(0, len(wave), 32_000)
    ]
    return [Segment("a", index, 0.0, piece) for index, piece in enumerate(pieces)]


@torch.inference_mode()
def by_hand(lm: SpeechLM, pieces: Sequence[Segment], layer: int, level: float) -> float:
    """Sum of the log deviations of all channels; the constants fall out of a difference."""
    how = replace(config().reduction, schedule="once", start_layer=layer, reduce=0.0)
    engine = Engine(lm, config(reduction=how))
    with engine:
        states = [
            audio_features(engine, engine.runner.prepare([one]), level).states for one in pieces
        ]
    rows = torch.cat(states).double().numpy()
    return float(np.log(rows.std(0, ddof=1)).sum())


def test_transfer_entropy_is_the_change_of_the_features_entropy(lm: SpeechLM, talks: Path) -> None:
    found = calibrate(Search((LEVEL,), (0, 1, 2)), config(), found_in(talks), lm)
    pieces = segments_in(talks)
    full = by_hand(lm, pieces, 0, 0.0)
    for point in found.points:
        change = abs(full - by_hand(lm, pieces, point.layer, LEVEL))
        assert point.transfer_entropy == pytest.approx(change, abs=1e-3)
        assert point.cut == pytest.approx(LEVEL, abs=0.015)
        assert 0 < (point.audio_tokens or 0) < found.audio_tokens
    assert (found.recordings, found.failed) == (5, ())
    assert found.audio_s == pytest.approx(10.4)
    means = [point.transfer_entropy for point in found.points]
    assert found.chosen == means.index(min(means, key=lambda one: one or 0.0))


def test_how_segments_are_batched_makes_no_difference(lm: SpeechLM, talks: Path) -> None:
    search = Search((LEVEL,), (0, 2))
    one, many = (calibrate(search, config(batch_size=size), found_in(talks), lm) for size in (1, 6))
    assert one.audio_tokens == many.audio_tokens
    assert one.entropy == pytest.approx(many.entropy, abs=1e-4)
    assert distances(one) == pytest.approx(distances(many), abs=2e-4)


def test_method_and_positions_are_those_asked_for(lm: SpeechLM, talks: Path) -> None:
    how = config().reduction
    ways = (how, replace(how, positions="reindex"), replace(how, method="random-evict"))
    found = [
        calibrate(Search((LEVEL,), (1,)), config(reduction=way), found_in(talks), lm)
        for way in ways
    ]
    assert len({one.points[0].transfer_entropy for one in found}) == 3
    assert [one.reduction.positions for one in found] == ["keep", "reindex", "keep"]
    assert {one.reduction.schedule for one in found} == {"once"}


def test_where_nothing_is_reduced_nothing_changes(lm: SpeechLM, talks: Path) -> None:
    found = calibrate(Search((0.0,)), config(), found_in(talks), lm)
    assert [point.layer for point in found.points] == list(range(LAYERS))
    assert distances(found) == [0.0] * LAYERS
    assert all(point.cut == 0 for point in found.points)


def test_a_layer_that_cannot_cut_so_much_is_reported(lm: SpeechLM, talks: Path) -> None:
    found = calibrate(Search((0.1, 0.5)), config(), found_in(talks), lm)
    assert len(found.points) == 2 * LAYERS
    deep = [point for point in found.points if point.cut is None]
    assert {point.layer for point in deep if point.asked == 0.5} >= {3, 4, 5}
    for point in deep:
        assert point.most < point.asked
        assert (point.entropy, point.transfer_entropy, point.reached) == (None, None, False)
    assert found.chosen in {
        point.layer for point in found.points if point.asked == 0.5 and point.reached
    }


def test_recordings_too_short_for_the_cut_do_not_count_as_reaching_it(
    lm: SpeechLM, tmp_path: Path
) -> None:
    draw = np.random.default_rng(0)
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", draw.normal(0, 0.1, 4_000), 16_000)
    found = calibrate(Search((0.6,), (0,)), config(), found_in(tmp_path), lm)
    [point] = found.points
    assert point.most > 0.6
    assert point.cut is not None
    assert point.cut < 0.59
    assert not point.reached
    assert (found.chosen, found.start) == (None, None)


def test_a_bad_recording_is_left_out_and_named(lm: SpeechLM, talks: Path) -> None:
    search = Search((LEVEL,), (0, 1))
    expected = calibrate(search, config(), found_in(talks), lm)
    (talks / "bad.wav").write_text("no sound in here")
    told: list[Any] = []
    found = calibrate(search, config(), found_in(talks), lm, told.append)
    assert found.failed == ("bad.wav",)
    assert found.recordings == 5
    assert distances(found) == pytest.approx(distances(expected), abs=1e-4)
    errors = [one.record.error for one in told if not isinstance(one, Step) and one.record]
    assert len([error for error in errors if error is not None]) == 1


def test_a_batch_that_does_not_fit_counts_everywhere_once(
    lm: SpeechLM, talks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Search((LEVEL,), (0, 1))
    expected = calibrate(search, config(batch_size=1), found_in(talks), lm)

    def tight(engine: Engine, prompts: Any, target: float) -> AudioFeatures:
        if (
            len(prompts.lengths) > 1
            and engine.config.reduction.first_layer(engine.lm.decoder_shape.layers) == 1
        ):  # the full model did fit
            raise RuntimeError("out of memory")
        return audio_features(engine, prompts, target)

    monkeypatch.setattr(study, "audio_features", tight)
    found = calibrate(search, config(batch_size=6), found_in(talks), lm)
    assert (found.failed, found.audio_tokens) == ((), expected.audio_tokens)
    assert distances(found) == pytest.approx(distances(expected), abs=1e-4)


def test_states_that_overflow_fail_the_recording(
    lm: SpeechLM, talks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> AudioFeatures:
        return AudioFeatures(torch.full((3, 4), torch.inf), 2, 1)

    monkeypatch.setattr(study, "audio_features", broken)
    with pytest.raises(FastAdaSPError, match="no recording could be used"):
        calibrate(Search((LEVEL,), (0,)), config(), found_in(talks), lm)


@pytest.mark.parametrize(
    ("search", "changes", "said"),
    [
        (Search((0.89,)), {}, "layer 0 can cut"),
        (Search((0.3,), (6,)), {}, "layers 0 to 5"),
        (Search((0.3,), (-1,)), {}, "layers 0 to 5"),
        (Search((0.3,)), {"task": "st"}, "lacks the task"),
        (Search((0.3,), (0,), joint=True), {}, "more recordings, or leave out --entropy"),
    ],
)
def test_what_cannot_be_is_one_line(
    lm: SpeechLM, talks: Path, search: Search, changes: Any, said: str
) -> None:
    few = found_in(talks)[:1] if search.joint else found_in(talks)
    with pytest.raises(UsageError, match=said) as raised:
        calibrate(search, config(**changes), few, lm)
    assert "\n" not in str(raised.value)


def test_every_step_is_told_and_the_model_is_left_alone(
    lm: SpeechLM, talks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    alive: list[Any] = []  # what is collected as garbage would put the model right by itself
    probe = study._Probe
    monkeypatch.setattr(study, "_Probe", lambda *words: alive.append(probe(*words)) or alive[-1])
    calibrate(Search((LEVEL, 0.1), (0, 1)), config(), found_in(talks), lm, told.append)
    steps = [one for one in told if isinstance(one, Step)]
    assert sum(step.seconds / step.places for step in steps) == pytest.approx(10.4)
    assert {step.place for step in steps} == {
        *((None, 0.0), (0, LEVEL), (0, 0.1), (1, LEVEL), (1, 0.1)),
    }
    assert all("forward" not in layer.__dict__ for layer in lm.decoder.layers)


def some(*points: tuple[int, float, float | None, float | None]) -> Calibration:
    """A calibration of six layers; a point is layer, asked, cut and transfer entropy."""
    made = [LayerPoint(layer, asked, 0.9, cut, 10, 1.0, te) for layer, asked, cut, te in points]
    how = ReductionConfig("ward", "once", 0.2, "reindex", 0.0, size_bias=True)
    facts = (
        "some/model",
        "r1",
        "cpu",
        "float32",
        "8bit",
        "er",
        how,
        LAYERS,
        False,
        12.5,
        99,
        60.0,
        7,
    )
    return Calibration(*facts, ("bad.wav",), tuple(made))


@pytest.mark.parametrize(
    ("points", "chosen"),
    [
        ([(0, 0.5, 0.5, 2.0), (1, 0.5, 0.5, 1.0), (2, 0.5, 0.5, 3.0)], 1),
        ([(2, 0.5, 0.5, 1.0), (1, 0.5, 0.5, 1.0)], 1),
        ([(0, 0.5, 0.5, 2.0), (1, 0.5, 0.48, 1.0), (2, 0.5, None, None)], 0),
        ([(0, 0.5, 0.5, 2.0), (0, 0.3, 0.3, 2.0), (1, 0.5, 0.5, 3.5), (1, 0.3, 0.3, 0.1)], 1),
        ([(0, 0.5, 0.5, 2.0), (0, 0.3, 0.3, 2.0), (1, 0.5, 0.4, 0.0), (1, 0.3, 0.3, 0.0)], 0),
        ([(0, 0.5, 0.5, 2.0), (0, 0.3, 0.3, 2.0), (1, 0.5, 0.5, 4.5), (1, 0.3, 0.3, 0.1)], 0),
        ([(0, 0.5, 0.4, 2.0)], None),
    ],
)
def test_the_layer_of_least_mean_that_reaches_every_level(points: Any, chosen: Any) -> None:
    assert some(*points).chosen == chosen


def test_a_preset_is_what_the_loader_reads(tmp_path: Path) -> None:
    found = some((3, 0.3, 0.3, 0.25), (3, 0.5, 0.5, 1.5), (5, 0.3, 0.2, 9.0), (5, 0.5, None, None))
    path = tmp_path / "mine.yaml"
    path.write_text(preset(found, "mine: 'own'", "fastadasp calibrate 'a\nname: b\x07.wav'"))
    read = presets.load(str(path))
    assert (read.name, read.tasks) == ("mine: 'own'", ("er",))
    assert (read.method, read.schedule, read.reduce) == ("ward", "once", 0.5)
    assert (read.positions, read.size_bias, read.start) == ("reindex", True, 0.5)
    asked = resolve(task="er", preset=str(path))
    assert asked.reduction.first_layer(LAYERS) == 3
    comment = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert comment[0] == r"# fastadasp calibrate 'a\nname: b\x07.wav'"
    assert (
        "some/model (r1), 6 decoder layers, float32, 8bit weights; 7 recordings, 1 failed"
        in comment[1]
    )
    assert "layer 3 at 30%: 0.2500 (chosen)" in comment[4]
    assert "layer 5 at 30%: 9.0000, but only 20.0% were cut" in comment[6]
    assert "layer 5 at 50%: out of reach, 90.0% at most" in comment[7]


@pytest.mark.parametrize("layers", [1, 6, 7, 28, 32, 61])
def test_a_presets_start_is_the_layer_for_any_depth(layers: int) -> None:
    for layer in range(layers):
        found = replace(some((layer, 0.5, 0.5, 1.0)), layers=layers)
        start = found.start
        assert start is not None
        how = ReductionConfig("fastadasp", "once", 0.5, "keep", start)
        assert how.first_layer(layers) == layer


def test_a_preset_drives_a_run(lm: SpeechLM, folder: Path, talks: Path, tmp_path: Path) -> None:
    found = calibrate(Search((LEVEL,), (1, 2)), config(), found_in(talks), lm)
    path = tmp_path / "tiny.yaml"
    path.write_text(preset(found, "tiny", "fastadasp calibrate"))
    asked = resolve(preset=str(path), model=str(folder), device="cpu", max_new_tokens=2)
    sink = MemorySink()
    run(replace(asked, segment="fixed"), found_in(talks), sink)
    assert sink.records
    for record in sink.records.values():
        # random weights never end an answer, so nothing counts as covered
        assert (record.preset, record.coverage) == ("tiny", 0.0)
        assert (record.schedule, record.start_layer) == ("once", found.chosen)
        assert record.flops.reduction == pytest.approx(LEVEL, abs=0.02)
