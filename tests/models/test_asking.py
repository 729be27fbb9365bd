"""What the families say of themselves, and the words they ask with."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from core.errors import UsageError
from core.models import list_models
from core.models.base import Request, SpeechLM
from core.models.facts import EVERY_TASK, LANGUAGES
from core.models.load import _family, families
from fastadasp_cli.main import app
from tests.engine.made import CARD
from tests.folders import save_tiny
from tests.models.zoo import FAMILIES

OFFICE = Path(__file__).parents[2] / "examples" / "audio" / "office.wav"


def unloaded(name: str) -> SpeechLM:
    """A family without a checkpoint: enough to be asked for words."""
    processor: Any = SimpleNamespace(
        feature_extractor=SimpleNamespace(
            sampling_rate=16_000, n_samples=480_000, chunk_length=30, hop_length=160
        ),
        audio_processor=SimpleNamespace(sampling_rate=16_000),
    )
    lm: SpeechLM = _family(name)(name, None, None, processor, {})
    return lm


def test_every_family_has_a_tiny_checkpoint() -> None:
    assert {tiny.name for tiny in FAMILIES} | {"qwen2_audio"} == set(families())


@pytest.mark.parametrize("name", families())
def test_a_family_has_words_for_its_tasks(name: str) -> None:
    lm = unloaded(name)
    facts = lm.facts
    assert set(facts.tasks) <= set(EVERY_TASK)
    assert "asr" in facts.tasks
    assert facts.tokens_per_second > 0
    for task in set(facts.tasks) - {"asr"}:
        words = lm.instruction(Request(task, "en", "de", "who speaks?"))
        expected = {"st": "German", "sqa": "who speaks?", "chat": "who speaks?"}.get(task, "")
        assert words
        assert expected in words
    assert lm.instruction(Request("asr", prompt="my own")) == "my own"
    for code in (*(facts.source_languages or ()), *(facts.target_languages or ())):
        assert code in LANGUAGES


@pytest.mark.parametrize(
    ("name", "request_", "message"),
    [
        ("glmasr", Request("er"), "lacks the task 'er'; it has asr"),
        ("qwen3_asr", Request("st", "en", "de"), "lacks the task 'st'; it has asr"),
        ("voxtral", Request("st", "en", "zh"), "lacks the target language 'zh'; it has en, es"),
        ("phi4_multimodal", Request("st", "de", "fr"), "from and into English only, .*--lang en"),
    ],
)
def test_what_a_family_cannot_do_is_refused(name: str, request_: Request, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        unloaded(name).check(request_)


@pytest.mark.parametrize("pair", [("de", "en"), ("en", "fr"), (None, "ja")])
def test_through_english_is_allowed(pair: tuple[str | None, str]) -> None:
    unloaded("phi4_multimodal").check(Request("st", *pair))


def test_words_follow_the_language() -> None:
    omni = unloaded("qwen2_5_omni")
    assert omni.instruction(Request("asr", "fr")) == (
        "Transcribe the French audio into text without including any punctuation marks."
    )
    assert omni.instruction(Request("st", "en", "zh")) == (
        "Listen to the provided English speech and produce a translation in Chinese text."
    )
    assert omni.instruction(Request("asr")).startswith("Transcribe the audio into text")


def test_the_table_names_every_family() -> None:
    rows = list_models()
    assert rows[0].model == "embedded"
    assert "ac" not in rows[0].tasks
    assert {row.family for row in rows} == set(families())
    voxtral = next(row for row in rows if row.family == "voxtral")
    assert voxtral.window == 1800
    assert "pip install mistral-common" in voxtral.note


def models(*words: object) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, words)])


@pytest.mark.parametrize("sound", [(), ("--audio", OFFICE)])
def test_a_checkpoint_is_checked(tmp_path: Path, sound: tuple[object, ...]) -> None:
    folder = save_tiny(tmp_path, CARD)
    result = models("check", folder, "--device", "cpu", "--json", *sound)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["reason"] is None
    assert found["family"] == "qwen2_audio"
    assert found["text"]
    assert found["reduced_text"]
    assert 0.05 < found["cut"] < 0.6
    assert found["audio_tokens"] > 10
