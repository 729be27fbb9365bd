import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

pytest.importorskip("espeakng_loader")

from recipes.embedded.moods import MOODS, Prosody, draw_prosody
from recipes.embedded.speech import SAMPLE_RATE, Synthesiser, resample
from recipes.embedded.utterance import Kind, Source, concatenate
from recipes.embedded.voices import (
    HELDOUT_VARIANTS,
    TRAIN_VARIANTS,
    Voice,
    draw_other,
    draw_voice,
    waver,
)

PROSODY = Prosody(160, 45, 35, -12)


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
    (first,), (again,) = (source(synthesiser, 5).draw("two") for _ in range(2))
    assert (first.text, first.speaker) == (again.text, again.speaker)
    assert first.speech.seconds == pytest.approx(again.speech.seconds, abs=0.05)
    assert [name for _, name, _ in first.speech.phones] == [n for _, n, _ in again.speech.phones]


def test_same_seed_same_set_in_fresh_processes(tmp_path: Path) -> None:
    """Texts, voices and lengths repeat; espeak draws some voices' breath noise anew."""
    for name in ("a", "b"):
        command = [sys.executable, "-m", "recipes.embedded.heldout", "--out", tmp_path / name]
        subprocess.run([*command, "--size", "4"], check=True, capture_output=True)
    folders = sorted(folder.name for folder in (tmp_path / "a").iterdir())
    assert folders == ["er", "long", "speech", "sqa", "sv"]
    for file in (tmp_path / "a").glob("*/*.wav"):
        again = tmp_path / "b" / file.parent.name / file.name
        assert file.stat().st_size == again.stat().st_size
    for name in folders:
        manifest = Path(name, "manifest.jsonl")
        rows = (tmp_path / "a" / manifest).read_text()
        assert rows == (tmp_path / "b" / manifest).read_text()
        check_set(name, [json.loads(line) for line in rows.splitlines()])


def check_set(name: str, rows: list[dict[str, Any]]) -> None:
    """Every class as often as the others, every question with its answer."""
    assert len(rows) == 4
    if name == "er":
        assert {row["emotion"] for row in rows} == set(MOODS)
    elif name == "sv":
        assert sorted(row["speakers"] for row in rows) == [1, 1, 2, 2]
        assert all(len(set(row["speaker"].split())) == row["speakers"] for row in rows)
    elif name == "sqa":
        assert all(row["question"] and row["answer"] for row in rows)
    elif name == "long":
        assert all(10 <= row["duration"] <= 30 for row in rows)
    else:
        assert all(row["translation"] for row in rows)


def test_other_seed_other_utterance(synthesiser: Synthesiser) -> None:
    one, other = (source(synthesiser, seed).draw_one("one") for seed in (5, 6))
    assert one.text != other.text


def test_every_word_of_an_utterance_is_aligned(synthesiser: Synthesiser) -> None:
    (utterance,) = source(synthesiser, 8).draw("three")
    last = max(word for _, _, word in utterance.speech.phones)
    assert last == len(utterance.text.split()) - 1


def test_isolated_digits_are_aligned_one_by_one(synthesiser: Synthesiser) -> None:
    (utterance,) = source(synthesiser, 9).draw("isolated")
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
    drawn = {draw_voice(rng, "train", PROSODY).variant for _ in range(500)}
    assert not drawn & set(HELDOUT_VARIANTS)


def test_the_same_words_come_in_two_moods(synthesiser: Synthesiser) -> None:
    first, second = source(synthesiser, 3).draw("one")
    assert first.text == second.text
    assert first.mood != second.mood
    assert first.level != second.level


@pytest.mark.parametrize("kind", ["turns", "long"])
def test_the_same_words_come_from_one_speaker_and_from_two(
    synthesiser: Synthesiser, kind: Kind
) -> None:
    drawn = source(synthesiser, 4)
    for _ in range(3):
        one, two = drawn.draw(kind)
        assert (one.speakers, two.speakers) == (1, 2)
        assert len({turn.variant for turn in one.turns}) == 1
        assert len({turn.variant for turn in two.turns}) == 2
        assert one.mood == two.mood
        shared = min(len(one.text), len(two.text))
        assert one.text[:shared] == two.text[:shared]
        assert one.speech.seconds == pytest.approx(two.speech.seconds, rel=0.35)
        assert max(one.speech.seconds, two.speech.seconds) < 30
        assert [turn.start for turn in two.turns] == sorted(turn.start for turn in two.turns)


def test_one_speaker_or_two_last_equally_long(synthesiser: Synthesiser) -> None:
    drawn = source(synthesiser, 6)
    pairs = [drawn.draw("turns") for _ in range(30)]
    one, two = (np.mean([pair[i].speech.seconds for pair in pairs]) for i in (0, 1))
    assert one == pytest.approx(two, rel=0.04)


def test_another_speaker_is_another_family_at_another_pitch() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        voice = draw_voice(rng, "train", PROSODY)
        other = draw_other(rng, "train", voice, "neutral")
        assert other.variant != voice.variant
        assert abs(other.pitch * other.speed - voice.pitch * voice.speed) >= 12
        assert other.rate * other.speed == pytest.approx(voice.rate * voice.speed, abs=1)
        assert other.word_gap == voice.word_gap
        again = waver(rng, voice)
        assert again.variant == voice.variant
        assert abs(again.pitch - voice.pitch) <= 4


def test_a_faster_louder_mood_is_faster(synthesiser: Synthesiser) -> None:
    said = {}
    for mood in ("sad", "angry"):
        rng = np.random.default_rng(1)
        voice = draw_voice(rng, "train", draw_prosody(rng, mood))
        said[mood] = synthesiser.say("the red lamp was in the garden", voice).seconds
    assert said["sad"] > 1.2 * said["angry"]


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
