"""What the last norm of the decoder gives for each audio token, full or reduced."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..flops import prefill_flops
from ..reduction import ReducedCache, Reduction, read_prompts
from .engine import Engine
from .prompts import Prompts


@dataclass(frozen=True, slots=True)
class AudioFeatures:
    """Final states of the audio tokens of a batch, and what reaching them cost.

    Attributes:
        states: after the decoder's last norm, all rows together, (audio tokens left, hidden).
        full_flops, flops: of the prefill, without and with the reduction; 2 per multiply-add.
    """

    states: Tensor
    full_flops: int
    flops: int


@torch.inference_mode()
def audio_features(engine: Engine, prompts: Prompts, target: float) -> AudioFeatures:
    """Prefill prompts with a cut of `target`; must be called inside an engine of the same model.

    The last layer runs for every position here: its shortcut for the last one is not taken.

    Args:
        engine: says where and how tokens go.
        prompts: by `Runner.prepare` of any engine of the model.
        target: share of prefill FLOPs to cut; a prompt that cannot is cut as far as it goes.
    """
    reducer, shape = engine.reducer, engine.lm.decoder_shape
    kept = [budget.kept for budget in reducer.budgets(prompts.lengths, target)]
    assert isinstance(reducer.how, Reduction)  # what cuts the cache alone has no layer to choose
    cache = ReducedCache(prompts.lengths, kept, reducer.how, prompts.scores)
    cache.gates = prompts.gates
    hidden = read_prompts(engine.lm.decoder, prompts.embedded, cache)
    audio = cache.state.columns
    found = audio.gather(hidden, 1)
    seen = cache.observed()
    states = [row[:length] for row, length in zip(found, audio.length, strict=True)]
    full = sum(prefill_flops(shape, prompt) for prompt in prompts.lengths)
    spent = sum(
        prefill_flops(shape, prompt, row.kept, reducer.scoring)
        for prompt, row in zip(prompts.lengths, seen, strict=True)
    )
    return AudioFeatures(torch.cat(states), full, spent)
