from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.config import ReductionConfig, RunConfig
from core.errors import UsageError
from core.flags import no_question, notices, resolve, resolve_output, resolve_tasks

ST = {"task": "st", "lang": "de"}


@pytest.mark.parametrize(
    ("flags", "preset", "reduce"),
    [
        ({}, "asr-safe", 0.2),
        (ST, "st-safe", 0.2),
        ({"task": "er"}, "er-aggressive", 0.5),
        ({"task": "sv"}, "er-aggressive", 0.5),
        ({"task": "sqa", "question": "who?"}, "sqa-safe", 0.3),
        ({"task": "ac"}, "er-aggressive", 0.5),
        ({"task": "chat", "prompt": "hello"}, "sqa-safe", 0.3),
        ({"preset": "none"}, "none", 0.0),
    ],
)
def test_a_task_has_its_preset(flags: dict[str, Any], preset: str, reduce: float) -> None:
    config = resolve(**flags)
    assert (config.preset, config.reduction.reduce, config.overrides) == (preset, reduce, {})


def test_aliases_of_tasks() -> None:
    assert resolve(task="transcribe").task == "asr"
    assert resolve(task="translate", lang="de").task == "st"


def test_flags_lie_on_top_of_the_preset_and_are_remembered() -> None:
    config = resolve(reduce=0.3, schedule="decay", start_layer=4, positions="reindex")
    assert config.preset == "asr-safe"
    assert config.reduction == ReductionConfig(
        "fastadasp", "decay", 0.3, "reindex", start_fraction=0.0, start_layer=4
    )
    assert config.overrides == {
        "reduce": 0.3,
        "schedule": "decay",
        "start_layer": 4,
        "positions": "reindex",
    }


def test_none_with_a_level_takes_the_tasks_method() -> None:
    config = resolve(preset="none", reduce=0.3, task="er")
    er = resolve(task="er").reduction
    assert config.preset == "none"
    assert config.reduction == replace(er, reduce=0.3)


def test_none_stays_none_at_level_zero() -> None:
    assert resolve(preset="none", reduce=0).reduction.method == "none"
    assert resolve(method="none", reduce=0).reduction.reduce == 0


def test_what_reduces_nothing_has_no_target() -> None:
    """The preset's own level, 20 %, is not what happens."""
    assert resolve(method="none").reduction.reduce == 0


def test_a_method_that_cuts_the_cache_has_no_place_in_the_prompt() -> None:
    config = resolve(method="h2o", reduce=0.4)
    how = config.reduction
    assert (how.method, how.reduce, how.cuts_cache) == ("h2o", 0.4, True)
    assert (how.schedule, how.start_layer, how.positions, how.size_bias) == (None,) * 4
    # whatever preset the rest came from
    other = resolve(method="h2o", reduce=0.4, preset="er-aggressive")
    assert other.settings_hash == config.settings_hash != resolve(reduce=0.4).settings_hash
    assert not resolve(reduce=0.4).reduction.cuts_cache


def test_a_threshold_takes_the_place_of_a_level() -> None:
    config = resolve(method="affinity", threshold=0.8)
    how = config.reduction
    assert (how.threshold, how.reduce, how.schedule) == (0.8, 0.0, "input")
    assert how.cuts_prompt
    deep = resolve(method="affinity", threshold=0.8, schedule="once", start_layer=5).reduction
    assert (deep.schedule, deep.start_layer) == ("once", 5)
    other = resolve(method="affinity", threshold=0.7)
    assert config.settings_hash != other.settings_hash


def test_the_models_exceptions_are_applied() -> None:
    assert resolve(model="embedded").reduction.start_fraction == 0
    assert resolve(model="Qwen/Qwen2-Audio-7B-Instruct").reduction.start_fraction == 0.0625


@pytest.mark.parametrize(
    ("fraction", "layer", "n_layers", "first"),
    [
        (0.0625, None, 32, 2),
        (0.0625, None, 28, 2),
        (0.094, None, 32, 3),
        (0.0, None, 8, 0),
        (1.0, None, 8, 7),
    ],
)
def test_first_layer(fraction: float, layer: int | None, n_layers: int, first: int) -> None:
    config = ReductionConfig("m", "once", 0.1, "keep", fraction, layer)
    assert config.first_layer(n_layers) == first


def test_start_layer_wins_and_must_exist() -> None:
    config = ReductionConfig("m", "once", 0.1, "keep", 0.5, start_layer=7)
    assert config.first_layer(8) == 7
    with pytest.raises(UsageError, match="layers 0 to 6"):
        config.first_layer(7)


@pytest.mark.parametrize(
    ("flags", "way_out"),
    [
        ({"task": "st"}, "--lang CODE"),
        ({"task": "st", "language": "de"}, r"--lang CODE \(--language de is the spoken one\)"),
        ({"task": "asd"}, "choose one of asr, st"),
        ({"task": "er", "lang": "de"}, "--language"),
        ({"lang": "de", "language": "en"}, "differ"),
        ({"question": "who?"}, "--task sqa"),
        ({"reduce": 0.95}, "0 to 0.9"),
        ({"reduce": -0.1}, "0 to 0.9"),
        ({"reduce": float("nan")}, "0 to 0.9"),
        ({"reduce": 30}, "0 to 0.9"),
        ({"preset": "asr-saef"}, "choose one of none, asr-aggressive, asr-safe"),
        ({"schedule": "wonce"}, "once, constant, decay, input"),
        ({"positions": "kept"}, "reindex, keep"),
        ({"start_layer": -1}, "counted from 0"),
        ({"threshold": 0.8}, "--threshold is not for fastadasp: say --method affinity"),
        ({"method": "h2o", "threshold": 0.8}, "is not for h2o"),
        ({"method": "affinity", "threshold": 0.8, "reduce": 0.2}, "so does --reduce"),
        ({"method": "affinity", "threshold": 1.2}, "a cosine, from -1 to 1"),
        ({"method": "affinity", "threshold": float("nan")}, "a cosine, from -1 to 1"),
        ({"method": "affinity", "threshold": 0.8, "schedule": "decay"}, "use input or once"),
        ({"method": "h2o", "reduce": 0.95}, "share of KV bytes to cut goes from 0 to 0.9"),
        ({"method": "h2o", "schedule": "once"}, "leaves the prompt as it is: leave out --schedule"),
        (
            {"method": "streaming-llm", "start_layer": 0, "positions": "keep", "size_bias": False},
            "leave out --start-layer, --positions, --size-bias",
        ),
        ({"method": "none", "reduce": 0.3}, "none reduces nothing: leave out --reduce, or name a"),
        (
            {"method": "none", "schedule": "once", "start_layer": 2},
            "out --schedule, --start-layer,",
        ),
        ({"schedule": "input", "start_layer": 2}, "input begins at no layer; leave it out, or use"),
        ({"schedule": "2-0-1", "start_layer": 2}, "2-0-1 begins at no layer"),
        ({"preset": "asr-aggressive", "start_layer": 2}, "input begins at no layer"),
        ({"method": "affinity", "threshold": 0.8, "start_layer": 2}, "input begins at no layer"),
        ({"device": "gpu"}, "auto, cpu, cuda"),
        ({"dtype": "int8"}, "float32"),
        ({"batch_size": 0}, "auto or a number"),
        ({"batch_size": "many"}, "auto or a number"),
        ({"num_beams": 0}, "above 0"),
        ({"max_new_tokens": -1}, "above 0"),
        ({"chunk_length": 0.5}, "at least 1 second"),
        ({"segment": "words"}, "vad, fixed, whole"),
        ({"segment": "whole", "chunk_length": 20.0}, "leave out --chunk-length"),
        ({"quantize": "2bit"}, "8bit, 4bit"),
        ({"audio_track": "first"}, "auto, all or a number from 1 up"),
        ({"audio_track": 0}, "auto, all or a number from 1 up"),
        ({"channels": "left"}, "mix, best, split or a number from 1 up"),
        ({"channels": "-1"}, "mix, best, split or a number from 1 up"),
        ({"channels": "split", "audio_track": "all"}, "leave out --audio-track all"),
        ({"max_memory": "much"}, "such as 8G"),
        ({"max_memory": "0G"}, "such as 8G"),
        ({"redcue": 0.3}, "settings are task"),
    ],
)
def test_confusions_are_refused_with_the_way_out(flags: dict[str, Any], way_out: str) -> None:
    with pytest.raises(UsageError, match=way_out) as error:
        resolve(**flags)
    assert "\n" not in str(error.value)


def test_the_spoken_language() -> None:
    assert resolve(lang="DE").language == "de"
    assert resolve(language="auto").language is None
    assert resolve(**ST, language="en").language == "en"
    assert resolve(**ST).target_language == "de"
    assert resolve(lang="de", language="de").target_language is None


def test_only_speech_tasks_leave_out_what_is_no_speech() -> None:
    assert (resolve().segment, resolve(**ST).segment) == ("vad", "vad")
    assert resolve(task="ac").segment == "fixed"
    assert resolve(task="ac", segment="vad").segment == "vad"


def test_what_is_easily_misread_is_said() -> None:
    assert "spoken language" in notices(lang="de")[0]
    assert notices(**ST) == ()
    assert notices() == ()
    assert "meant for er" in notices(preset="er-aggressive")[0]


def test_short_names_of_dtypes_and_devices() -> None:
    config = resolve(dtype="bf16", device="cuda:1", batch_size="8")
    assert (config.dtype, config.device, config.batch_size) == ("bfloat16", "cuda:1", 8)
    assert resolve(batch_size="auto").batch_size is None


def test_sizes_of_memory() -> None:
    sizes = [resolve(max_memory=size).max_memory for size in ("8G", "1.5gib", "500MB", 4096)]
    assert sizes == [8 * 2**30, 3 * 2**29, 500 * 2**20, 4096]
    assert resolve().max_memory is None


CHANGES: list[dict[str, Any]] = [
    {"task": "ac"},
    {"language": "de"},
    {"prompt": "Write it down."},
    {"reduce": 0.3},
    {"method": "random"},
    {"schedule": "decay"},
    {"start_layer": 3},
    {"positions": "reindex"},
    {"size_bias": True},
    {"model": "other"},
    {"dtype": "bfloat16"},
    {"quantize": "4bit"},
    {"num_beams": 5},
    {"max_new_tokens": 3},
    {"segment": "fixed"},
    {"chunk_length": 9.0},
    {"audio_track": "all"},
    {"audio_track": 2},
    {"channels": "best"},
    {"channels": "1"},
]


@pytest.mark.parametrize("change", CHANGES)
def test_the_hash_sees_what_changes_the_text(change: dict[str, Any]) -> None:
    assert resolve(**change).settings_hash != resolve().settings_hash


@pytest.mark.parametrize(
    "same",
    [
        {"batch_size": 4},
        {"device": "cpu"},
        {"offline": True},
        {"hash": True},
        {"preset": "asr-safe"},
        {"max_memory": "8G"},
    ],
)
def test_the_hash_does_not_see_the_rest(same: dict[str, Any]) -> None:
    assert resolve(**same).settings_hash == resolve().settings_hash


def test_results_from_before_there_was_a_choice_stay_valid() -> None:
    plain = RunConfig(task="asr", reduction=ReductionConfig("none", None, 0.0, None, 0.0))
    assert plain.settings_hash.startswith("cdaa90993c6599dc099f0bad7d051586")
    same = resolve(audio_track="AUTO", channels="mix", quantize=None)
    assert same.settings_hash == resolve().settings_hash


def test_tracks_and_channels_have_names_or_numbers() -> None:
    asked = resolve(audio_track=3, channels=" Best ")
    assert (asked.audio_track, asked.channels) == ("3", "best")
    assert (resolve().audio_track, resolve().channels) == ("auto", "mix")


def test_every_field_is_in_the_hash_or_known_to_be_harmless() -> None:
    fields = set(RunConfig.__dataclass_fields__)
    harmless = {"preset", "overrides", "device", "batch_size", "offline", "hash", "max_memory"}
    by_flag = {name for change in CHANGES for name in change}
    reduction = {"reduction"}
    elsewhere = {"target_language", "question", "model_revision", "method_digest"}
    harmless.add("also")  # see the tests of several tasks
    assert fields - harmless - by_flag - reduction == elsewhere
    assert resolve(**ST).settings_hash != resolve(task="st", lang="en").settings_hash
    one, other = (resolve(task="sqa", question=word).settings_hash for word in ("who?", "when?"))
    assert one != other


@pytest.mark.parametrize("words", [{"question": "who?"}, {"prompt": "Say who."}])
def test_a_question_for_all_or_one_for_each(words: dict[str, Any]) -> None:
    assert resolve(task="sqa").asks_each
    assert not resolve(task="sqa", **words).asks_each
    assert not resolve(task="er").asks_each
    assert "--question" in no_question("sqa")
    assert "--prompt" in no_question("chat")


def test_several_tasks_have_the_settings_that_each_has_alone() -> None:
    words: dict[str, Any] = {"lang": "de", "question": "who?", "num_beams": 5, "reduce": 0.3}
    both = resolve_tasks(task="translate, asr,sqa,st", **words)
    alone = [
        resolve(task="st", **words | {"question": None}),
        resolve(task="asr", **words | {"question": None, "lang": None}),
        resolve(task="sqa", **words | {"lang": None}),
    ]
    assert both.each == tuple(alone)
    assert both.settings == {one.task: one.settings[one.task] for one in alone}
    assert both.settings_hash == alone[0].settings_hash
    assert resolve_tasks(task="asr", lang="de") == resolve(task="asr", lang="de")
    asr, er = resolve_tasks(task="asr,er", lang="de").each
    assert (asr.language, er.language) == ("de", None)
    assert (asr.preset, er.preset) == ("asr-safe", "er-aggressive")


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        ({"task": "asr,st"}, "--lang CODE"),
        ({"task": "er,sv", "lang": "de"}, "target of --task st"),
        ({"task": "asr,er", "question": "who?"}, "--task sqa"),
        ({"task": "asr,chat", "prompt": "Write."}, "--prompt replaces the prompt of one task"),
        ({"task": "asr,"}, "choose one of asr"),
    ],
)
def test_what_no_task_can_take_is_refused(words: dict[str, Any], way_out: str) -> None:
    with pytest.raises(UsageError, match=way_out):
        resolve_tasks(**words)


def test_one_task_is_meant_where_one_is_asked_for() -> None:
    with pytest.raises(UsageError, match="--task asr,st: choose one of"):
        resolve(task="asr,st", lang="de")


def test_notices_of_several_tasks_come_once() -> None:
    assert notices(task="asr,st", lang="de") == ()
    [told] = notices(task="asr,er", preset="asr-safe")
    assert "not for er" in told


def test_a_model_folder_is_one_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve(model="./model").settings_hash == resolve(model="model").settings_hash
    assert resolve(model="model").model == "model"


def test_formats(tmp_path: Path) -> None:
    output = resolve_output(tmp_path, "jsonl, srt,srt,vtt")
    assert output.formats == ("jsonl", "srt", "vtt")
    assert output.side_formats == ("srt", "vtt")
    assert resolve_output().formats == ("jsonl",)


def test_formats_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="-o DIR"):
        resolve_output(None, "srt")
    with pytest.raises(UsageError, match="jsonl, srt, vtt"):
        resolve_output(tmp_path, "docx")
    with pytest.raises(UsageError, match="is empty"):
        resolve_output(tmp_path, ",")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        resolve_output(tmp_path / "file")
