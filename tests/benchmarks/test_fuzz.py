"""A small run of the fuzzing benchmark: hostile files cost their own records only."""

from __future__ import annotations

from pathlib import Path

from benchmarks.fuzz import survive
from benchmarks.hostile import CONTAINERS, corpus, liars, seeds


def test_hostile_files_are_records(tmp_path: Path) -> None:
    found = survive(tmp_path, 200, seed=1)
    assert found["records"] == found["files"] == sum(found["status"].values()) == 200 + 13
    assert found["status"]["failed"] > 20
    assert found["status"]["partial"] > 20
    assert found["implausibly_long"] == 1  # days of silence in thirty kilobytes
    assert found["slowest_file_s"] < 60
    assert found["decoder_peak_mib"] < 500
    assert found["run_peak_mib"] < 4000  # other tests have left torch in this process


def test_the_corpus_is_mutated_and_the_same_each_time() -> None:
    whole = seeds()
    made, again, other = (dict(corpus(64, seed=number)) for number in (3, 3, 4))
    assert made != other
    assert all(made[name] == again[name] for name in made if not name.endswith("ogg"))
    assert len({name.rpartition(".")[2] for name in made}) == len(CONTAINERS) == 12
    changed = [data != whole[name.rpartition(".")[2]] for name, data in made.items()]
    assert sum(changed) >= 60  # an overwritten byte may be the byte that was there
    assert all(len(data) < 40_000 for _, data in liars())
