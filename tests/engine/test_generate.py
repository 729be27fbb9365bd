"""Beam bookkeeping over tables, where the fine print decides: against the oracle's search."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.engine.beams import beam_search
from core.engine.generate import Decoder, Prefilled
from core.engine.greedy import greedy
from core.flops import PromptLengths
from core.methods import get_method
from core.reduction import ReducedCache, Reduction
from tests.reference import search
from tests.test_reference_search import CASES, LONGEST, random_table

ROW = PromptLengths(1, 0, 0)


class Tables(nn.Module):
    """A decoder whose logits are table[row][position, last token]; one table serves all rows."""

    layers = ()

    def __init__(self, tables: list[Tensor]) -> None:
        super().__init__()
        self.tables = torch.stack(tables)

    def forward(
        self, inputs_embeds: Tensor, position_ids: Tensor, cache: Any, use_cache: bool
    ) -> Any:
        token, position = inputs_embeds[:, 0].long(), position_ids[:, 0]
        row = torch.arange(len(token)) * len(self.tables) // len(token)
        return SimpleNamespace(last_hidden_state=self.tables[row, position, token].unsqueeze(1))


def start(tables: list[Tensor], ends: int, each: int = 1) -> tuple[Decoder, Prefilled]:
    identity = nn.Identity()
    decoder = Decoder(Tables(tables), identity, identity, tuple(range(1, 1 + ends)))
    rows = each * len(tables)
    cache = ReducedCache([ROW] * rows, [(0,)] * rows, Reduction(get_method("fastadasp")))
    logits = torch.stack([table[0, 0] for table in tables for _ in range(each)])
    return decoder, Prefilled(logits, cache, (1,) * rows)


@pytest.mark.parametrize(("beams", "ends", "seed"), [case[1:] for case in CASES if case[0] == 1.0])
def test_beams_equal_the_oracle_in_rows_of_different_caps(beams: int, ends: int, seed: int) -> None:
    tables = [random_table(100 * beams + seed + k, ends, end_bonus=seed - 1.0) for k in (0, 50)]
    caps = [LONGEST, LONGEST - 3]
    decoder, prefilled = start(tables, ends)
    answers = beam_search(decoder, prefilled, caps, beams)
    for table, cap, answer in zip(tables, caps, answers, strict=True):
        ids, score = search(
            lambda ids, table=table: table[len(ids), ids[-1] if ids else 0],
            num_beams=beams,
            max_new_tokens=cap,
            eos=list(decoder.ends) or None,
        )
        assert list(answer.ids) == (ids[:-1] if answer.ended else ids)
        assert answer.ended == (ids[-1] in decoder.ends)
        assert answer.score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize(("seed", "bonus"), [(18, 0.0), (54, 1.0)])
def test_an_end_token_outside_the_first_beams_does_not_count(seed: int, bonus: float) -> None:
    table = random_table(seed, 1, end_bonus=bonus)
    decoder, prefilled = start([table], 1)
    answer = beam_search(decoder, prefilled, [LONGEST], 2)[0]
    ids, score = search(
        lambda ids: table[len(ids), ids[-1] if ids else 0],
        num_beams=2,
        max_new_tokens=LONGEST,
        eos=[1],
    )
    assert list(answer.ids) == (ids[:-1] if answer.ended else ids)
    assert answer.score == pytest.approx(score, abs=1e-4)


def test_greedy_stops_each_row_at_its_end_token_or_cap() -> None:
    table = torch.zeros(LONGEST, 12, 12)
    for position, token in enumerate([5, 6, 7, 1, 8, 9, 5, 6]):
        table[position, :, token] = 1.0
    decoder, prefilled = start([table], ends=1, each=3)
    answers = greedy(decoder, prefilled, [LONGEST, 2, 3])
    assert [answer.ids for answer in answers] == [(5, 6, 7), (5, 6), (5, 6, 7)]
    assert [answer.ended for answer in answers] == [True, False, False]
