"""The oracle's beam search against transformers', over a table instead of a model.

A table makes a search cheap, and its end tokens can be as likely as the fine print needs them.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.reference import search

VOCABULARY, LONGEST = 12, 8


def table_model(table: Tensor) -> Any:
    """A transformers model whose logits [vocabulary] are table[position, last token]."""
    from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import CausalLMOutputWithPast

    class Table(PreTrainedModel, GenerationMixin):
        config_class = PreTrainedConfig
        main_input_name = "input_ids"

        def __init__(self) -> None:
            super().__init__(PreTrainedConfig(vocab_size=VOCABULARY))
            self.one = torch.nn.Parameter(torch.ones(1))

        def forward(self, input_ids: Tensor, **_: Any) -> CausalLMOutputWithPast:
            positions = torch.arange(input_ids.shape[1])
            return CausalLMOutputWithPast(logits=table[positions, input_ids])

    return Table().eval()


def random_table(seed: int, ends: int, end_bonus: float) -> Tensor:
    table = torch.randn(
        LONGEST, VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(seed)
    )
    table[..., 1 : 1 + ends] += end_bonus
    return table * 1.5


# length penalty, beams, how many end tokens, seed. Found by breaking the search in one place after
# another: each of its lines decides at least one of these.
CASES = [
    (0.0, 2, 0, 0),
    (0.0, 2, 1, 2),
    (0.0, 3, 2, 0),
    (0.5, 2, 1, 2),
    (0.5, 3, 0, 1),
    (1.0, 2, 1, 1),
    (1.0, 2, 1, 2),
    (1.0, 2, 2, 2),
    (1.0, 3, 1, 2),
    (1.0, 3, 2, 2),
    (1.0, 3, 4, 0),
    (1.0, 4, 0, 2),
    (1.0, 4, 4, 3),
    (2.0, 2, 1, 1),
    (2.0, 2, 1, 2),
    (2.0, 2, 2, 1),
    (2.0, 3, 1, 3),
    (2.0, 3, 4, 2),
    (2.0, 4, 1, 3),
    (2.0, 4, 4, 1),
]


@pytest.mark.parametrize(("penalty", "beams", "ends", "seed"), CASES)
def test_search_equals_generate(penalty, beams, ends, seed):
    table = random_table(100 * beams + seed, ends, end_bonus=seed - 1.0)
    eos = list(range(1, 1 + ends)) or None
    out = table_model(table).generate(
        torch.tensor([[0]]),
        num_beams=beams,
        max_new_tokens=LONGEST,
        length_penalty=penalty,
        do_sample=False,
        early_stopping=False,
        use_cache=False,
        eos_token_id=eos,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    ids, score = search(
        lambda ids: table[len(ids), ids[-1] if ids else 0],
        num_beams=beams,
        max_new_tokens=LONGEST,
        eos=eos,
        length_penalty=penalty,
    )
    assert [0, *ids] == out.sequences[0].tolist()
    assert score == pytest.approx(out.sequences_scores[0].item(), abs=1e-4)
