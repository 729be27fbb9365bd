"""Sides of `fastadasp bench` make the same answers, and its numbers mean what they say."""

from __future__ import annotations

import mmap
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.engine import peak
from core.engine.generate import prefill
from core.errors import FastAdaSPError, StartError, UsageError
from core.methods import get_method
from core.reduction import Reduction, reducing
from core.scheduler import Schedule, solve
from core.studies.bench import (
    OWN,
    PLAIN,
    PUBLISHED,
    STATIC,
    LeftOut,
    Limits,
    Setting,
    build_decoder,
    measure,
    measure_limits,
)
from core.studies.bench.measure import _added, work_of
from core.studies.bench.published import prefill as as_published
from core.studies.bench.published import published
from core.studies.bench.rows import Measured, least_bytes, row, spent_flops
from core.studies.bench.setting import entrants
from core.studies.bench.shapes import parts
from core.studies.bench.sides import Run, own, plain, static

CPU = torch.device("cpu")
SETTING = Setting("tiny", 3.0, tokens=6, reduce=(0.0, 0.3), rounds=1)
LIMITS = Limits(1e12, 1e10)


@pytest.fixture(scope="module")
def model() -> Any:
    model = build_decoder(SETTING.size, CPU, torch.float32)
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            if weight.dim() == 2:
                weight.mul_(10)  # what a token says matters, and to whom it listens
    return model


class Said:
    """Keeps what is told of the progress."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def __call__(self, words: str, done: float) -> None:
        self.told.append((words, done))


def kept(setting: Setting, target: float) -> tuple[int, ...]:
    shape = setting.size.decoder
    schedule = Schedule("constant", 1, shape.layers)
    return solve(shape, schedule, setting.size.prompt(setting.seconds), target).kept


@pytest.mark.parametrize("beams", [1, 3])
@torch.inference_mode()
def test_unreduced_sides_agree(model: Any, beams: int) -> None:
    setting = replace(SETTING, beams=beams, batch=2)
    work, full = work_of(setting, model), kept(SETTING, 0.0)
    expected = plain(work).ids
    assert len(expected) == 6
    assert static(work).ids == expected
    assert published(work, full).ids == expected
    assert own(work, full, Reduction(get_method("fastadasp"))).ids == expected


@pytest.mark.parametrize("beams", [1, 3])
@torch.inference_mode()
def test_the_published_way_makes_the_same_reduction(model: Any, beams: int) -> None:
    work, counts = work_of(replace(SETTING, beams=beams), model), kept(SETTING, 0.3)
    assert counts[-1] < counts[0]
    mine = own(work, counts, Reduction(get_method("fastadasp"), positions="reindex"))
    assert published(work, counts).ids == mine.ids


@torch.inference_mode()
def test_the_published_way_gives_the_same_scores(model: Any) -> None:
    work, counts = work_of(replace(SETTING, batch=2), model), kept(SETTING, 0.3)
    decoder, reduction = parts(model), Reduction(get_method("fastadasp"), positions="reindex")
    with reducing(decoder.stack):
        rows = [work.prompt] * 2, [counts] * 2
        mine = prefill(decoder, list(work.embedded), *rows, reduction).logits.log_softmax(-1)
    theirs = as_published(work, counts, [])
    torch.testing.assert_close(theirs, mine, atol=2e-3, rtol=1e-3)


@torch.inference_mode()
def test_beams_share_one_prompt_with_us_only(model: Any) -> None:
    one, five = (work_of(replace(SETTING, beams=beams), model) for beams in (1, 5))
    full = kept(SETTING, 0.0)
    assert plain(five).kv_bytes == 5 * plain(one).kv_bytes
    reduction = Reduction(get_method("fastadasp"))
    assert own(five, full, reduction).kv_bytes < 2 * own(one, full, reduction).kv_bytes


def test_everyone_enters_in_turn() -> None:
    found = [(one.side, one.asked) for one in entrants(SETTING)]
    assert found == [(PLAIN, 0), (STATIC, 0), (OWN, 0), (PUBLISHED, 0.3), (OWN, 0.3)]
    alone = entrants(replace(SETTING, against=()))
    assert [one.side for one in alone] == [OWN, OWN]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="published"):
        list(entrants(replace(SETTING, against=("magic",))))
    with pytest.raises(UsageError, match="qwen2-audio-7b"):
        list(entrants(replace(SETTING, shape="huge")))


def measured(runs: list[Run], plain_runs: list[Run], reduce: float = 0.0) -> Measured:
    entrant = next(one for one in entrants(SETTING) if one.side == OWN and one.asked == reduce)
    return Measured(entrant, runs, plain_runs, encode=1.0, peak=None, value_bytes=4)


def test_ratios_are_medians_of_those_within_a_round() -> None:
    mine = [Run(2.0, 4.0, 100, (1,)), Run(3.0, 2.0, 100, (1,)), Run(1.0, 3.0, 100, (1,))]
    other = [Run(4.0, 8.0, 400, (1,)), Run(3.0, 8.0, 400, (1,)), Run(4.0, 3.0, 400, (1,))]
    found = row(SETTING, measured(mine, other), LIMITS)
    assert (found.prefill_s, found.decode_s) == (2.0, 3.0)
    assert found.prefill_ratio == pytest.approx(0.5)  # of 0.5, 1 and 0.25
    assert found.decode_speedup == pytest.approx(2.0)  # of 2, 4 and 1
    assert found.rtf_ratio == pytest.approx(7 / 13)  # of 7/13, 6/12 and 5/8
    assert found.kv_smaller == pytest.approx(4.0)
    assert found.first_token_s == pytest.approx(3.0)
    assert found.rtf == pytest.approx(6.0 / 3.0)
    assert found.tokens_per_s == pytest.approx(5 / 3)
    assert found.spread == pytest.approx(2 / 6)
    assert found.same_ids


def test_without_plain_transformers_there_are_no_ratios() -> None:
    found = row(SETTING, measured([Run(1.0, 1.0, 1, ())], []), LIMITS)
    assert found.prefill_ratio is found.kv_smaller is found.same_ids is None


def test_the_least_that_a_step_reads_is_weights_and_cache(model: Any) -> None:
    weights = sum(p.numel() for p in model.model.layers.parameters() if p.dim() == 2)
    weights += model.lm_head.weight.numel()
    size, prompt = SETTING.size.decoder, SETTING.size.prompt(3.0)
    cached = 2 * size.layers * size.kv_heads * size.head_dim * (prompt.total + 6 // 2)
    found = least_bytes(SETTING, measured([], []))
    assert found == 5 * 4 * (weights + cached)


def test_every_beam_of_the_others_pays_for_its_prompt() -> None:
    setting = replace(SETTING, beams=5, batch=2)
    spent = {(one.side, one.asked): spent_flops(setting, one) for one in entrants(setting)}
    assert spent[PLAIN, 0.0] == 5 * spent[OWN, 0.0]
    assert spent[PUBLISHED, 0.3] > 5 * spent[OWN, 0.3]  # which leaves most of a layer out


def test_a_side_that_cannot_run_is_named_and_the_others_stay(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(work: Any) -> Run:
        raise RuntimeError("no such kernel\nmore")

    monkeypatch.setattr("core.studies.bench.setting.static", refuse)
    said = Said()
    setting = replace(SETTING, against=(PLAIN, STATIC))
    left_out, *rows = measure(setting, model, LIMITS, said, memory=False)
    assert left_out == LeftOut(STATIC, "no such kernel")
    assert [one.side for one in rows] == [PLAIN, OWN, OWN]
    assert rows[-1].cut == pytest.approx(0.3, abs=0.01)
    assert all(one.peak_bytes is None for one in rows)
    names, shares = zip(*said.told, strict=True)
    assert names[0] == "encoder"
    assert names[-1] == "round 1 of 1, fastadasp at 30%"
    assert list(shares) == sorted(shares)
    assert (shares[0], shares[-1] < 1) == (0, True)


def not_reducing(decoder: Any, prompts: Any, rows: Any, kept: Any, how: Any) -> Any:
    return prefill(decoder, prompts, rows, [[row.audio] * len(kept[0]) for row in rows], how)


@pytest.mark.parametrize("beams", [1, 2])
def test_a_cut_that_the_cache_contradicts_is_no_row(
    model: Any, monkeypatch: pytest.MonkeyPatch, beams: int
) -> None:
    setting = replace(SETTING, beams=beams, against=(PUBLISHED,))
    rows = list(measure(setting, model, LIMITS, Said(), memory=False))
    full, published_, mine = (one.prompt_kv_bytes for one in rows)
    assert published_ == beams * mine < beams * full
    monkeypatch.setattr("core.studies.bench.sides.prefill", not_reducing)
    expected = rf"fastadasp at 30%: the cache holds {full} bytes .* where {mine} were planned"
    with pytest.raises(FastAdaSPError, match=expected):
        list(measure(setting, model, LIMITS, Said(), memory=False))


def test_what_cannot_be_reduced_is_not_measured(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["core.studies.bench.measure"]
    monkeypatch.setattr(module, "why_not", lambda *parts: "it is odd")
    said = Said()
    with pytest.raises(StartError, match="tiny cannot be reduced: it is odd; use --reduce 0"):
        next(measure(SETTING, model, LIMITS, said, memory=False))
    assert said.told == []
    full = replace(SETTING, against=(), reduce=(0.0,))
    [row] = measure(full, model, LIMITS, said, memory=False)
    assert row.side == OWN


def test_limits_are_those_of_a_machine() -> None:
    found = measure_limits(CPU, torch.float32)
    assert 1e8 < found.flops < 1e15
    assert 1e8 < found.bandwidth < 1e13


@pytest.mark.skipif(not peak.reset_peak(CPU), reason="no peak can be reset here")
def test_memory_is_what_a_run_adds(
    model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def greedy(_: Any) -> Run:
        # fresh pages: what an allocator kept from before would add nothing
        with mmap.mmap(-1, 64 * 2**20) as pages:
            pages.write(bytes(64 * 2**20))
        return Run(1.0, 1.0, 1, ())

    entrant = replace(next(entrants(SETTING)), run=greedy)
    added = _added(entrant, work_of(SETTING, model))
    assert added is not None
    assert 60 * 2**20 < added < 200 * 2**20
    monkeypatch.setattr(peak, "_CLEAR_REFS", tmp_path / "no folder" / "clear_refs")
    assert _added(entrant, work_of(SETTING, model)) is None
