"""The last layer run for one position against the same layer run for all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from core.engine.greedy import greedy
from core.methods import get_method
from core.reduction import Reduction, last, reducing
from tests.test_reduction import counts, decoder_of, run_prefill
from tests.tiny import PromptBatch, prompt_batch

RATIOS = [0.35, 0.5, 0.2]


def run(model: Any, batch: PromptBatch, kept: Any, reduction: Reduction, shortcut: bool) -> Any:
    return run_prefill(model, batch, kept, replace(reduction, shortcut=shortcut))


@pytest.mark.parametrize("positions", ["keep", "reindex"])
@pytest.mark.parametrize("kind", ["once", "constant"])
@torch.no_grad()
def test_logits_cache_and_answer_are_those_of_the_whole_layer(
    tiny_model: Any, kind: str, positions: str
) -> None:
    batch = prompt_batch(tiny_model, [23, 9, 41], [3, 5, 2], [4, 7, 4])
    kept = counts(batch, kind, 1, RATIOS)
    reduction = Reduction(get_method("fastadasp"), positions, size_bias=kind == "once")
    with reducing(tiny_model.get_decoder()):
        short, whole = (run(tiny_model, batch, kept, reduction, way) for way in (True, False))
        assert not torch.equal(short.logits, whole.logits), "the shortcut was not taken"
        torch.testing.assert_close(short.logits, whole.logits, atol=1e-5, rtol=1e-5)
        for mine, theirs in zip(short.cache.layers, whole.cache.layers, strict=True):
            for one, other in ((mine.keys, theirs.keys), (mine.values, theirs.values)):
                for row, pad in enumerate(short.cache.prompts[-1].columns.pad):
                    torch.testing.assert_close(one[row, :, pad:], other[row, :, pad:])
        decoder = decoder_of(tiny_model)
        assert greedy(decoder, short, [9] * 3) == greedy(decoder, whole, [9] * 3)


@torch.no_grad()
def test_audio_at_the_end_of_a_prompt_is_merged_as_ever(gqa_model: Any) -> None:
    batch = prompt_batch(gqa_model, [23, 9, 41], [3, 5, 2], [4, 0, 4])
    kept = counts(batch, "constant", 1, RATIOS)
    reduction = Reduction(get_method("fastadasp"))
    with reducing(gqa_model.get_decoder()):
        short, whole = (run(gqa_model, batch, kept, reduction, way) for way in (True, False))
    assert torch.equal(short.logits, whole.logits)


def test_the_projections_are_left_as_they_were(
    gqa_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = prompt_batch(gqa_model, [23], [3], [4])
    kept = counts(batch, "constant", 1, RATIOS[:1])
    reduction = Reduction(get_method("fastadasp"))
    attention = gqa_model.get_decoder().layers[-1].self_attn
    config, seen = attention.config, []

    def broken(*_: Any, **__: Any) -> None:
        seen.append(attention.q_proj.forward.__name__)
        raise ZeroDivisionError

    monkeypatch.setattr(last, "skipped_attention", broken)
    monkeypatch.setattr("core.reduction.layers.skipped_attention", broken)
    with pytest.raises(ZeroDivisionError), reducing(gqa_model.get_decoder()), torch.no_grad():
        run(gqa_model, batch, kept, reduction, True)
    assert seen == ["zeros"]
    assert attention.config is config
    for projection in (attention.q_proj, attention.o_proj):
        assert "forward" not in projection.__dict__
