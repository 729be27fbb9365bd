"""The committed weights on the committed recordings and on fresh ones, by plain transformers."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import jiwer
import numpy as np
import pytest

pytest.importorskip("espeakng_loader")

from recipes.embedded.evaluate import SCORES, Decoder, read_manifest
from recipes.embedded.heldout import drawn, write_set
from recipes.embedded.speech import Synthesiser
from recipes.embedded.utterance import Source

ROOT = Path(__file__).parents[2]
RECORDINGS = 32
LEAST = {"er": 90.0, "sv": 85.0, "sqa": 80.0}
"""Percent right on a few recordings, below what the model card says of hundreds."""


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(ROOT / "core/models/embedded", batch_size=5)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    short = [row for row in read_manifest(ROOT / "examples/audio") if row["duration"] < 30]
    assert len(short) >= 4
    return short


def test_it_transcribes(decoder: Decoder, rows: list[dict[str, Any]]) -> None:
    assert jiwer.wer([row["text"] for row in rows], decoder(rows, "asr")) < 0.05


def test_it_translates(decoder: Decoder, rows: list[dict[str, Any]]) -> None:
    assert jiwer.wer([row["translation"] for row in rows], decoder(rows, "st")) < 0.1


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """New sentences by new voices for the tasks that have no committed recordings."""
    folder, synthesiser = tmp_path_factory.mktemp("sets"), Synthesiser()
    for number, name in enumerate(LEAST):
        noise = np.random.default_rng((5, number))
        source = Source("heldout", Random(f"shipped/{name}"), noise, synthesiser, None)
        write_set(folder / name, source, drawn(name, source, RECORDINGS), 20.0)
    yield {name: read_manifest(folder / name) for name in LEAST}


@pytest.mark.slow
@pytest.mark.parametrize("task", LEAST)
def test_it_answers(decoder: Decoder, sets: dict[str, list[dict[str, Any]]], task: str) -> None:
    rows = [
        {**row, task: said} for row, said in zip(sets[task], decoder(sets[task], task), strict=True)
    ]
    assert SCORES[task](rows)[f"{task}_accuracy"] >= LEAST[task]


def test_it_is_small() -> None:
    size = (ROOT / "core/models/embedded/model.safetensors").stat().st_size
    assert size <= 16_000_000
