"""What only a CUDA device can show: kernels, fused operators and CUDA graphs as they are there.

`python -m pytest -m gpu tests/gpu`
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from core.engine.beams import beam_search
from core.engine.greedy import greedy
from core.methods import get_method
from core.reduction import Reduction, attention, given_up, reducing, split
from tests.test_reduction import counts, decoder_of, run_prefill
from tests.tiny import prompt_batch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TOKENS = 150  # more than twice the room that is made at first
REDUCTION = Reduction(get_method("fastadasp"), "keep", size_bias=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_nothing_fast_is_given_up(dtype: torch.dtype, head_dim: int) -> None:
    for masked in (False, True):
        attention._fastest(DEVICE, dtype, head_dim, masked)
    split._fastest(DEVICE, dtype, head_dim)
    assert not given_up()


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", ["constant", "once"])
def test_recorded_steps_give_the_tokens_of_plain_ones(
    gqa_model: Any, kind: str, beams: int
) -> None:
    model = copy.deepcopy(gqa_model).to(DEVICE)

    def answers(recorded: bool) -> list[Any]:
        batch = prompt_batch(gqa_model, [23, 9], [3, 5], [4, 7])
        rows = [batch.row(index)[0].to(DEVICE) for index in range(len(batch))]
        kept = counts(batch, kind, 1, [0.35, 0.5])
        decoder = decoder_of(model)
        decoder.recorder.works = recorded
        with reducing(model.get_decoder()), torch.inference_mode():
            start = run_prefill(model, _Rows(rows, batch), kept, REDUCTION)  # type: ignore[arg-type]
            if beams == 1:
                found = greedy(decoder, start, [TOKENS] * 2)
            else:
                found = beam_search(decoder, start, [TOKENS] * 2, beams)
        assert decoder.recorder.works == recorded, given_up()
        return found

    plain, played = answers(False), answers(True)
    assert [one.ids for one in played] == [one.ids for one in plain]


class _Rows:
    """A batch of prompts whose rows are on the device."""

    def __init__(self, rows: list[torch.Tensor], batch: Any) -> None:
        self._rows, self._batch = rows, batch

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> tuple[torch.Tensor, tuple[int, int]]:
        return self._rows[index], self._batch.row(index)[1]
