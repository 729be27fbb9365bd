"""A method that decides by itself how many tokens stay, at the input or in one layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core.config import ReductionConfig, RunConfig
from core.engine import Engine
from core.engine.greedy import greedy
from core.errors import UsageError
from core.flops import PromptLengths, prefill_flops
from core.methods import AudioView
from core.methods.affinity import Affinity
from core.models import load_model
from core.models.base import SpeechLM
from core.records import Recording, Source
from core.reduction import Reduction, Threshold, reducing
from core.results.assemble import Heard, assemble
from core.template import template_of
from tests import reference
from tests.engine.made import CARD, segments
from tests.folders import save_tiny
from tests.reference_methods import Cluster, Seen, chains
from tests.test_reduction import LAYERS, decoder_of, lengths_of, run_prefill
from tests.tiny import PromptBatch, prompt_batch

AUDIO, BEFORE, AFTER = [23, 9, 41], [3, 5, 2], [4, 7, 4]


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpeechLM]:
    yield load_model(str(save_tiny(tmp_path_factory.mktemp("tiny"), CARD)), device="cpu")


def scan(states: Tensor, threshold: float, window: int) -> list[int]:
    """The published loop: a token joins if one of the group's last members is alike enough."""
    joined, group = [], [0]
    for i in range(1, len(states)):
        likeness = [float(torch.cosine_similarity(states[i], states[j], 0)) for j in group]
        if max(likeness[-window:]) >= threshold:
            joined.append(i - 1)
            group.append(i)
        else:
            group = [i]
    return joined


@pytest.mark.parametrize("at_input", [True, False])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6, 0.9])
def test_groups_are_those_of_the_published_loop(threshold: float, at_input: bool) -> None:
    draw = torch.Generator().manual_seed(4)
    lengths = (30, 1, 17)
    # padding that would join if anybody looked at it
    states = torch.ones(3, 30, 4)
    for row, length in enumerate(lengths):
        states[row, :length] = torch.randn(length, 4, generator=draw).cumsum(0)
    view = AudioView(
        lengths, states.unsqueeze(1), states, None, None, torch.ones(3, 30), at_input=at_input
    )
    plan = Affinity().decide(view, threshold)
    for row, length in enumerate(lengths):
        joined = scan(states[row, :length].double(), threshold, 1 if at_input else 3)
        clusters = chains(joined, [1.0] * length)
        assert plan.kept[row] == len(clusters)
        for slot, (members, _) in enumerate(clusters):
            assert (plan.slot[row] == slot).nonzero().flatten().tolist() == members
    # a budget of as many tokens gives the same groups
    assert torch.equal(Affinity().plan(view, plan.kept).slot, plan.slot)


def affinity_rule(threshold: float, window: int) -> Any:
    def rule(seen: Seen, kept: int) -> list[Cluster]:
        return chains(scan(seen.states, threshold, window), [1.0] * len(seen.sizes))

    return rule


def by_threshold(place: int, value: float, positions: str) -> Reduction:
    return Reduction(Affinity(), positions, threshold=Threshold(Affinity(), value, place))


@pytest.mark.parametrize("positions", ["keep", "reindex"])
@pytest.mark.parametrize(("place", "value"), [(0, 0.6), (3, 0.6), (LAYERS, 0.9)])
@torch.no_grad()
def test_decoding_behind_a_threshold_equals_the_oracle(
    gqa_model: Any, place: int, value: float, positions: str
) -> None:
    batch: PromptBatch = prompt_batch(gqa_model, AUDIO, BEFORE, AFTER)
    rows = lengths_of(batch)
    whole = [(row.audio,) * (LAYERS + 1) for row in rows]
    how = by_threshold(place, value, positions)
    with reducing(gqa_model.get_decoder()):
        start = run_prefill(gqa_model, batch, whole, how)
        logits = start.logits.clone()
        kept, held = ([getattr(row, name) for row in start.observed] for name in ("kept", "held"))
        answers = greedy(decoder_of(gqa_model), start, [5] * 3)
    assert sum(row[-1] for row in kept) < sum(AUDIO) - 3
    for index, row in enumerate(rows):
        assert kept[index][:place] == (row.audio,) * place
        assert len(set(kept[index][place:])) == 1
        assert 1 < kept[index][-1] <= row.audio
        assert held[index] == kept[index][:-1]
        embeddings, span = batch.row(index)
        rule = affinity_rule(value, 3 if place else 1)
        asked = (gqa_model, embeddings, span, list(kept[index]), positions)
        expected, _ = reference.prefill_logits(*asked, rule=rule)
        torch.testing.assert_close(logits[index], expected.float(), atol=1e-4, rtol=0)
        ids = reference.greedy(*asked, max_new_tokens=5, rule=rule)
        assert list(answers[index].ids) == ids
    for layer, state in zip(start.cache.layers, start.cache.prompts, strict=True):
        assert layer.length == state.width + 4


def config(threshold: float | None, schedule: str = "input", **changes: Any) -> RunConfig:
    reduction = ReductionConfig("affinity", schedule, 0.0, "keep", 0.5, threshold=threshold)
    return replace(RunConfig("asr", reduction, max_new_tokens=3), **changes)


@pytest.mark.parametrize("schedule", ["input", "once"])
def test_the_record_reports_the_measured_cut(lm: SpeechLM, schedule: str) -> None:
    pieces, run = segments(1.9, 1.2), config(0.3, schedule)
    with Engine(lm, run) as engine:
        found = engine.run(pieces)
        alone = [engine.run([piece])[0] for piece in pieces]
    assert [answer.text for answer in alone] == [answer.text for answer in found]
    start, layers = 3, lm.decoder_shape.layers
    for answer in found:
        cost = answer.cost
        assert 1 <= cost.audio_kept < cost.audio_in
        place = 0 if schedule == "input" else start + 1
        kept = [cost.audio_in] * place + [cost.audio_kept] * (layers + 1 - place)
        after = cost.prompt_tokens - cost.audio_in - len(engine.runner.prompt(None)[0])
        prompt = PromptLengths(len(engine.runner.prompt(None)[0]), cost.audio_in, after)
        expected = prefill_flops(lm.decoder_shape, prompt, kept, Affinity.scoring)
        assert cost.prefill_flops == expected < cost.prefill_full_flops
        assert cost.prompt_kv_bytes < cost.prompt_kv_bytes_full
    heard = Heard(Recording("a", Path("a")), Source(), 3.1)
    record = assemble(template_of(run, lm), heard, found)
    assert (record.threshold, record.flops.reduction_target) == (0.3, 0.0)
    assert record.start_layer == (None if schedule == "input" else start)
    assert record.flops.reduction is not None and record.flops.reduction > 0.02


def test_an_answer_that_loops_is_asked_for_again_without_it(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.engine.runner.looped", lambda *_: True)
    with Engine(lm, config(0.3)) as engine:
        [found] = engine.run(segments(1.9))
    assert "repetition_retried" in found.warnings
    assert found.cost.audio_kept == found.cost.audio_in


def test_a_method_that_cannot_decide_is_refused(lm: SpeechLM) -> None:
    wrong = replace(config(0.3).reduction, method="uniform")
    with pytest.raises(UsageError, match="--threshold is not for uniform"):
        Engine(lm, config(0.3, reduction=wrong))


def test_nothing_is_joined_where_nothing_is_alike_enough(lm: SpeechLM) -> None:
    with Engine(lm, config(1.0)) as engine:
        [found] = engine.run(segments(1.9))
    with Engine(lm, config(None)) as engine:
        [full] = engine.run(segments(1.9))
    assert found.cost.audio_kept == found.cost.audio_in
    assert found.text == full.text
    assert found.cost.prefill_flops == full.cost.prefill_flops
