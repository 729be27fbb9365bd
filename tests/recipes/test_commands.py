"""The commands one after the other on made-up data: train, resume, export, evaluate."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import typer
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

from recipes.embedded import synthesise, train
from recipes.embedded.evaluate import SCORES, bleu, read_manifest, word_errors

TEXT, TRANSLATION = "anna saw two dogs", "Anna sah zwei Hunde"


def run(command: str, *options: object) -> str:
    words = [sys.executable, "-m", f"recipes.embedded.{command}", *map(str, options)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return done.stdout


def write_shard(folder: Path, name: str, count: int) -> None:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(len(name))
    np.save(folder / f"{name}.npy", rng.uniform(-1, 1, (count * 120, 80)).astype(np.float16))
    row: dict[str, Any] = {"text": TEXT, "translation": TRANSLATION, "seconds": 1.2}
    row |= {"frames": 120, "phones": [[0, "_", -1], [5, "a", 0], [20, "b", 1], [40, "a", 3]]}
    row |= {
        "kind": "one",
        "mood": "sad",
        "speakers": None,
        "facts": [],
        "turns": [[0, "m1"]],
        "sounds": [],
    }
    rows = (json.dumps(row | {"start": 120 * number}) for number in range(count))
    (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")


@pytest.mark.slow
def test_train_resume_export_evaluate(tmp_path: Path) -> None:
    data, out, model, heldout = (tmp_path / n for n in ("data", "run", "model", "heldout"))
    write_shard(data, "shard-a", 12)
    options = ("--data", data, "--out", out, "--batch-seconds", 6)
    run("train", *options, "--minutes", 0.02)
    first = torch.load(out / "checkpoint.pt", weights_only=True)
    write_shard(data, "shard-b", 4)  # data may grow between two runs
    longer = first["elapsed"] / 60 + 0.02  # a busy machine may have overrun the first budget
    run("train", *options, "--minutes", longer, "--resume")
    second = torch.load(out / "checkpoint.pt", weights_only=True)
    assert second["step"] > first["step"] > 0
    assert len(second["uses"]) == 16

    run("export", "--run", out, "--out", model)
    assert AutoProcessor.from_pretrained(model).tokenizer.padding_side == "left"
    loaded = Qwen2AudioForConditionalGeneration.from_pretrained(model)
    assert loaded.dtype == torch.float16
    assert sum(tensor.numel() for tensor in loaded.parameters()) < 8_000_000

    speech = heldout / "speech"
    speech.mkdir(parents=True)
    soundfile.write(speech / "one-0000.wav", np.zeros(16_000, np.float32), 16_000)
    row = {"audio_filepath": "one-0000.wav", "text": TEXT, "translation": TRANSLATION}
    row |= {"duration": 1.0, "kind": "one"}
    (speech / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    printed = run("evaluate", "--model", model, "--heldout", heldout).splitlines()
    asr, st = map(json.loads, printed)
    assert asr["recordings"] == st["recordings"] == 1
    assert asr["wer"] > 0
    assert 0 <= st["bleu"] <= 100


def test_an_unfinished_run_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").touch()
    with pytest.raises(typer.BadParameter, match="--resume"):
        train.main(data=tmp_path, out=tmp_path)


def test_an_unknown_mix_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="all, digits, reads, talks"):
        synthesise.main(out=tmp_path, mix="songs")


def test_scores_by_kind() -> None:
    rows = [
        {"kind": "one", "text": "a b c d", "asr": "a b c d"},
        {"kind": "two", "text": "a b c d", "asr": "a b x"},
    ]
    assert word_errors(rows) == {"wer": 25.0, "wer_one": 0.0, "wer_two": 50.0}
    perfect = [{"translation": "der rote Hut war da", "st": "der rote Hut war da"}]
    assert bleu(perfect) == {"bleu": 100.0}


def test_accuracy_reads_labels_and_answers() -> None:
    rows = [{"speakers": 1, "sv": "one"}, {"speakers": 2, "sv": "one"}]
    assert SCORES["sv"](rows) == {"sv_accuracy": 50.0}
    assert SCORES["sqa"]([{"answer": "two dogs", "sqa": "two dogs"}]) == {"sqa_accuracy": 100.0}


def test_limit_takes_evenly_spaced_rows(tmp_path: Path) -> None:
    lines = [json.dumps({"audio_filepath": f"{number}.wav"}) for number in range(10)]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    names = [row["audio_filepath"] for row in read_manifest(tmp_path, 3)]
    assert names == ["0.wav", "3.wav", "6.wav"]
