import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest

pytest.importorskip("espeakng_loader")

from recipes.embedded.speech import SAMPLE_RATE, Synthesiser, resample
from recipes.embedded.utterance import Source, concatenate
from recipes.embedded.voices import HELDOUT_VARIANTS, TRAIN_VARIANTS, Voice, draw_voice


@pytest.fixture(scope="module")
def synthesiser() -> Synthesiser:
    return Synthesiser()


def source(synthesiser: Synthesiser, seed: int) -> Source:
    return Source("train", Random(seed), np.random.default_rng(seed), synthesiser, None)


def test_words_are_aligned_in_order(synthesiser: Synthesiser) -> None:
    speech = synthesiser.say("anna bought three red apples", Voice("gmw/en-US+m3"))
    words = [word for _, _, word in speech.phones if word >= 0]
    assert words == sorted(words)
    assert set(words) == set(range(5))
    starts = [start for start, _, _ in speech.phones]
    assert starts == sorted(starts)
    assert speech.seconds == pytest.approx(starts[-1], abs=0.4)


def test_speed_shortens_sound_and_alignment_alike(synthesiser: Synthesiser) -> None:
    slow = synthesiser.say("the red lamp", Voice("gmw/en+f2"))
    fast = synthesiser.say("the red lamp", Voice("gmw/en+f2", speed=1.25))
    assert fast.seconds == pytest.approx(slow.seconds / 1.25, rel=0.02)
    assert fast.phones[-2][0] == pytest.approx(slow.phones[-2][0] / 1.25, rel=0.02)


def test_same_seed_same_utterance(synthesiser: Synthesiser) -> None:
    first, again = (source(synthesiser, 5).draw("two") for _ in range(2))
    assert (first.text, first.speaker) == (again.text, again.speaker)
    assert first.speech.seconds == pytest.approx(again.speech.seconds, abs=0.05)
    assert [name for _, name, _ in first.speech.phones] == [n for _, n, _ in again.speech.phones]


def test_same_seed_same_set_in_fresh_processes(tmp_path: Path) -> None:
    """Texts, voices and lengths repeat; espeak draws some voices' breath noise anew."""
    for name in ("a", "b"):
        command = [sys.executable, "-m", "recipes.embedded.heldout", "--out", tmp_path / name]
        subprocess.run([*command, "--speech-size", "3"], check=True, capture_output=True)
    files = sorted((tmp_path / "a" / "speech").iterdir())
    assert len(files) == 4
    for file in files:
        again = tmp_path / "b" / "speech" / file.name
        assert file.stat().st_size == again.stat().st_size
    manifest = Path("speech", "manifest.jsonl")
    assert (tmp_path / "a" / manifest).read_text() == (tmp_path / "b" / manifest).read_text()


def test_other_seed_other_utterance(synthesiser: Synthesiser) -> None:
    assert source(synthesiser, 5).draw("one").text != source(synthesiser, 6).draw("one").text


def test_every_word_of_an_utterance_is_aligned(synthesiser: Synthesiser) -> None:
    utterance = source(synthesiser, 8).draw("three")
    last = max(word for _, _, word in utterance.speech.phones)
    assert last == len(utterance.text.split()) - 1


def test_isolated_digits_are_aligned_one_by_one(synthesiser: Synthesiser) -> None:
    utterance = source(synthesiser, 9).draw("isolated")
    order = [word for _, _, word in utterance.speech.phones if word >= 0]
    assert order == sorted(order)
    assert set(order) == set(range(len(utterance.text.split())))
    assert utterance.speech.phones[-1][0] <= utterance.speech.seconds


def test_concatenation_counts_words_on(synthesiser: Synthesiser) -> None:
    part = synthesiser.say("two dogs", Voice("gmw/en"))
    both = concatenate(part, part)
    assert {word for _, _, word in both.phones} == {-1, 0, 1, 2, 3}
    assert both.seconds == pytest.approx(2 * part.seconds)


def test_held_out_voices_are_never_drawn_for_training() -> None:
    assert not set(TRAIN_VARIANTS) & set(HELDOUT_VARIANTS)
    rng = np.random.default_rng(0)
    drawn = {draw_voice(rng, "train").name.partition("+")[2] for _ in range(500)}
    assert not drawn & set(HELDOUT_VARIANTS)


def test_unknown_voice_is_named(synthesiser: Synthesiser) -> None:
    with pytest.raises(ValueError, match="no-such-voice"):
        synthesiser.say("two dogs", Voice("no-such-voice"))


def test_resample_keeps_a_tone() -> None:
    time = np.arange(22_050) / 22_050
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    out, ratio = resample(tone, SAMPLE_RATE / 22_050)
    peak = np.abs(np.fft.rfft(out)).argmax() * SAMPLE_RATE / len(out)
    assert peak == pytest.approx(440, abs=2)
    assert ratio == pytest.approx(SAMPLE_RATE / 22_050, rel=2e-3)
