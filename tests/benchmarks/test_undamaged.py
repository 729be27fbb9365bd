"""A small run of the survey of whole files."""

from __future__ import annotations

from pathlib import Path

from benchmarks.undamaged import ENCODERS, RATES, made, survey


def test_no_whole_file_is_called_broken() -> None:
    found = survey(2 * len(ENCODERS) * len(RATES), seed=2)
    assert found["broken"] == {}


def test_all_encoders_rates_and_containers_have_their_turn(tmp_path: Path) -> None:
    names = [path.name.split("-") for path, _ in made(tmp_path, 48, seed=0)]
    assert {encoder for _, encoder, _ in names} == set(ENCODERS)
    assert {rest.split(".")[0] for _, encoder, rest in names if encoder == "aac"} == {
        str(rate) for rate in RATES
    }
    assert {rest.split(".")[1] for _, encoder, rest in names if encoder == "aac"} == {
        extension for extension, _ in ENCODERS["aac"]
    }
