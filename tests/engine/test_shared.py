"""Several tasks on one segment: one encoding, the same answers, costs that add up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from core.config import ReductionConfig, RunConfig
from core.engine import Engine
from core.models.base import Encoded, SpeechLM
from core.records import Hypothesis, Segment, Waveform
from tests.engine.made import config, segments

RAGGED = (1.9, 0.3, 1.2, 0.7, 1.6, 0.4, 1.0, 0.2, 1.4)
SAME = ReductionConfig("fastadasp", "decay", 0.2, "keep", 0.0)
OTHER = ReductionConfig("ward", "once", 0.4, "keep", 0.0)
CUT = ReductionConfig("h2o", None, 0.4, None, 0.0)


def both(second: ReductionConfig, **changes: Any) -> RunConfig:
    changes = {"max_new_tokens": None, "batch_size": 4} | changes
    asked = config(task="sqa", question="hello world", reduction=second, **changes)
    return config(0.3, also=(asked,), **changes)


def pieces(*seconds: float) -> list[Segment]:
    return [replace(one, tasks=("asr", "sqa")) for one in segments(*seconds)]


class Counted:
    """An encoder that counts its windows, and fails above so many rows."""

    def __init__(self, plain: Any, most: int = 99) -> None:
        self.plain, self.most, self.sizes = plain, most, list[int]()

    def __call__(self, waves: Sequence[Waveform], scored: bool = False) -> Encoded:
        if len(waves) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        self.sizes.append(len(waves))
        encoded: Encoded = self.plain(waves, scored)
        return encoded


def answers(lm: SpeechLM, asked: RunConfig, given: list[Segment]) -> dict[Any, Hypothesis]:
    with Engine(lm, asked) as engine:
        found = list(engine.transcribe(given))
        if engine._shared is not None:
            assert not engine._shared._kept
            assert not engine._shared._open
    assert len(found) == len(given) * len(asked.each)
    return {(one.index, one.task or asked.task): one for one in found}


@pytest.mark.parametrize("second", [SAME, OTHER, CUT], ids=lambda how: how.method)
@pytest.mark.parametrize("beams", [1, 2])
def test_the_answers_are_those_of_runs_with_one_task(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch, second: ReductionConfig, beams: int
) -> None:
    asked = both(second, num_beams=beams)
    alone = {
        key: one for task in asked.each for key, one in answers(lm, task, segments(*RAGGED)).items()
    }
    counted = Counted(lm.encode)
    monkeypatch.setattr(lm, "encode", counted)
    found = answers(lm, asked, pieces(*RAGGED))
    assert sum(counted.sizes) == len(RAGGED)
    assert found.keys() == alone.keys()
    for key, one in found.items():
        mine, its = one.cost, alone[key].cost
        assert one.text == alone[key].text
        assert one.text
        assert (mine.generated, mine.audio_kept) == (its.generated, its.audio_kept)
        assert mine.prefill_flops == its.prefill_flops
        assert mine.prompt_kv_bytes == its.prompt_kv_bytes
        # the first task has paid for both
        assert (mine.encoder_flops > 0, mine.encode_s > 0) == (key[1] == "asr",) * 2
        assert mine.first_token_s > 0


def test_tasks_of_one_method_go_together_and_others_wait(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    for second, mixed in ((SAME, True), (OTHER, False)):
        with Engine(lm, both(second)) as engine:
            groups: list[list[str]] = []
            plain = engine.runner.start

            def started(jobs: Any, *more: Any, plain: Any = plain, groups: Any = groups) -> Any:
                groups.append([job.segment.tasks[0] for job in jobs])
                return plain(jobs, *more)

            monkeypatch.setattr(engine.runner, "start", started)
            monkeypatch.setattr("core.engine.runner.looped", lambda *_: False)
            list(engine.transcribe(pieces(*RAGGED)))
        assert groups[0] == (["asr", "sqa"] * 2 if mixed else ["asr"] * 4)
        assert any(len(set(group)) == 2 for group in groups) == mixed
        if not mixed:  # once in each window of the look-ahead, not group by group
            kinds = [group[0] for group in groups]
            assert sum(one != two for one, two in pairwise(kinds)) == 3
            assert len(kinds) > 4


def test_no_more_is_remembered_than_is_under_way(lm: SpeechLM) -> None:
    held: list[int] = []

    def watched(engine: Engine) -> Iterator[Hypothesis]:
        for one in engine.transcribe(pieces(*[0.4] * 60)):
            assert engine._shared is not None
            held.append(len(engine._shared._kept))
            yield one

    with Engine(lm, both(SAME, max_new_tokens=3)) as engine:
        assert len(list(watched(engine))) == 120
    assert 0 < max(held) <= 4


@pytest.mark.parametrize("second", [SAME, OTHER], ids=lambda how: how.method)
def test_what_does_not_fit_is_tried_with_less_and_paid_once(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch, second: ReductionConfig
) -> None:
    asked = both(second)
    expected = {key: one.text for key, one in answers(lm, asked, pieces(*RAGGED)).items()}
    counted = Counted(lm.encode, 1)
    monkeypatch.setattr(lm, "encode", counted)
    found = answers(lm, asked, pieces(*RAGGED))
    assert {key: one.text for key, one in found.items()} == expected
    assert counted.sizes == [1] * len(RAGGED)
    assert all(one.cost.encoder_flops for (_, task), one in found.items() if task == "asr")


def test_a_prefill_that_fails_is_not_encoded_again(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.engine.generate import prefill

    def narrow(decoder: Any, prompts: Any, *more: Any) -> Any:
        if len(prompts) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return prefill(decoder, prompts, *more)

    counted = Counted(lm.encode)
    monkeypatch.setattr(lm, "encode", counted)
    monkeypatch.setattr("core.engine.runner.prefill", narrow)
    found = answers(lm, both(SAME), pieces(*RAGGED))
    assert sum(counted.sizes) == len(RAGGED)
    paid = {key: bool(one.cost.encoder_flops) for key, one in found.items()}
    assert paid == {key: key[1] == "asr" for key in found}


def test_a_second_attempt_uses_what_is_known(lm: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = answers(lm, both(SAME), pieces(1.9))
    monkeypatch.setattr("core.engine.runner.looped", lambda *_: True)
    counted = Counted(lm.encode)
    monkeypatch.setattr(lm, "encode", counted)
    found = answers(lm, both(SAME), pieces(1.9))
    assert counted.sizes == [1]
    for key, one in found.items():
        assert "repetition_retried" in one.warnings
        assert one.cost.encoder_flops == plain[key].cost.encoder_flops
        assert one.cost.prefill_flops > plain[key].cost.prefill_flops


def test_a_task_that_fails_leaves_the_other(lm: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine(lm, both(SAME)) as engine:
        own = engine.runner.of(pieces(1.0)[0])
        assert own is engine.runner
        other = engine.runner.of(replace(pieces(1.0)[0], tasks=("sqa",)))

        def refuse(*_: Any) -> Any:
            raise ValueError("no words")

        monkeypatch.setattr(other, "prompt", refuse)
        found = list(engine.transcribe(pieces(1.0, 0.5)))
        assert engine._shared is not None
        assert not engine._shared._kept
    said = {(one.index, one.task): one.error for one in found}
    assert said == {
        (0, "asr"): None,
        (0, "sqa"): "no words",
        (1, "asr"): None,
        (1, "sqa"): "no words",
    }


def test_the_encoders_attention_is_kept_apart(lm: SpeechLM, monkeypatch: Any) -> None:
    scored = ReductionConfig("sa-map", "input", 0.3, "keep", 0.0)
    asked = both(scored)
    alone = answers(lm, asked.each[1], segments(*RAGGED))
    found = answers(lm, asked, pieces(*RAGGED))
    assert len(alone) == len(RAGGED)
    for key, one in alone.items():
        assert (found[key].text, found[key].error) == (one.text, None)
        # another pass of the encoder, which its own task pays for
        assert found[key].cost.encoder_flops > 0
