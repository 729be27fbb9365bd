from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import presets
from core.errors import StartError
from core.stages import Rooms
from fastadasp_cli import doctor
from tests.fakes import FakeCut


def test_presets_are_listed(cli: Any) -> None:
    result = cli("presets")
    assert result.exit_code == 0
    for name in presets.names():
        assert name in result.stdout
    data = json.loads(cli("presets", "--json").stdout)
    assert data["asr-safe"]["reduce"] == 0.2
    assert data["er-aggressive"]["reason"]


def test_a_preset_is_shown_as_it_is_written(cli: Any) -> None:
    assert cli("presets", "show", "asr-safe").stdout == presets.read("asr-safe")


def test_a_table_is_not_cut_in_a_pipe(cli: Any) -> None:
    longest = max(presets.load(name).description for name in presets.names())
    assert longest in cli("presets").stdout


def test_models(cli: Any) -> None:
    assert "embedded" in cli("models").stdout
    assert json.loads(cli("models", "--json").stdout)[0]["model"] == "embedded"


def test_version_and_help(cli: Any) -> None:
    assert cli("--version").stdout.startswith("fastadasp ")
    names = (
        "run",
        "profile",
        "eval",
        "bench",
        "calibrate",
        "presets",
        "models",
        "convert",
        "doctor",
    )
    for name in names:
        assert name in cli("--help").stdout
        assert cli(name, "--help").exit_code == 0


@dataclass
class Row:
    reduce: float
    num_beams: int
    reduction: float = 0.3
    kv_reduction: float = 0.25
    rtf: float = 0.5
    encode_s: float = 1.0
    prefill_s: float = 2.0
    decode_s: float = 3.0
    tokens_per_s: float = 4.0
    audio_in: int = 100
    audio_kept: int = 50
    kv_bytes: int = 2_000_000
    peak_bytes: int = 3_000_000
    first_token_s: float = 3.0
    prefill_ratio: float = 0.5
    rtf_ratio: float = 0.5
    decode_speedup: float = 2.0
    kv_smaller: float = 2.0
    of_flops: float = 0.5
    of_bandwidth: float | None = None
    same_text: bool = True

    def to_json(self) -> dict[str, Any]:
        return vars(self)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A recording, and the calls of the function that measures."""
    calls: list[Any] = []
    heard: list[Any] = []
    lm = SimpleNamespace(
        facts=SimpleNamespace(sample_rate=10), revision=None, device="cpu", dtype="torch.float32"
    )

    def measure(lm: Any, segments: Any, config: Any, levels: Any, beams: Any) -> list[Row]:
        calls.append((len(segments), config, list(levels), list(beams)))
        heard.extend(segments)
        return [Row(level, width) for width in beams for level in levels]

    module = SimpleNamespace(profile=measure)
    monkeypatch.setitem(sys.modules, "core.studies.profile", module)
    monkeypatch.setattr(Rooms, "load", lambda self, config: lm)
    monkeypatch.setattr(Rooms, "reader", lambda self, config, facts: FakeCut)
    (tmp_path / "a.wav").write_text("one\ntwo")
    return SimpleNamespace(file=tmp_path / "a.wav", calls=calls, heard=heard)


def test_profile_is_a_table_or_an_object(cli: Any, measured: Any) -> None:
    result = cli("profile", measured.file, "--reduce", "0,0.3", "--num-beams", "1,5")
    assert result.exit_code == 0
    assert "prefill s" in result.stdout
    assert result.stdout.count("30.0%") == 6
    [(segments, config, levels, beams)] = measured.calls
    assert (segments, levels, beams) == (2, [0, 0.3], [1, 5])
    assert config.reduction.method == "fastadasp"
    data = json.loads(cli("profile", measured.file, "--json").stdout)
    assert (data["device"], data["audio_s"], len(data["rows"])) == ("cpu", 4.0, 6)


def test_profile_shows_the_cut_that_a_method_is_about(cli: Any, measured: Any) -> None:
    tokens = cli("profile", measured.file, "--reduce", "0,0.3").stdout
    assert "KV cut" not in tokens and "25.0%" not in tokens
    cache = cli("profile", measured.file, "--reduce", "0,0.3", "--method", "h2o").stdout
    assert "KV cut" in cache
    assert (cache.count("25.0%"), cache.count("30.0%")) == (2, 1)
    refused = cli("profile", measured.file, "--method", "h2o", "--schedule", "once")
    assert refused.exit_code == 2
    assert "leave out --schedule" in refused.stderr


def test_profile_of_the_preset_none_has_a_method_for_its_levels(cli: Any, measured: Any) -> None:
    cli("profile", measured.file, "--preset", "none", "--reduce", "0.3,0")
    assert measured.calls[0][1].reduction.method == "fastadasp"


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (("--reduce", "0,lots"), "numbers with commas"),
        (("--reduce", "0,3"), "0 to 0.9"),
        (("--num-beams", "0"), "above 0"),
        (("--seconds", "0.5"), "at least 1 second"),
        (("--seconds", "long"), "numbers with commas"),
        (("--seconds", "30", "--segment", "vad"), "leave out --segment vad"),
    ],
)
def test_profile_refuses(cli: Any, measured: Any, words: tuple[str, ...], way_out: str) -> None:
    result = cli("profile", measured.file, *words)
    assert result.exit_code == 2
    assert way_out in result.stderr
    assert measured.calls == []


def test_profile_makes_one_prompt_of_each_length(
    cli: Any, measured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = np.arange(20, dtype=np.float32)
    monkeypatch.setattr("core.media.apart.decode_apart", lambda path, rate, *_: iter([sound]))
    words = ("profile", measured.file, "--reduce", "0,0.3", "--seconds", "1,12")
    assert "audio s" in cli(*words).stdout
    assert [config.segment for _, config, _, _ in measured.calls] == ["whole", "whole"]
    assert [len(one.samples) for one in measured.heard] == [10, 120]
    assert measured.heard[1].samples.tolist() == [*range(20)] * 6
    rows = json.loads(cli(*words, "--json").stdout)["rows"]
    assert [(row["seconds"], row["reduce"]) for row in rows] == [
        (1, 0),
        (1, 0.3),
        (12, 0),
        (12, 0.3),
    ]
    # without lengths there is no such column
    header = cli("profile", measured.file).stdout.splitlines()[1]
    assert header.startswith("beams")


def test_profile_takes_one_recording_with_sound(cli: Any, measured: Any) -> None:
    (measured.file.parent / "b.wav").write_text("")
    assert cli("profile", measured.file.parent).exit_code == 2
    silent = cli("profile", measured.file.parent / "b.wav")
    assert (silent.exit_code, silent.stdout) == (1, "")
    (measured.file.parent / "b.wav").write_text("!media damaged")
    assert cli("profile", measured.file.parent / "b.wav").stderr == "error: damaged\n"


def findings(result: Any) -> dict[str, dict[str, str]]:
    return {finding["what"]: finding for finding in json.loads(result.stdout)}


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_import_error", lambda *_: None)
    monkeypatch.setattr(doctor, "_version", lambda name: "1.0")
    monkeypatch.setattr(doctor, "_model", lambda: iter(()))
    checks = (doctor._versions, doctor._torchaudio, doctor._transformers, doctor._extras)
    monkeypatch.setattr(doctor, "_CHECKS", checks)


@pytest.mark.usefixtures("healthy")
def test_doctor_is_content(cli: Any) -> None:
    result = cli("doctor", "--json")
    assert result.exit_code == 0
    assert {finding["state"] for finding in findings(result).values()} == {"ok"}
    assert "torchaudio" in cli("doctor").stdout


@pytest.mark.usefixtures("healthy")
def test_doctor_sees_the_torchaudio_trap(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_import_error", lambda *_: "OSError: libcudart.so.13")
    result = cli("doctor", "--json")
    assert result.exit_code == 1
    found = findings(result)
    assert "pip uninstall torchaudio" in found["torchaudio"]["text"]
    assert found["transformers import"]["state"] == "bad"


@pytest.mark.usefixtures("healthy")
def test_doctor_names_what_is_missing(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("av", "jiwer") else "1")
    result = cli("doctor", "--json")
    found = findings(result)
    assert result.exit_code == 1
    assert found["av"]["state"] == "bad"
    assert (found["jiwer"]["state"], "[eval]" in found["jiwer"]["text"]) == ("note", True)


def test_the_trial_import_sees_what_a_broken_library_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brokenaudio.py").write_text("raise OSError('libcudart.so.13: cannot open')\n")
    monkeypatch.chdir(tmp_path)  # where nothing is looked for
    assert "No module named" in str(doctor._import_error("brokenaudio"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert doctor._import_error("brokenaudio") == "OSError: libcudart.so.13: cannot open"
    assert doctor._import_error("json", "loads") is None


def test_errors_of_starting_are_not_usage_errors() -> None:
    assert StartError.exit_code == 3


BENCH = ("bench", "--shape", "tiny", "--seconds", "3", "--tokens", "4", "--rounds", "1")


def test_bench_measures_and_prints_a_document(cli: Any) -> None:
    result = cli(*BENCH, "--no-memory", "--num-beams", "1,2", "--reduce", "0,0.3", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["left_out"] == []
    sides = [(row["beams"], row["side"], row["asked"]) for row in found["rows"]]
    assert sides == [
        (beams, side, asked)
        for beams in (1, 2)
        for side, asked in (
            ("transformers", 0),
            ("static", 0),
            ("fastadasp", 0),
            ("published", 0.3),
            ("fastadasp", 0.3),
        )
    ]
    assert found["limits"]["flops"] > 0
    assert {row["same_ids"] for row in found["rows"] if not row["asked"]} == {True}


def test_bench_prints_a_table(cli: Any) -> None:
    result = cli(*BENCH, "--no-memory", "--num-beams", "1", "--reduce", "0", "--against", "none")
    assert result.exit_code == 0, result.stderr
    title, head, *rows = result.stdout.splitlines()
    assert "GFLOP/s" in title
    assert "of bandwidth" in head
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--shape", "huge"), "qwen2-audio-7b"),
        (("--against", "magic"), "published"),
        (("--reduce", "1"), "below 1"),
        (("--num-beams", "0"), "above 0"),
        (("--seconds", "x"), "numbers"),
        (("--method", "magic"), "unknown method"),
    ],
)
def test_bench_refuses_what_cannot_be(cli: Any, flags: tuple[str, ...], said: str) -> None:
    result = cli(*BENCH, *flags)
    assert result.exit_code == 2
    assert said in result.stderr
