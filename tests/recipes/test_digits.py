"""Digit strings from a made-up bank, and the command that writes held-out sets."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from recipes.embedded.digits import HELDOUT_SPEAKER, draw_string, load_digits

SPEAKERS = ("fsdd_lucas", HELDOUT_SPEAKER)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = []
    for speaker in SPEAKERS:
        for word, seconds in (("one", 0.3), ("two", 0.4)):
            name = f"{speaker}_{word}.flac"
            tone = np.sin(np.arange(int(16_000 * seconds)) * 0.2).astype(np.float32)
            soundfile.write(tmp_path / name, tone * 0.5, 16_000)
            row = {"path": name, "text": word, "speaker": speaker, "kind": "digit"}
            rows.append(row | {"split": "train"})
    rows.append({"path": "missing.wav", "text": "a book", "speaker": "x", "kind": "read"})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "manifest.jsonl").write_text(lines)
    return tmp_path


def test_the_held_out_speaker_is_held_out_completely(folder: Path) -> None:
    assert set(load_digits(folder, "train")) == {"fsdd_lucas"}
    assert set(load_digits(folder, "heldout")) == {HELDOUT_SPEAKER}


def test_strings_are_aligned_digit_by_digit(folder: Path) -> None:
    bank = load_digits(folder, "train")
    speaker, words, speech = draw_string(bank, np.random.default_rng(0), 5, stretch=0.1)
    assert speaker == "fsdd_lucas"
    assert len(words) == 5
    assert [word for _, _, word in speech.phones] == [0, -1, 1, -1, 2, -1, 3, -1, 4, -1]
    assert speech.phones[-1][0] == pytest.approx(speech.seconds, abs=1e-3)


def test_strings_repeat_with_the_seed(folder: Path) -> None:
    bank = load_digits(folder, "heldout")
    one, two = (draw_string(bank, np.random.default_rng(3), 4, 0.0) for _ in range(2))
    assert one[1] == two[1]
    np.testing.assert_array_equal(one[2].samples, two[2].samples)


def test_a_folder_without_digits_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text("")
    with pytest.raises(ValueError, match="no digit recordings"):
        load_digits(tmp_path, "train")
