"""The engine on a tiny model: texts, costs, and what it does when things go wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.config import ReductionConfig
from core.engine import Engine
from core.engine.generate import Answer, prefill
from core.engine.greedy import _forbid_repeats
from core.errors import UsageError
from core.models.base import SpeechLM
from tests.engine.made import config, segments


def test_a_batch_gives_what_single_segments_give(lm: SpeechLM) -> None:
    pieces = segments(1.9, 0.6, 1.2)
    for beams in (1, 3):
        with Engine(lm, config(num_beams=beams)) as engine:
            together = engine.run(pieces)
            alone = [engine.run([piece])[0] for piece in pieces]
        assert [found.text for found in together] == [found.text for found in alone]
        assert all(found.text for found in together)
        assert [(found.index, found.start) for found in together] == [(0, 0), (1, 10), (2, 20)]


def test_segments_of_one_batch_may_ask_different_things(lm: SpeechLM) -> None:
    asked = ["hello world", "translate the speech into german", None]
    pieces = [
        replace(piece, question=question)
        for piece, question in zip(segments(1.9, 0.6, 1.2), asked, strict=True)
    ]
    with Engine(lm, config(task="sqa")) as engine:
        together = engine.run(pieces)
    for piece, found in zip(pieces, together, strict=True):
        with Engine(lm, config(task="sqa", question=piece.question)) as engine:
            alone = engine.run([replace(piece, question="hello")])[0]
        if piece.question:
            assert (alone.text, alone.cost.prompt_tokens) == (
                found.text,
                found.cost.prompt_tokens,
            )
    prompts = [found.cost.prompt_tokens - found.cost.audio_in for found in together]
    assert prompts[0] - prompts[2] == 2
    assert prompts[1] - prompts[2] == 5


def test_costs_tell_what_was_cut(lm: SpeechLM) -> None:
    with Engine(lm, config(0.3)) as engine:
        reduced = engine.run(segments(1.9, 1.2))
    with Engine(lm, config(0.0)) as engine:
        full = engine.run(segments(1.9, 1.2))
    for mine, whole in zip(reduced, full, strict=True):
        assert mine.cost.prefill_flops / whole.cost.prefill_flops == pytest.approx(0.7, abs=0.01)
        assert mine.cost.prefill_full_flops == whole.cost.prefill_flops
        assert mine.cost.audio_kept < mine.cost.audio_in == whole.cost.audio_kept
        assert mine.cost.kv_bytes < mine.cost.kv_bytes_full == whole.cost.kv_bytes
        assert mine.cost.decode_flops < mine.cost.decode_full_flops
        assert mine.cost.first_token_s > 0
        assert mine.batch_size == 2
    # shares of the batch's time go by audio seconds
    first, second = (found.cost.prefill_s for found in reduced)
    assert first / second == pytest.approx(1.9 / 1.2)


def test_kv_bytes_are_those_that_the_cache_holds(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = []

    def kept(*args: Any, **kwargs: Any) -> Any:
        start = prefill(*args, **kwargs)
        caches.append(start.cache)
        return start

    monkeypatch.setattr("core.engine.runner.prefill", kept)
    found = {}
    for beams in (1, 4):
        with Engine(lm, config(num_beams=beams)) as engine:
            cost = found[beams] = engine.run(segments(1.9))[0].cost
        layers = caches.pop().layers
        assert cost.kv_bytes == sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
    # three more beams cost three more tails and no prompt
    one, four = found[1], found[4]
    tail = lm.decoder_shape.kv_bytes(2 * lm.decoder_shape.layers, 4)
    assert four.kv_bytes - one.kv_bytes == four.kv_bytes_full - one.kv_bytes_full == 3 * tail
    assert four.decode_flops == 4 * one.decode_flops


@pytest.mark.parametrize("name", ["uniform", "affinity", "a-tome", "ward", "sa-map"])
def test_tokens_can_go_before_the_first_layer(lm: SpeechLM, name: str) -> None:
    reduction = ReductionConfig(name, "input", 0.3, "keep", 0.0)
    pieces = segments(1.9, 1.2)
    with Engine(lm, config(reduction=reduction)) as engine:
        together = engine.run(pieces)
        alone = [engine.run([piece])[0] for piece in pieces]
    assert [found.text for found in together] == [found.text for found in alone]
    for found in together:
        assert found.error is None
        cost = found.cost
        assert cost.prefill_flops / cost.prefill_full_flops == pytest.approx(0.7, abs=0.01)
        # every layer holds the shorter prompt
        tail = cost.generated - 1
        short = cost.prompt_tokens - cost.audio_in + cost.audio_kept
        held = cost.kv_bytes * (cost.prompt_tokens + tail)
        assert held == cost.kv_bytes_full * (short + tail)


def test_a_method_that_needs_an_encoder_is_refused_without(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(lm), "scores_audio", False)
    reduction = ReductionConfig("sa-map", "input", 0.3, "keep", 0.0)
    with pytest.raises(UsageError, match="sa-map needs the encoder's attention"):
        Engine(lm, config(reduction=reduction))


def test_the_encoders_attention_is_paid_for(lm: SpeechLM) -> None:
    spent = []
    for name in ("uniform", "sa-map"):
        reduction = ReductionConfig(name, "input", 0.3, "keep", 0.0)
        with Engine(lm, config(reduction=reduction)) as engine:
            spent.append(engine.run(segments(1.9))[0].cost.encoder_flops)
    assert spent[1] > spent[0]


def test_nothing_is_refused_where_nothing_is_reduced(lm: SpeechLM) -> None:
    for schedule in ("input", "once"):
        reduction = ReductionConfig("none", schedule, 0.0, "keep", 0.0)
        with Engine(lm, config(reduction=reduction)) as engine:
            assert engine.run(segments(1.0))[0].error is None


def test_the_method_decides_on_the_size_bias_unless_told(lm: SpeechLM) -> None:
    def biased(name: str, said: bool | None) -> bool:
        reduction = ReductionConfig(name, "once", 0.3, "keep", 0.0, size_bias=said)
        return Engine(lm, config(reduction=reduction)).reducer.how.size_bias

    assert biased("ward", None)
    assert not biased("fastadasp", None)
    assert biased("fastadasp", True)
    assert not biased("ward", False)


def test_a_method_in_a_file_runs(lm: SpeechLM, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from core.methods.uniform import Uniform\n\n\nclass Own(Uniform):\n"
        "    def plan(self, view, kept):\n"
        f"        open({str(tmp_path / 'asked')!r}, 'a').write('.')\n"
        "        return super().plan(view, kept)\n"
    )
    mine = ReductionConfig(f"{tmp_path}/own.py:Own", "constant", 0.3, "keep", 0.0)
    same = replace(mine, method="uniform")
    texts = []
    for reduction in (mine, same):
        with Engine(lm, config(reduction=reduction)) as engine:
            texts.append([found.text for found in engine.run(segments(1.9, 1.2))])
    assert texts[0] == texts[1]
    assert (tmp_path / "asked").read_text()


def test_a_plan_of_other_counts_is_refused(lm: SpeechLM, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from core.methods.uniform import Uniform\n\n\nclass Greedy(Uniform):\n"
        "    def plan(self, view, kept):\n"
        "        return super().plan(view, [max(1, left - 1) for left in kept])\n"
    )
    reduction = ReductionConfig(f"{tmp_path}/own.py:Greedy", "once", 0.3, "keep", 0.0)
    with Engine(lm, config(reduction=reduction)) as engine:
        found = engine.run(segments(1.9))[0]
    assert found.error is not None
    assert "audio tokens where" in found.error


def test_a_target_beyond_a_short_prompt_is_cut_as_far_as_it_goes(lm: SpeechLM) -> None:
    with Engine(lm, config(0.6)) as engine:
        short, long = engine.run(segments(0.2, 2.0))
    assert short.warnings[0].startswith("reduction_capped:0.")
    assert float(short.warnings[0].split(":")[1]) < 0.6
    assert short.error is None
    assert not any("capped" in name for name in long.warnings)
    assert short.cost.audio_kept == 1 < short.cost.audio_in


def test_a_target_beyond_every_prompt_is_a_usage_error(lm: SpeechLM) -> None:
    with pytest.raises(UsageError, match=r"out of reach.*lower --reduce"):
        Engine(lm, config(0.9))


def test_what_the_method_cannot_do_is_a_usage_error(lm: SpeechLM) -> None:
    reduction = ReductionConfig("fastadasp", "input", 0.2, "keep", 0.0)
    with pytest.raises(UsageError, match="use once, constant, decay"):
        Engine(lm, config(reduction=reduction))
    with pytest.raises(UsageError, match="unknown method 'x'; choose one of"):
        Engine(lm, config(reduction=replace(reduction, method="x")))


def test_a_segment_that_fails_alone_says_why_and_spares_the_others(lm: SpeechLM) -> None:
    with Engine(lm, config()) as engine:
        good, bad = engine.run(segments(1.0, 250.0))
    assert good.text
    assert good.error is None
    assert bad.text == ""
    assert bad.error is not None
    assert "250 s are more than the 240 s" in bad.error
    assert "--segment vad" in bad.error


def test_forbidden_repeats() -> None:
    logits = torch.zeros(2, 6)
    _forbid_repeats(logits, [[1, 2, 3, 1, 2], [1, 2]], 3)
    assert logits[0].tolist() == [0, 0, 0, -torch.inf, 0, 0]
    assert not logits[1].any()


def test_a_looping_answer_is_asked_for_again(lm: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def straight(_: Any, start: Any, caps: Any, mark: Any, no_repeat: int) -> list[Answer]:
        mark()
        asked.append((start.cache.reduces, no_repeat > 0))
        return [Answer((3, 4), True) for _ in caps]

    monkeypatch.setattr("core.engine.runner.greedy", straight)
    monkeypatch.setattr("core.engine.runner.looped", lambda answer, *_: answer.ids != (3, 4))
    with Engine(lm, config()) as engine:
        found = engine.run(segments(1.0))[0]
    assert asked == [(False, True)]
    assert found.text == lm.text([3, 4])
    assert found.warnings == ("repetition_retried",)
    assert found.finished
    # both attempts are paid for: the reduced one and the full one, against two full ones
    full = found.cost.prefill_full_flops / 2
    assert found.cost.prefill_flops == pytest.approx(1.7 * full, rel=0.01)
    assert found.cost.decode_flops < found.cost.decode_full_flops


def test_an_answer_that_loops_twice_is_flagged_and_not_finished(
    lm: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.engine.runner.looped", lambda *_: True)
    with Engine(lm, config()) as engine:
        found = engine.run(segments(1.0))[0]
    assert {"repetition", "repetition_retried"} <= set(found.warnings)
    assert not found.finished


def test_an_answer_that_is_cut_off_is_not_finished(lm: SpeechLM) -> None:
    with Engine(lm, config()) as engine:
        found = engine.run([replace(segments(1.0)[0], speech=((0.1, 0.5), (0.6, 0.9)))])[0]
    assert (found.finished, found.speech_s) == (False, pytest.approx(0.7))
    assert "max_tokens_reached" in found.warnings


def test_the_cap_follows_the_length_of_the_audio(lm: SpeechLM) -> None:
    engine = Engine(lm, config(max_new_tokens=None))
    short, long = (engine.runner.job(piece).cap for piece in segments(0.1, 2.0))
    assert 16 <= short < long <= 50
