from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from core.errors import MediaError, UsageError
from core.flags import resolve
from core.media import apart, launch
from core.records import Recording
from core.stages import Rooms, Stopwatch, _cutting


def model(positions: int = 0) -> Any:
    """A model whose features of a window are its loudest sample."""
    text = SimpleNamespace(max_position_embeddings=positions)
    return SimpleNamespace(
        facts=facts(),
        features=lambda wave: float(np.abs(wave).max()),
        bounded=False,
        model=SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: text)),
    )


def facts(chunk_seconds: float | None = None) -> Any:
    return SimpleNamespace(
        sample_rate=16_000, max_seconds=30.0, chunk_seconds=chunk_seconds, tokens_per_second=25.0
    )


@pytest.mark.parametrize(
    ("flags", "chunk_seconds", "window", "target"),
    [
        ({}, None, 30, 30),
        ({}, 8.0, 16, 8),
        ({}, 25.0, 30, 25),
        ({"chunk_length": 10.0}, 8.0, 10, 10),
        ({"segment": "fixed"}, None, 30, 30),
        ({"segment": "fixed"}, 8.0, 8, 8),
        ({"segment": "fixed", "chunk_length": 5.0}, 8.0, 5, 5),
        ({"segment": "whole"}, 8.0, 30, 8),
    ],
)
def test_pieces_never_outgrow_the_window(
    flags: dict[str, Any], chunk_seconds: float | None, window: float, target: float
) -> None:
    cutting = _cutting(resolve(**flags), facts(chunk_seconds))
    assert (cutting.window, cutting.target) == (window, target)
    assert cutting.sample_rate == 16_000


def test_a_chunk_beyond_the_window_is_refused() -> None:
    with pytest.raises(UsageError, match="30 s"):
        _cutting(resolve(chunk_length=31.0), facts())


def tone(path: Path, seconds: float) -> Recording:
    wave = 0.3 * np.sin(np.arange(int(8_000 * seconds)) / 5)
    soundfile.write(path, wave, 8_000)
    return Recording(path.name, path)


def test_a_real_file_is_decoded_cut_and_timed(tmp_path: Path) -> None:
    read = Rooms().reader(resolve(segment="fixed", chunk_length=2.0), model())
    cut = read(tone(tmp_path / "a.wav", 5.0), lambda: None)
    pieces = list(cut)
    assert [round(piece.duration, 2) for piece in pieces] == [2.0, 2.0, 1.0]
    assert [piece.index for piece in pieces] == [0, 1, 2]
    assert cut.audio_s == pytest.approx(5.0, abs=0.01)
    assert sum(end for piece in pieces for _, end in piece.speech) == pytest.approx(5.0, abs=0.01)
    assert cut.load_s > 0
    assert cut.segment_s > 0
    assert cut.warnings == ()


def test_the_decoder_is_a_process_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apart.end_all()
    (tmp_path / "start.py").write_text("1 / 0")
    monkeypatch.setattr(launch, "_START", tmp_path / "start.py")
    read = Rooms().reader(resolve(segment="fixed"), model())
    with pytest.raises(MediaError, match=r"crashed the decoder .*ZeroDivisionError"):
        list(read(tone(tmp_path / "a.wav", 1.0), lambda: None))


def test_features_are_made_while_reading(tmp_path: Path) -> None:
    read = Rooms().reader(resolve(segment="fixed", chunk_length=2.0), model())
    pieces = list(read(tone(tmp_path / "a.wav", 5.0), lambda: None))
    assert len(pieces) == 3
    for piece in pieces:
        assert piece.features == (pytest.approx(np.abs(piece.samples).max()),)


@pytest.mark.parametrize(("positions", "longest"), [(2048, 240), (0, 240), (8192, 327)])
def test_a_whole_recording_may_fill_the_context(
    tmp_path: Path, positions: int, longest: int
) -> None:
    read = Rooms().reader(resolve(segment="whole"), model(positions))
    (piece,) = read(tone(tmp_path / "a.wav", longest - 1.0), lambda: None)
    assert piece.duration == pytest.approx(longest - 1, abs=0.01)
    # a window each of the encoder
    assert len(piece.features) == -(-(longest - 1) // 30)
    with pytest.raises(MediaError, match=f"longer than the {longest}"):
        list(read(tone(tmp_path / "b.wav", longest + 2.0), lambda: None))


def test_a_file_that_breaks_off_gives_what_it_has(tmp_path: Path) -> None:
    recording = tone(tmp_path / "a.wav", 5.0)
    data = recording.path.read_bytes()
    recording.path.write_bytes(data[: len(data) // 2])
    cut = Rooms().reader(resolve(segment="fixed", chunk_length=2.0), model())(
        recording, lambda: None
    )
    found = []
    with pytest.raises(MediaError, match="breaks off"):
        found.extend(cut)
    assert [round(piece.duration, 1) for piece in found] == [2.0, 0.5]
    assert cut.audio_s == pytest.approx(2.5, abs=0.05)


def test_reading_can_be_called_off_where_there_is_nothing_to_hear(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8_000 * 60), 8_000)
    blocks = 0

    def check() -> None:
        nonlocal blocks
        blocks += 1
        if blocks == 2:
            raise KeyError("called off")

    read = Rooms().reader(resolve(segment="fixed"), model())
    with pytest.raises(KeyError, match="called off"):
        list(read(Recording("a.wav", tmp_path / "a.wav"), check))


def test_a_wrong_method_ends_before_the_model_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.models.load_model", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(UsageError, match="fastadasp"):
        Rooms().load(resolve(method="fastadsap"))


def test_the_model_is_loaded_as_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(model: str, **how: object) -> object:
        return model, how

    monkeypatch.setattr("core.models.load_model", loaded)
    asked = resolve(model="m", device="split", dtype="bf16", quantize="4bit", offline=True)
    found: object = Rooms().load(asked)
    assert found == (
        "m",
        {
            "device": "split",
            "dtype": "bfloat16",
            "offline": True,
            "revision": None,
            "quantize": "4bit",
        },
    )


def test_the_stopwatch_counts_the_inside_only() -> None:
    def slow() -> Iterator[int]:
        time.sleep(0.05)
        yield 1

    watch = Stopwatch()
    begun = time.perf_counter()
    for _ in watch.timed(slow()):
        time.sleep(0.2)
    assert 0.05 <= watch.seconds <= time.perf_counter() - begun - 0.2
