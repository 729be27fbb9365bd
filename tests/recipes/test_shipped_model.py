"""The committed weights on the committed recordings, by plain transformers."""

from pathlib import Path
from typing import Any

import jiwer
import pytest

from recipes.embedded.evaluate import Decoder, read_manifest

ROOT = Path(__file__).parents[2]


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


def test_it_is_small() -> None:
    size = (ROOT / "core/models/embedded/model.safetensors").stat().st_size
    assert size <= 16_000_000
