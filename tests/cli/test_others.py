from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
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
    rows = json.loads(cli("models", "--json").stdout)
    assert (rows[0]["model"], rows[0]["tested"]) == ("embedded", "its own weights")
    assert {row["tested"] for row in rows[1:]} == {"tiny random weights"}


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
    peak_bytes: int | None = None
    first_token_s: float = 3.0
    prefill_ratio: float = 0.5
    rtf_ratio: float = 0.5
    decode_speedup: float = 2.0
    kv_smaller: float = 2.0
    of_flops: float = 0.5
    of_bandwidth: float | None = None
    same_text: bool = True
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        return vars(self)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A recording, and the calls of the function that measures."""
    calls: list[Any] = []
    heard: list[Any] = []
    seen: list[str] = []
    lm = SimpleNamespace(
        facts=SimpleNamespace(sample_rate=10), revision=None, device="cpu", dtype="torch.float32"
    )

    def measure(lm: Any, segments: Any, config: Any, asked: Any, *, progress: Any) -> Iterator[Row]:
        calls.append((len(segments), config, list(asked)))
        heard.extend(segments)
        for number, (width, level) in enumerate(asked):
            progress(f"run {number}", number / len(asked))
            seen.append(sys.stdout.buffer.getvalue().decode())  # type: ignore[attr-defined]
            yield Row(level, width, note="odd" if level == 0.3 else None)

    module = SimpleNamespace(profile=measure)
    monkeypatch.setitem(sys.modules, "core.studies.profile", module)
    monkeypatch.setattr(Rooms, "load", lambda self, config: lm)
    monkeypatch.setattr(Rooms, "reader", lambda self, config, facts: FakeCut)
    (tmp_path / "a.wav").write_text("one\ntwo")
    return SimpleNamespace(file=tmp_path / "a.wav", calls=calls, heard=heard, seen=seen)


def test_profile_is_a_table_or_an_object(cli: Any, measured: Any) -> None:
    result = cli("profile", measured.file, "--reduce", "0,0.3", "--num-beams", "1,5")
    assert result.exit_code == 0
    assert "prefill s" in result.stdout
    assert result.stdout.count("30.0%") == 6
    [(segments, config, asked)] = measured.calls
    assert (segments, asked) == (2, [(1, 0), (1, 0.3), (5, 0), (5, 0.3)])
    assert config.reduction.method == "fastadasp"
    data = json.loads(cli("profile", measured.file, "--json").stdout)
    assert (data["device"], data["audio_s"], len(data["rows"])) == ("cpu", 4.0, 6)
    assert data["quantize"] is None
    assert "quantize 8bit" in cli("profile", measured.file, "--quantize", "8bit").stdout


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
    assert [config.segment for _, config, _ in measured.calls] == ["whole", "whole"]
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
    told = cli("profile", measured.file.parent / "b.wav").stderr
    assert told == "loading embedded\nerror: damaged\n"


PROFILE = ("--reduce", "0,0.3", "--num-beams", "1,5")


def test_profile_shows_each_row_as_it_is_measured(cli: Any, measured: Any) -> None:
    result = cli("profile", measured.file, *PROFILE)
    title, head, *rows = result.stdout.splitlines()
    assert title.startswith(f"file {measured.file}")
    assert head.split()[:2] == ["beams", "cut"]
    assert rows[4:] == ["4 s, 1 beam, 30%: odd", "4 s, 5 beams, 30%: odd"]
    ends = [row.split()[-3:] for row in rows[:4]]
    assert ends == [["2.00", "-", "yes"]] * 4  # the peak is not known
    shown = ["\n".join([title, head, *rows[:number], ""]) for number in range(4)]
    assert measured.seen == shown
    loading, *lines = result.stderr.splitlines()
    assert loading == "loading embedded"
    assert lines == [
        f"{number} of 4: 4 s, {beams}, {cut}:"
        f" prefill 2.000 s, decode 3.000 s, RTF 0.5000{'; odd' * (cut == '30%')}"
        for number, (beams, cut) in enumerate(
            [("1 beam", "0%"), ("1 beam", "30%"), ("5 beams", "0%"), ("5 beams", "30%")], 1
        )
    ]


def test_profile_as_a_document_tells_its_rows_on_stderr_only(cli: Any, measured: Any) -> None:
    result = cli("profile", measured.file, *PROFILE, "--json")
    assert measured.seen == [""] * 4
    assert len(result.stdout.splitlines()) == 1
    assert [row["note"] for row in json.loads(result.stdout)["rows"]] == [None, "odd"] * 2
    assert result.stderr.count(" of 4: ") == 4


def test_profile_can_be_quiet(cli: Any, measured: Any) -> None:
    result = cli("profile", measured.file, *PROFILE, "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 8


def test_a_pipe_sees_life_between_rows(
    cli: Any, measured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastadasp_cli.console.PATIENCE", 0.0)
    told = cli("profile", measured.file, *PROFILE, "--json").stderr.splitlines()
    assert told[1::2] == [f"4 s: run {n} ({25 * n}% done)" for n in range(4)]
    assert cli("profile", measured.file, *PROFILE, "-q").stderr == ""


def findings(result: Any) -> dict[str, dict[str, str]]:
    return {finding["what"]: finding for finding in json.loads(result.stdout)}


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_import_error", lambda *_: None)
    monkeypatch.setattr(doctor, "_version", lambda name: "15.2")
    needs = ["av>=15", "transformers<16,>=15.1", 'jiwer>=4; extra == "eval"']
    monkeypatch.setattr(metadata, "requires", lambda name: needs)
    checks = (doctor._versions, doctor._torchaudio, doctor._transformers, doctor._extras)
    monkeypatch.setattr(doctor, "_CHECKS", checks)


@pytest.mark.usefixtures("healthy")
def test_doctor_is_content(cli: Any) -> None:
    result = cli("doctor", "--json")
    assert result.exit_code == 0
    found = findings(result)
    assert {finding["state"] for finding in found.values()} == {"ok"}
    assert {"av", "transformers", "jiwer", "torchaudio"} <= found.keys()


@pytest.mark.usefixtures("healthy")
def test_doctor_holds_versions_against_what_is_asked_for(
    cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "16.0")
    found = findings(result := cli("doctor", "--json"))
    assert result.exit_code == 1
    assert (found["av"]["state"], found["transformers"]["state"]) == ("ok", "bad")
    text = "16.0, but it needs <16,>=15.1: pip install 'transformers<16,>=15.1'"
    assert found["transformers"]["text"] == text


def test_doctor_looks_for_all_that_the_package_needs() -> None:
    looked = {found.what for found in doctor._versions()}
    assert {"soxr", "rich", "typer", "tqdm", "pyyaml", "torch", "transformers"} <= looked
    assert not {"pytest", "ruff", "jiwer"} & looked


def test_doctor_tries_a_reduction(monkeypatch: pytest.MonkeyPatch) -> None:
    [found] = doctor._reduction()
    assert (found.state, "of its prefill FLOPs cut" in found.text) == ("ok", True)
    monkeypatch.setattr("core.engine.checkup.why_not", lambda *_: "no such keyword")
    [found] = doctor._reduction()
    assert (found.state, found.text.endswith("reduced: no such keyword")) == ("bad", True)
    monkeypatch.setattr("core.models.load_model", lambda *_, **__: 1 / 0)
    [found] = doctor._reduction()
    assert (found.state, "division" in found.text) == ("bad", True)


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
    gone = ("av", "jiwer")
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in gone else "15.2")
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
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "json.py").write_text("raise OSError('no library')\n")
    monkeypatch.chdir(tmp_path / "here")
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
    assert rows[0].split()[-2] == "-"  # memory was not looked for
    assert result.stderr.startswith("1 of 1: 3 s, 1 beam, fastadasp: prefill ")
    assert cli(*BENCH, "--reduce", "0", "--num-beams", "1", "--no-memory", "-q").stderr == ""


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
