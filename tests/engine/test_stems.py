"""Prompts that begin alike, prefilled from a common stem: against prompts prefilled apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core.config import ReductionConfig, RunConfig
from core.engine import Engine, runner
from core.engine.batching import Waiting
from core.engine.beams import beam_search
from core.engine.generate import Prefilled, prefill
from core.engine.greedy import greedy
from core.engine.job import Job
from core.engine.prompts import Prompts
from core.engine.stems import Stem, before_layers, prefill_stems, stems
from core.flops import PromptLengths
from core.methods import get_cache_method, get_method
from core.models.base import SpeechLM
from core.records import Hypothesis, Segment
from core.reduction import Eviction, Reduction, Threshold, reducing
from core.scheduler import Budget
from tests.counted import counted_prefill_flops
from tests.engine.made import config, segments
from tests.test_flops import ROTARY
from tests.test_reduction import LAYERS, decoder_of
from tests.tiny import prompt_batch

LONG = [7, 8, *range(20, 50)]
SPOKEN = [[[5, 6, 7, 8, 9], [5, 6, 10, 11], [5, 6, 7, 30, 31, 32]], [[5, 6, 7]], [[9, 8], LONG]]
"""Words of each task behind three recordings; the last ones have nothing in common."""
FOUND = [Stem((0, 1, 2), 2), Stem((3,), 2), Stem((4, 5), 0)]
CAPS = [9, 3, 9, 9, 9, 6]


def job(name: Any, words: Sequence[int], number: int = 0) -> Job:
    (segment,) = segments(0.1)
    prompt = PromptLengths(1, 2, len(words))
    budget = Budget((2,), (2,), 0.0, 0.0, False)
    return Job(replace(segment, index=number), prompt, budget, 3, 1, stem=name, words=words)


def asked(model: Any) -> Prompts:
    """Three recordings, ragged, with one to three prompts each."""
    batch = prompt_batch(model, [23, 9, 4], [3, 5, 2], 0)
    table = model.get_input_embeddings().weight
    embedded: list[Tensor] = []
    lengths = []
    for index, tasks in enumerate(SPOKEN):
        heard, (first, last) = batch.row(index)
        for words in tasks:
            embedded.append(torch.cat([heard, table[torch.tensor(words)]]))
            lengths.append(PromptLengths(first, last - first, len(words)))
    return Prompts(embedded, lengths, None, [0] * len(lengths))


@pytest.mark.parametrize("ratio", [0.0, 0.5])
@pytest.mark.parametrize("positions", ["keep", "reindex"])
@pytest.mark.parametrize("size_bias", [False, True])
@torch.no_grad()
def test_logits_and_answers_are_those_of_prompts_prefilled_apart(
    tiny_model: Any, positions: str, size_bias: bool, ratio: float
) -> None:
    ready, decoder = asked(tiny_model), decoder_of(tiny_model)
    kept = [(round(row.audio * (1 - ratio)),) * (LAYERS + 1) for row in ready.lengths]
    how = Reduction(get_method("ward"), positions, size_bias)

    def apart(rows: Sequence[int]) -> Prefilled:
        mine = [[parts[n] for n in rows] for parts in (ready.embedded, ready.lengths, kept)]
        return prefill(decoder, *mine, how)  # type: ignore[arg-type]

    with reducing(tiny_model.get_decoder()):
        start = prefill_stems(decoder, ready, kept, how, FOUND)
        for n in range(len(CAPS)):
            torch.testing.assert_close(start.logits[n], apart([n]).logits[0], atol=1e-4, rtol=0)
        every = range(len(CAPS))
        assert start.lengths == tuple(row.total for row in ready.lengths)
        assert start.cache.kept == tuple(kept)
        assert greedy(decoder, start, CAPS) == greedy(decoder, apart(every), CAPS)
        start = prefill_stems(decoder, ready, kept, how, FOUND)
        found, expected = (beam_search(decoder, one, CAPS, 3) for one in (start, apart(every)))
    assert [one.ids for one in found] == [one.ids for one in expected]
    scores = [one.score for one in expected]
    assert [one.score for one in found] == pytest.approx(scores, abs=1e-4)


def test_stems_end_where_words_differ_and_leave_each_its_last() -> None:
    words = [words for tasks in SPOKEN for words in tasks]
    jobs = [job(name, mine) for name, mine in zip("aaabcc", words, strict=True)]
    assert stems(jobs) == FOUND
    assert [one.sharing for one in jobs] == [3, 3, 3, 1, 2, 2]
    assert [one.apart for one in jobs] == [3, 2, 4, 1, 2, len(LONG)]
    assert stems([job("a", [5, 6]), job("a", [5, 6])]) == [Stem((0, 1), 1)]
    # nothing to gain, or somebody whose prompt cannot be taken apart
    alone = [job("a", [5, 6]), job("b", [5, 6])]
    for group in (alone, [*alone, job("a", [5]), job(None, [5])], [jobs[0]]):
        assert stems(group) == []
        assert all(one.sharing == 1 for one in group)


def test_only_what_is_cut_before_the_layers_has_a_stem() -> None:
    ward = Reduction(get_method("ward"))
    assert before_layers(ward, (5, 5, 5))
    assert not before_layers(ward, (5, 5, 4))
    affinity: Any = get_method("affinity")
    assert not before_layers(replace(ward, threshold=Threshold(affinity, 0.5, 0)), (5, 5))
    assert not before_layers(Eviction(get_cache_method("h2o")), (5, 5))


def test_jobs_of_one_stem_are_taken_together() -> None:
    names = ["a", "a", "a", "b", "b", "b", "c", "c"]
    waiting = Waiting([job(name, [1], n) for n, name in enumerate(names)], 8)

    def take(most: int) -> list[int]:
        return [one.segment.index for one in waiting.take(most, lambda _: True)]

    assert take(5) == [0, 1, 2]
    # too many for what is free: as many as it holds
    assert take(2) == [3, 4]
    assert take(2) == [5]
    assert take(4) == [6, 7]
    loose = Waiting([job(None, [1], n) for n in range(4)], 8)
    assert [len(loose.take(3, lambda _: True)) for _ in range(2)] == [3, 1]


def test_tasks_of_a_piece_stand_side_by_side_however_they_were_read() -> None:
    pieces = segments(0.5, 0.5, 0.4)
    order = [(piece, task) for task in ("asr", "er") for piece in pieces]
    read = [replace(job("x", [1]), segment=replace(piece, tasks=(task,))) for piece, task in order]
    taken = Waiting(read, 8).take(6, lambda _: True)
    found = [(one.segment.index, *one.segment.tasks) for one in taken]
    assert found == [(n, task) for n in (0, 1, 2) for task in ("asr", "er")]


def test_prompts_that_steer_the_decoder_have_no_stem(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    (piece,) = pieces(1.0)
    with Engine(lm, both(FULL)) as engine:
        own = engine.runner
        assert own.job(piece).stem is not None
        # a task alone has nobody to share with
        assert own.job(replace(piece, tasks=())).stem is None
        monkeypatch.setattr(own, "gate", lambda question: torch.zeros(4))
        assert own.job(piece).stem is None


FULL = ReductionConfig("none", "once", 0.0, "keep", 0.0)
INPUT = ReductionConfig("ward", "input", 0.4, "keep", 0.0)
SCORED = ReductionConfig("sa-map", "input", 0.4, "reindex", 0.0)
LAYERED = ReductionConfig("ward", "once", 0.4, "keep", 0.0)
RAGGED = (1.9, 0.3, 1.2, 0.7, 1.6, 0.4, 1.0, 0.2, 1.4)


def both(reduction: ReductionConfig, **changes: Any) -> RunConfig:
    changes = {"max_new_tokens": None, "batch_size": 6, "reduction": reduction} | changes
    other = config(task="sqa", question="hello world again", **changes)
    return config(also=(other,), **changes)


def answers(lm: SpeechLM, wanted: RunConfig, given: list[Segment]) -> dict[Any, Hypothesis]:
    with Engine(lm, wanted) as engine:
        return {(one.index, one.task or wanted.task): one for one in engine.transcribe(given)}


def pieces(*seconds: float) -> list[Segment]:
    return [replace(one, tasks=("asr", "sqa")) for one in segments(*seconds)]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Stems and rows of each prefill that was shared."""
    found: list[tuple[int, int]] = []

    def watched(decoder: Any, ready: Prompts, kept: Any, how: Any, shared: Any) -> Prefilled:
        start = prefill_stems(decoder, ready, kept, how, shared)
        found.append((len(shared), len(kept)))
        return start

    monkeypatch.setattr(runner, "prefill_stems", watched)
    return found


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("reduction", [FULL, INPUT, SCORED], ids=lambda how: how.method)
def test_the_answers_are_those_of_runs_with_one_task(
    lm: SpeechLM, taken: list[tuple[int, int]], reduction: ReductionConfig, beams: int
) -> None:
    wanted = both(reduction, num_beams=beams)
    found = answers(lm, wanted, pieces(*RAGGED))
    assert sum(rows for _, rows in taken) >= sum(some for some, _ in taken) + len(RAGGED) // 2
    for task in wanted.each:
        for key, one in answers(lm, task, segments(*RAGGED)).items():
            assert (found[key].text, found[key].error) == (one.text, None)
            mine, its = found[key].cost, one.cost
            assert (mine.generated, mine.audio_kept) == (its.generated, its.audio_kept)
            assert mine.prompt_kv_bytes == its.prompt_kv_bytes
            assert mine.prefill_flops <= its.prefill_flops


def test_what_is_cut_in_layers_is_prefilled_apart(
    lm: SpeechLM, taken: list[tuple[int, int]]
) -> None:
    found = answers(lm, both(LAYERED), pieces(*RAGGED))
    alone = answers(lm, both(LAYERED).each[1], segments(*RAGGED))
    assert taken == []
    for key, one in alone.items():
        assert found[key].cost.prefill_flops == one.cost.prefill_flops


def test_prompts_that_keep_unequal_parts_are_prefilled_apart(
    lm: SpeechLM, taken: list[tuple[int, int]]
) -> None:
    wanted = both(INPUT, max_new_tokens=3)
    (other,) = wanted.also
    wordy = replace(wanted, also=(replace(other, question="hello world " * 8),))
    found = answers(lm, wordy, pieces(1.9, 1.2))
    assert taken == []
    for task in wordy.each:
        for key, one in answers(lm, task, segments(1.9, 1.2)).items():
            assert found[key].cost.audio_kept == one.cost.audio_kept
    assert found[0, "asr"].cost.audio_kept > found[0, "sqa"].cost.audio_kept


def test_the_costs_add_up_to_what_was_done(lm: SpeechLM, taken: list[tuple[int, int]]) -> None:
    with Engine(lm, both(FULL, max_new_tokens=1)) as engine:
        own = engine.runner
        jobs = [own.job(replace(piece, tasks=(task,))) for piece in pieces(1.6)
                for task in ("asr", "sqa")]  # fmt: skip
        assert len(jobs[0].words) == len(jobs[1].words)
        own.start(jobs)
        spent = counted_prefill_flops(lambda: own.start(jobs))
    found = answers(lm, both(FULL, max_new_tokens=1), pieces(1.6))
    assert taken == [(1, 2)] * 3
    cost = [one.cost for one in found.values()]
    assert cost[0].encoder_flops > 0 == cost[1].encoder_flops
    assert sum(one.prefill_flops for one in cost) == pytest.approx(spent, rel=ROTARY)
    assert [one.prefill_full_flops for one in cost] == [one.prefill_flops for one in cost]
    reduced = answers(lm, both(INPUT, max_new_tokens=1), pieces(1.6))
    for one, full in zip(reduced.values(), cost, strict=True):
        assert one.cost.prefill_full_flops == full.prefill_full_flops
        assert one.cost.prefill_flops < 0.8 * full.prefill_flops
        assert one.cost.prefill_s > 0


def test_a_second_attempt_stands_alone(lm: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = answers(lm, both(FULL), pieces(1.9))
    alone = answers(lm, both(FULL).each[0], segments(1.9))
    monkeypatch.setattr("core.engine.runner.looped", lambda *_: True)
    found = answers(lm, both(FULL), pieces(1.9))
    once, first = (one[0, "asr"].cost.prefill_flops for one in (alone, plain))
    assert found[0, "asr"].cost.prefill_flops == first + once


EXAMPLES = Path(__file__).parents[2] / "examples" / "audio"


@pytest.mark.parametrize("preset", ["none", "asr-aggressive"])
def test_recordings_are_answered_as_by_three_runs(
    preset: str, taken: list[tuple[int, int]]
) -> None:
    from core import pipeline
    from core.flags import resolve, resolve_tasks
    from core.media.discover import discover
    from core.results.store import MemorySink

    heard = ("kitchen.wav", "market.flac", "station.mp3", "harbour.flac")
    recordings = list(discover([str(EXAMPLES / name) for name in heard]))
    flags: dict[str, Any] = {"preset": preset, "segment": "fixed"}

    def texts(wanted: RunConfig) -> dict[Any, str]:
        sink = MemorySink()
        pipeline.run(wanted, recordings, sink)
        return {key: one.pred_text for key, one in sink.kept.items()}

    together = texts(resolve_tasks(task="asr,st,er", lang="de", **flags))
    assert taken
    for task in ("asr", "st", "er"):
        alone = texts(resolve(task=task, lang="de" if task == "st" else None, **flags))
        assert alone == {key: text for key, text in together.items() if key[1] == task}
