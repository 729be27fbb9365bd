"""Several spans of audio in one prompt, against the slow oracle."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from core.engine.generate import Prefilled, prefill, step
from core.engine.greedy import greedy
from core.flops import PromptLengths, prefill_flops
from core.methods import METHODS, AudioView, EncoderScores, get_cache_method, get_method
from core.reduction import Eviction, ReducedCache, Reduction, reducing
from core.reduction.attention import attend
from core.reduction.layout import PromptState
from core.reduction.scores import last_query_attention, received_attention
from core.reduction.spans import Spans, shared
from core.scheduler import Schedule, solve, solve_cache
from tests import reference, reference_eviction, reference_spans
from tests.counted import counted_prefill_flops
from tests.reference_methods import RULES
from tests.telling import telling
from tests.test_attention import KV_HEADS, SCALE, TOKENS, causal, softmax_maps, states
from tests.test_flops import shape_of
from tests.test_reduction import LAYERS, decoder_of
from tests.tiny import _smooth_walk

# text and audio in turn; the last one's second border has no text on it
RUNS = [(3, 17, 4), (2, 9, 3, 13, 5), (4, 7, 2, 11, 0, 6, 3)]
ROWS = [PromptLengths.of(*runs) for runs in RUNS]
RATIOS = [0.4, 0.25, 0.5]


@pytest.fixture(scope="module")
def embedded() -> list[Tensor]:
    draw = torch.Generator().manual_seed(3)
    # what is audio lingers and jumps as speech does
    runs = [
        [(_smooth_walk if run % 2 else _text)(size, 64, draw) for run, size in enumerate(one)]
        for one in RUNS
    ]
    return [torch.cat(one) for one in runs]


def _text(size: int, width: int, draw: torch.Generator) -> Tensor:
    return torch.randn(size, width, generator=draw)


def totals(kind: str, most: float = 1.0) -> list[tuple[int, ...]]:
    schedule = Schedule(kind, 1, LAYERS, most)
    return [
        schedule.kept(row.audio, ratio, row.spans) for row, ratio in zip(ROWS, RATIOS, strict=True)
    ]


def of_spans(row: PromptLengths, kept: Sequence[int], most: float = 1.0) -> list[tuple[int, ...]]:
    """What each span is to keep where the row keeps so many."""
    found, left = [], row
    for total in kept:
        left = left.leaving(shared([row], [left], [total], most))
        found.append(left.spans)
    return found


def run(
    model: Any, embedded: Sequence[Tensor], kept: Any, how: Reduction | Eviction, rows: Any = ROWS
) -> Prefilled:
    return prefill(decoder_of(model), embedded, rows, kept, how)


def test_a_prompt_says_where_its_spans_are() -> None:
    row = ROWS[2]
    assert (row.before, row.audio, row.after, row.gaps) == (4, 24, 3, ((7, 2), (18, 0)))
    assert (row.spans, row.text, row.total) == ((7, 11, 6), 9, 33)
    assert row.asking == 4  # three behind all audio, and two that see 7 of its 24 tokens
    assert row.leaving((2, 3, 1)) == PromptLengths.of(4, 2, 2, 3, 0, 1, 3)
    assert PromptLengths.of(3, 17, 4) == PromptLengths(3, 17, 4)
    assert PromptLengths(3, 0, 4).spans == (0,)


@pytest.mark.parametrize("positions", ["reindex", "keep"])
@pytest.mark.parametrize("kind", ["once", "constant", "input"])
@pytest.mark.parametrize("name", ["fastadasp", "ward", "uniform", "a-tome", "fastadasp-sampled"])
@torch.no_grad()
def test_spans_are_reduced_as_the_oracle_does(
    gqa_model: Any, embedded: list[Tensor], name: str, kind: str, positions: Any
) -> None:
    method = get_method(name)
    if kind == "input" and not method.at_input:
        pytest.skip("does not work at the input")
    kept = totals(kind, method.most)
    reduction = Reduction(method, positions, positions == "keep")
    with reducing(gqa_model.get_decoder()):
        start = run(gqa_model, embedded, kept, reduction)
        alone = run(gqa_model, embedded[2:], kept[2:], reduction, ROWS[2:]).logits[0]
    for index, (runs, row) in enumerate(zip(RUNS, ROWS, strict=True)):
        each = of_spans(row, kept[index], method.most)
        assert min(each[-1]) < min(row.spans)
        prompt = reference_spans.prefill(
            gqa_model, embedded[index], runs, each, RULES[name], positions, reduction.size_bias
        )
        expected = prompt.logits.float()
        torch.testing.assert_close(start.logits[index], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(alone, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("positions", ["reindex", "keep"])
@torch.no_grad()
def test_decoding_after_several_spans(
    gqa_model: Any, embedded: list[Tensor], positions: Any
) -> None:
    kept = totals("constant")
    reduction = Reduction(get_method("uniform"), positions, True)
    caps = [3, 9, 4]  # rows leave, so that the cache is regrouped
    with reducing(gqa_model.get_decoder()):
        start = run(gqa_model, embedded, kept, reduction)
        answers = greedy(decoder_of(gqa_model), start, caps)
    for index, answer in enumerate(answers):
        each = of_spans(ROWS[index], kept[index])
        prompt = reference_spans.prefill(
            gqa_model, embedded[index], RUNS[index], each, RULES["uniform"], positions, True
        )
        logits = reference.forced_logits(gqa_model, prompt, answer.ids[:-1])
        assert list(answer.ids) == logits.argmax(-1).tolist()
        assert len(answer.ids) == caps[index]


@torch.no_grad()
def test_a_cut_of_the_cache_shares_it_too(gqa_model: Any, embedded: list[Tensor]) -> None:
    held = [solve_cache(LAYERS, row, 0.4).held for row in ROWS]
    how = Eviction(get_cache_method("h2o"))
    with reducing(gqa_model.get_decoder()):
        start = run(gqa_model, embedded, held, how)
        answers = greedy(decoder_of(gqa_model), run(gqa_model, embedded, held, how), [4] * 3)
        start.cache.begin(1, 3, torch.device("cpu"))
        logits = [start.logits]
        for number in range(3):
            tokens = torch.tensor([answer.ids[number] for answer in answers])
            place = torch.tensor(start.lengths) + number
            logits.append(step(decoder_of(gqa_model), start.cache, tokens, place))
    for index, (runs, row) in enumerate(zip(RUNS, ROWS, strict=True)):
        prompt = reference_eviction.read(gqa_model, embedded[index])
        audio = {i for i in range(row.total) if _is_audio(runs, i)}
        seen = [
            [
                set(range(row.total)) - audio
                | reference_spans.h2o(prompt, layer, head, runs, shared([row], [row], [count]))
                for head in range(2)
            ]
            for layer, count in enumerate(held[index])
        ]
        for number in range(4):
            expected = reference_eviction.logits_after(
                gqa_model, prompt, seen, answers[index].ids[:number]
            )
            torch.testing.assert_close(logits[number][index], expected.float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("together", [False, True])
def test_received_attention_passes_the_text_between_spans_over(together: bool, every: int) -> None:
    long = PromptLengths.of(17, 90, 70, 60, 5, 30, TOKENS - 272)
    rows = (long, PromptLengths(11, 51, TOKENS - 102)) if together else (long,)
    where = PromptState(rows).columns
    query, key, value = states(len(rows))
    allowed = causal(where.pad)
    _, lse = attend(query, key, value, allowed, SCALE)
    found = received_attention(query, key, lse, where, None, SCALE, every=every)
    last = last_query_attention(query, key, lse, where, None, SCALE)
    maps = softmax_maps(query, key, allowed, None)
    audio = [*range(17, 107), *range(177, 237), *range(242, 272)]
    for number, place in enumerate(audio):
        asked = [q for q in range(TOKENS - 1, place, -every) if q != place]
        heads = maps[0, :, place, place] + every * maps[0, :, asked, place].sum(-1)
        expected = heads.unflatten(0, (KV_HEADS, -1)).sum(1)
        torch.testing.assert_close(found[0, :, number], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(last[0], maps[0, :, -1, audio].sum(0), atol=1e-5, rtol=1e-4)


def _is_audio(runs: Sequence[int], place: int) -> bool:
    ends = [sum(runs[: n + 1]) for n in range(len(runs))]
    return next(n for n, end in enumerate(ends) if place < end) % 2 == 1


@torch.no_grad()
def test_spans_that_keep_everything_change_nothing(gqa_model: Any, embedded: list[Tensor]) -> None:
    row, states = ROWS[2], embedded[2].unsqueeze(0)
    plain = gqa_model(inputs_embeds=states).logits
    cache = ReducedCache([row], [(row.audio,) * (LAYERS + 1)], Reduction(get_method("ward")))
    with reducing(gqa_model.get_decoder()):
        inside = gqa_model(inputs_embeds=states, past_key_values=cache, use_cache=True).logits
    assert torch.equal(inside, plain)


@pytest.mark.parametrize("name", METHODS)
def test_no_method_merges_across_a_border(name: str) -> None:
    method, spans = get_method(name), Spans(tuple(ROWS))
    draw = torch.Generator().manual_seed(1)
    width = max(row.audio for row in ROWS)
    # all tokens alike: if anything could, they would all become one
    alike = torch.ones(3, width, 8) + 1e-3 * torch.randn(3, width, 8, generator=draw)
    score = torch.rand(3, width, generator=draw)
    view = AudioView(
        lengths=tuple(row.audio for row in ROWS),
        keys=alike.unsqueeze(1),
        states=alike,
        received=telling(score),
        last_query=score,
        sizes=torch.ones(3, width),
        at_input=not method.in_layer,
        encoder=EncoderScores(score, score),
    )
    kept = shared(ROWS, ROWS, [10, 12, 13], method.most)
    plan = spans.plan(method.plan(spans.view(view), kept))
    assert plan.kept == (10, 12, 13)
    each = iter(kept)
    for row, slots in zip(ROWS, plan.slot.tolist(), strict=True):
        ends = [0, *(first for first, _ in row.gaps), row.audio]
        found = [sorted({slot for slot in slots[a:b] if slot >= 0}) for a, b in pairwise(ends)]
        assert [len(one) for one in found] == [next(each) for _ in row.spans]
        assert [slot for one in found for slot in one] == list(range(sum(map(len, found))))
        assert set(slots[row.audio :]) <= {-1}
    assert plan.mean(alike).shape == (3, 13, 8)


@pytest.mark.parametrize("kind", ["once", "constant"])
def test_the_cut_that_was_asked_for_is_the_cut_that_is_made(gqa_model: Any, kind: str) -> None:
    shape, schedule = shape_of(gqa_model), Schedule(kind, 0, LAYERS)
    row = PromptLengths.of(9, 120, 6, 75, 40, 130, 14)
    states = torch.randn(row.total, 64, generator=torch.Generator().manual_seed(0))
    reduction = Reduction(get_method("fastadasp"), shortcut=False)

    def counted(kept: tuple[int, ...]) -> int:
        with reducing(gqa_model.get_decoder()), torch.no_grad():
            return counted_prefill_flops(lambda: run(gqa_model, [states], [kept], reduction, [row]))

    full = counted((row.audio,) * (LAYERS + 1))
    assert full == pytest.approx(prefill_flops(shape, row), rel=1e-4)
    for target in (0.2, 0.5):
        found = solve(shape, schedule, row, target)
        assert 1 - counted(found.kept) / full == pytest.approx(target, abs=0.01)
        for left in of_spans(row, found.kept):
            for span, size in zip(left, row.spans, strict=True):
                assert span == pytest.approx(size * sum(left) / row.audio, abs=1)


def test_a_row_that_cannot_keep_so_few_is_found_out() -> None:
    with pytest.raises(ValueError, match="3 spans of 24 tokens cannot keep 2"):
        shared(ROWS[2:], ROWS[2:], [2])
    assert shared(ROWS[2:], ROWS[2:], [3]) == (1, 1, 1)
    lowest = solve(shape_of_seven(), Schedule("once", 0, 32), ROWS[2], 0.9)
    assert lowest.kept[-1] == 3
    assert lowest.capped
    assert solve_cache(6, ROWS[2], 0.9).held == (3,) * 6


def shape_of_seven() -> Any:
    from core.flops import DecoderShape

    return DecoderShape(4096, 32, 32, 32, 128, 11008, 32000)
