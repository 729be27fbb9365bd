from __future__ import annotations

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeStages


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_stdout_is_data_and_stderr_is_talk(cli: Any, talks: Path) -> None:
    result = cli("run", talks)
    assert result.exit_code == 0
    assert [(data["id"], data["pred_text"]) for data in lines(result.stdout)] == [
        ("a.wav", "one two"),
        ("b.wav", "three"),
        ("day2/c.mp3", "four"),
    ]
    assert "on cpu, float32" in result.stderr
    assert "3 ok" in result.stderr


def test_every_key_of_the_contract_is_in_a_line(cli: Any, talks: Path) -> None:
    keys = (
        "schema_version id audio_filepath status error warnings task language target_language "
        "question model model_revision version versions preset overrides method schedule "
        "start_layer positions threshold text pred_text label segments coverage duration time "
        "rtf rtfx rtfx_model latency tokens flops memory device dtype quantize batch_size "
        "num_beams source settings_hash offset"
    )
    (talks / "bad.wav").write_text("!media no")
    found = lines(cli("run", talks).stdout)
    assert [list(data) for data in found] == [keys.split()] * 4


def test_fewer_bits_are_said_and_recorded(cli: Any, talks: Path) -> None:
    result = cli("run", talks, "--quantize", "4bit")
    assert [data["quantize"] for data in lines(result.stdout)] == ["4bit"] * 3
    assert "on cpu, float32, 4bit weights; preset" in result.stderr
    assert [data["quantize"] for data in lines(cli("run", talks).stdout)] == [None] * 3


def test_a_folder_is_filled_and_gone_on_with(cli: Any, talks: Path, stages: FakeStages) -> None:
    out = talks.parent / "out"
    command = ("run", talks, "-o", out, "-f", "jsonl,srt,txt")
    first = cli(*command)
    assert (first.exit_code, first.stdout) == (0, "")
    assert len(lines((out / "results.jsonl").read_text())) == 3
    assert (out / "day2" / "c.srt").read_text().endswith("four\n")
    stages.log.clear()
    second = cli(*command)
    assert (second.exit_code, stages.log) == (0, [])
    assert "3 skipped" in second.stderr
    (talks / "b.wav").write_text("new")
    cli(*command)
    assert stages.log[2:-1] == [[("b.wav", 0)]]
    assert (out / "b.txt").read_text() == "new\n"
    assert len(lines((out / "results.jsonl").read_text())) == 3


def test_with_hash_a_copy_is_known_and_a_hidden_change_is_seen(
    cli: Any, talks: Path, stages: FakeStages
) -> None:
    command = ("run", talks, "-o", talks.parent / "out", "--hash")
    cli(*command)
    found = lines((talks.parent / "out" / "results.jsonl").read_text())
    digest = hashlib.sha256(b"three").hexdigest()
    assert found[1]["source"]["sha256"] == digest
    stages.log.clear()
    before = os.stat(talks / "b.wav")
    (talks / "b.wav").write_text("THREE")
    os.utime(talks / "b.wav", ns=(before.st_atime_ns, before.st_mtime_ns))
    cli(*command[:-1])
    assert stages.log == []  # by size and time it is the same
    os.utime(talks / "a.wav", ns=(5, 5))
    cli(*command)
    assert stages.log[2:-1] == [[("b.wav", 0)]]


def test_other_weights_of_one_name_are_other_settings(
    cli: Any, talks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"one")
    command = ("run", talks, "-o", tmp_path / "out", "-m", model)
    assert [cli(*command).exit_code for _ in range(2)] == [0, 0]
    (model / "model.safetensors").write_bytes(b"other")
    refused = cli(*command)
    assert refused.exit_code == 2
    assert "model_revision" in refused.stderr
    assert "--overwrite" in refused.stderr


def test_a_folder_begun_by_other_versions_is_gone_on_with_and_it_is_said(
    cli: Any, talks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("run", talks, "-o", talks.parent / "out")
    assert "has lines by" not in cli(*command).stderr
    monkeypatch.setattr("core.template.versions", lambda: {"torch": "9.9"})
    assert "has lines by" not in cli(*command).stderr  # nothing joins them
    (talks / "new.wav").write_text("five")
    result = cli(*command)
    assert result.exit_code == 0
    assert f"has lines by torch {version('torch')}, and now it is torch 9.9: " in result.stderr
    (talks / "newer.wav").write_text("six")
    assert "has lines by" not in cli(*command, "-q").stderr


def test_a_name_cannot_command_the_terminal(cli: Any, talks: Path) -> None:
    name = "x\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.wav"
    (talks / name).write_text("!media damaged\x1b[31m")
    result = cli("run", talks)
    assert result.exit_code == 1
    for text in (result.stderr, result.stdout):
        assert not set(text) & set("\x1b\x07\x9b\u202e")
    assert "failed: x\\x1b]0;owned\\x07" in result.stderr
    assert any(data["id"] == name for data in lines(result.stdout))
    assert "\x1b" not in cli("run", "gone\x1b[2J.wav").stderr


def test_other_settings_need_another_folder_or_overwrite(cli: Any, talks: Path) -> None:
    out = talks.parent / "out"
    cli("run", talks, "-o", out)
    refused = cli("run", talks, "-o", out, "--reduce", "0.3")
    assert refused.exit_code == 2
    assert "--overwrite" in refused.stderr
    assert cli("run", talks, "-o", out, "--reduce", "0.3", "--overwrite").exit_code == 0
    found = lines((out / "results.jsonl").read_text())
    assert [data["overrides"] for data in found] == [{"reduce": 0.3}] * 3


@pytest.mark.parametrize("text", ["!media damaged", "one\n!media breaks off", "!engine no memory"])
def test_one_bad_file_is_a_record_and_exit_1(cli: Any, talks: Path, text: str) -> None:
    (talks / "bad.wav").write_text(text)
    result = cli("run", talks, "-q")
    assert result.exit_code == 1
    assert len(lines(result.stdout)) == 4
    assert cli("run", talks).stderr.count("bad.wav: ") == 1
    [told] = result.stderr.splitlines()
    assert "bad.wav: " in told


def test_one_missing_path_among_good_ones_is_exit_1(cli: Any, talks: Path) -> None:
    result = cli("run", talks / "gone.wav", talks / "b.wav")
    assert result.exit_code == 1
    assert [data["status"] for data in lines(result.stdout)] == ["failed", "ok"]


def test_fail_fast(cli: Any, talks: Path) -> None:
    (talks / "a.wav").write_text("!media damaged")
    result = cli("run", talks, "--fail-fast")
    assert result.exit_code == 1
    assert [data["id"] for data in lines(result.stdout)] == ["a.wav"]


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (("run", "TALKS", "--workers", "2"), "go with --engine ray"),
        (("run", "TALKS", "--engine", "ray", "--workers", "0"), "at least 1"),
        (("run", "TALKS", "--engine", "ray", "--gpus-per-worker", "-1"), "not be below 0"),
        (("run", "TALKS", "--engine", "spark"), "local, ray"),
        (("run", "TALKS", "--max-memory", "lots"), "such as 8G"),
        (("run", "TALKS", "--audio-track", "second"), "auto, all or a number"),
        (("run", "TALKS", "--channels", "0"), "mix, best, split or a number"),
        (("run", "TALKS", "--channels", "split", "--audio-track", "all"), "takes one track"),
        (("run", "TALKS", "--quantize", "2bit"), "8bit, 4bit"),
        (("profile", "TALKS", "--quantize", "2bit"), "8bit, 4bit"),
        (("eval", "TALKS", "--quantize", "2bit"), "8bit, 4bit"),
        (("calibrate", "TALKS", "--quantize", "2bit"), "8bit, 4bit"),
        (("run", "gone.wav"), "no such file"),
        (("run", "TALKS", "--task", "st"), "--lang CODE"),
        (("run", "TALKS", "--task", "st", "--language", "de"), "--lang CODE"),
        (("run", "TALKS", "-f", "srt"), "-o DIR"),
        (("run", "TALKS", "--reduce", "30"), "0 to 0.9"),
        (("run", "TALKS", "--reduce", "half"), "--reduce"),
        (("run", "TALKS", "--preset", "asr-saef"), "asr-safe"),
        (("run", "TALKS", "--device", "gpu"), "cuda"),
        (("run", "TALKS", "--batch-size", "0"), "auto"),
        (("run",), "INPUT"),
        (("run", "TALKS", "--nonsense"), "nonsense"),
        (("walk",), "walk"),
        (("presets", "show", "asr-saef"), "asr-safe"),
    ],
)
def test_usage_errors_are_exit_2_with_the_way_out(
    cli: Any, talks: Path, stages: FakeStages, words: tuple[str, ...], way_out: str
) -> None:
    result = cli(*(str(talks) if word == "TALKS" else word for word in words))
    assert result.exit_code == 2
    assert way_out in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert stages.log == []


def test_a_folder_without_audio_is_exit_2(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("hello")
    result = cli("run", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")


def test_what_cannot_start_is_exit_3_in_one_line(cli: Any, talks: Path) -> None:
    result = cli("run", talks, "-m", "absent")
    assert result.exit_code == 3
    loading, error = result.stderr.splitlines()
    assert loading == "loading absent"
    assert error == "error: model 'absent' cannot be loaded: no such model"


@pytest.mark.parametrize("name", ["output-dir", "output_dir"])
def test_underscores_are_dashes(cli: Any, talks: Path, name: str) -> None:
    beams = name.replace("output", "num").replace("dir", "beams")
    cli("run", talks, f"--{name}", talks.parent / "out", f"--{beams}", "3")
    [first, *_] = lines((talks.parent / "out" / "results.jsonl").read_text())
    assert first["num_beams"] == 3


@pytest.mark.parametrize(
    "words",
    [
        ("--output_format", "srt", "--output_dir", "OUT"),
        ("--batch_size", "2", "--max_new_tokens", "9"),
        ("--chunk_length", "9", "--target_lang", "en"),
    ],
)
def test_whispers_spellings(cli: Any, talks: Path, words: tuple[str, ...]) -> None:
    out = str(talks.parent / "out")
    assert cli("run", talks, *(out if word == "OUT" else word for word in words)).exit_code == 0


def test_lang_of_asr_is_said_to_be_the_spoken_one(cli: Any, talks: Path) -> None:
    result = cli("run", talks, "--lang", "de")
    assert "spoken language" in result.stderr
    assert lines(result.stdout)[0]["language"] == "de"
    assert "spoken" not in cli("run", talks, "--lang", "de", "-q").stderr


def test_a_language_that_reaches_no_token_is_said_once(cli: Any, talks: Path) -> None:
    result = cli("run", talks, "--task", "asr,er", "--language", "de")
    told = [line for line in result.stderr.splitlines() if "takes no notice" in line]
    assert told == [
        "embedded takes no notice of --language de: its prompt for er is the same in every language"
    ]
    assert "language_ignored" not in result.stderr
    found = {data["task"]: data["warnings"] for data in lines(result.stdout)}
    assert found == {"asr": ["shared_with:er"], "er": ["language_ignored", "shared_with:asr"]}
    assert "takes no notice" not in cli("run", talks, "--task", "er", "-q", "-l", "de").stderr


def test_paths_on_stdin(cli: Any, talks: Path) -> None:
    paths = f"{talks}/a.wav\n{talks}/b.wav\n"
    assert len(lines(cli("run", "-", input=paths).stdout)) == 2
    nul = paths.replace("\n", "\0")
    assert len(lines(cli("run", "-", "--null", input=nul).stdout)) == 2
    sound = cli("run", "-", input=b"RIFF\x00\x00\x00\x00WAVE")
    assert sound.exit_code == 2
    assert "path" in sound.stderr


def test_offline_is_set_before_the_model_loads(
    cli: Any, talks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []
    real = FakeStages.start

    def start(self: FakeStages, config: Any) -> Any:
        seen.append(os.environ.get("HF_HUB_OFFLINE"))
        return real(self, config)

    monkeypatch.setattr(FakeStages, "start", start)
    os.environ.pop("HF_HUB_OFFLINE", None)
    cli("run", talks)
    cli("run", talks, "--offline")
    assert seen == [None, "1"]


def test_quiet_says_nothing_when_all_is_well(cli: Any, talks: Path) -> None:
    assert cli("run", talks, "--quiet").stderr == ""


def test_warnings_are_told(cli: Any, talks: Path) -> None:
    (talks / "a.wav").write_text("!warn repetition_retried")
    assert "a.wav: repetition_retried" in cli("run", talks).stderr


def test_a_message_is_one_line_even_in_a_narrow_place(cli: Any, talks: Path) -> None:
    (talks / "a.wav").write_text(f"!media {'very ' * 60}damaged [red]")
    told = [line for line in cli("run", talks).stderr.splitlines() if "failed: a.wav" in line]
    assert told[0].endswith("very damaged [red]")


def test_the_engine_ray_gets_all_recordings_and_its_workers(
    cli: Any, talks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core import cluster, pipeline

    asked: list[Any] = []

    def there(where: Any, config: Any, recordings: Any, sink: Any, **more: Any) -> Any:
        asked.append((where, [one.id for one in recordings]))
        return pipeline.run(config, recordings, sink, **more)

    monkeypatch.setattr(cluster, "run", there)
    words = ("--engine", "ray", "--ray-address", "auto", "--workers", "3")
    result = cli("run", "-", *words, input="\n".join(map(str, talks.glob("*.wav"))))
    assert (result.exit_code, len(lines(result.stdout))) == (0, 2)
    [(where, ids)] = asked
    assert (where.address, where.workers, where.gpus) == ("auto", 3, None)
    assert len(ids) == 2
