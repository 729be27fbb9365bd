"""The oracle itself, against plain transformers and against its layers driven one by one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference import LayerTrace, beam_search, forced_logits, greedy, prefill, prefill_logits

LAYERS = 6
CUTS = [0, 0, 3, 6, 4, 0, 2]  # audio tokens gone at the entry of each layer, and at the exit


def untouched(span: tuple[int, int]) -> list[int]:
    return [span[1] - span[0]] * (LAYERS + 1)


def cut(span: tuple[int, int]) -> list[int]:
    return [span[1] - span[0] - sum(CUTS[: i + 1]) for i in range(LAYERS + 1)]


def generated(model: Any, batch: Any, **options: Any) -> Any:
    return model.generate(
        inputs_embeds=batch.inputs_embeds,
        attention_mask=batch.attention_mask,
        do_sample=False,
        max_new_tokens=10,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )


# --- against plain transformers, nothing merged


def test_full_logits_equal_those_of_a_ragged_padded_batch(tiny_model, prompt_batch):
    batch = prompt_batch(tiny_model, [24, 9, 1], [3, 5, 1], [4, 2, 6])
    theirs = tiny_model(inputs_embeds=batch.inputs_embeds, attention_mask=batch.attention_mask)
    for i in range(len(batch)):
        embeds, span = batch.row(i)
        ours, _ = prefill_logits(tiny_model, embeds, span, untouched(span))
        assert (ours - theirs.logits[i, -1]).abs().max() < 1e-4
    assert theirs.logits[:, -1].std() > 1, "flat logits would prove nothing"


def test_keys_values_and_received_attention_are_those_of_the_eager_model(tiny_model, prompt_batch):
    batch = prompt_batch(tiny_model, [15], seed=1)
    embeds, span = batch.row(0)
    _, trace = prefill_logits(tiny_model, embeds, span, untouched(span))
    out = eager(tiny_model, inputs_embeds=embeds[None], output_attentions=True, use_cache=True)
    for layer, cached, attention in zip(
        trace, out.past_key_values.layers, out.attentions, strict=True
    ):
        assert torch.allclose(layer.keys.float().transpose(0, 1), cached.keys[0], atol=1e-4)
        assert torch.allclose(layer.values.float().transpose(0, 1), cached.values[0], atol=1e-4)
        assert torch.allclose(layer.received.float(), attention[0].sum((0, 1)), atol=1e-4)


def eager(model: Any, **inputs: Any) -> Any:
    model.set_attn_implementation("eager")
    try:
        return model.get_decoder()(**inputs)
    finally:
        model.set_attn_implementation("sdpa")


def test_forced_logits_equal_one_long_forward(tiny_model, prompt_batch):
    embeds, span = prompt_batch(tiny_model, [12], seed=2).row(0)
    ids = [17, 80, 33, 3]
    ours = forced_logits(tiny_model, prefill(tiny_model, embeds, span, untouched(span)), ids)
    tail = tiny_model.get_input_embeddings().weight[ids]
    theirs = tiny_model(inputs_embeds=torch.cat([embeds, tail])[None]).logits[0]
    assert (ours - theirs[len(embeds) - 1 :]).abs().max() < 1e-4


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_greedy_equals_generate(tiny_qwen2_audio, prompt_batch, seed):
    model = tiny_qwen2_audio(kv_heads=2, seed=seed)
    batch = prompt_batch(model, [14], seed=seed)
    embeds, span = batch.row(0)
    theirs = generated(model, batch).sequences[0].tolist()
    assert greedy(model, embeds, span, untouched(span), max_new_tokens=10) == theirs
    assert len(theirs) == 10

    eos = theirs[5]
    stopped = generated(model, batch, eos_token_id=eos).sequences[0].tolist()
    ours = greedy(model, embeds, span, untouched(span), max_new_tokens=10, eos=eos)
    assert ours == stopped
    assert ours[-1] == eos and len(ours) < 10


BEAMS = [
    # model seed, beams, how many ends, length penalty, whether the best beam reaches an end
    (0, 2, 0, 1.0, False),
    (1, 4, 2, 1.0, True),
    (2, 3, 2, 0.3, True),
    (3, 2, 1, 2.0, False),
]


@pytest.mark.parametrize(("seed", "beams", "ends", "penalty", "ended"), BEAMS)
def test_beam_search_equals_generate(
    tiny_qwen2_audio, prompt_batch, seed, beams, ends, penalty, ended
):
    model = tiny_qwen2_audio(kv_heads=4 if seed % 2 else 2, seed=seed)
    batch = prompt_batch(model, [11], seed=seed)
    embeds, span = batch.row(0)
    options = {"num_beams": beams, "length_penalty": penalty}
    free = generated(model, batch, **options).sequences[0].tolist()
    # the token which the free search has in its middle, and then any
    eos = [free[4], *range(3, 3 + ends)][:ends] or None
    theirs = generated(model, batch, eos_token_id=eos, **options)
    ids, score = beam_search(
        model, embeds, span, untouched(span), max_new_tokens=10, eos=eos, **options
    )
    assert ids == theirs.sequences[0].tolist()
    assert (ids[-1] in (eos or [])) == ended
    assert abs(score - theirs.sequences_scores[0].item()) < 1e-4


def test_beams_are_told_apart_from_greedy_and_from_each_other(tiny_qwen2_audio, prompt_batch):
    model = tiny_qwen2_audio(kv_heads=2)
    embeds, span = prompt_batch(model, [16]).row(0)
    kept = cut(span)
    one = beam_search(model, embeds, span, kept, num_beams=1, max_new_tokens=6)
    four = beam_search(model, embeds, span, kept, num_beams=4, max_new_tokens=6)
    assert one[0] == greedy(model, embeds, span, kept, max_new_tokens=6)
    assert four[1] > one[1]


# --- the merging, against transformers' own layers driven one by one

RULES = [
    ("reindex", False, True),
    ("reindex", True, True),
    ("keep", False, True),
    ("keep", True, False),
]


@pytest.mark.parametrize(("positions", "size_bias", "weighted"), RULES)
def test_merging_equals_the_modules_of_transformers(
    tiny_model, prompt_batch, positions, size_bias, weighted
):
    embeds, span = prompt_batch(tiny_model, [22], seed=3).row(0)
    prompt = prefill(
        tiny_model, embeds, span, cut(span), positions, size_bias=size_bias, weighted=weighted
    )
    assert min(layer.margin for layer in prompt.layers) > 1e-4, "a near tie: choose another seed"
    ours = forced_logits(tiny_model, prompt, [50, 60])
    tiny_model.set_attn_implementation("eager")
    try:
        theirs = Modules(tiny_model, positions, size_bias, weighted).run(embeds, span, [50, 60])
    finally:
        tiny_model.set_attn_implementation("sdpa")
    assert (ours - theirs).abs().max() < 2e-4


class Modules:
    """The same semantics in matrices: transformers' modules, masks and cache, one row."""

    def __init__(self, model: Any, positions: str, size_bias: bool, weighted: bool) -> None:
        from transformers import DynamicCache

        self.model, self.decoder = model, model.get_decoder()
        self.positions, self.size_bias, self.weighted = positions, size_bias, weighted
        self.cache = DynamicCache()
        self.biases: list[Tensor] = []

    def run(self, embeds: Tensor, span: tuple[int, int], ids: list[int]) -> Tensor:
        length, kept = len(embeds), cut(span)
        states, places, sizes = embeds[None], torch.arange(length), torch.ones(length)
        for index, layer in enumerate(self.decoder.layers):
            n = states.shape[1]
            at = torch.arange(length - n, length) if self.positions == "reindex" else places
            self.biases.append(sizes.log() if self.size_bias else torch.zeros(n))
            mask = torch.full((n, n), -math.inf).triu(1) + self.biases[-1]
            mixed, attention = self.attention(layer, states, at, mask)
            matrix = self.merging(index, attention, span[0], kept)
            states = (matrix @ (states + mixed)[0])[None]
            members = (matrix > 0).float()
            places, sizes = places[members.argmax(1)], members @ sizes
            states = states + layer.mlp(layer.post_attention_layernorm(states))
        logits = [self.logits(states)]
        for step, token in enumerate(ids):
            states = self.model.get_input_embeddings()(torch.tensor([[token]]))
            for layer, bias in zip(self.decoder.layers, self.biases, strict=True):
                mask = torch.cat([bias, torch.zeros(step + 1)])[None]
                mixed, _ = self.attention(layer, states, torch.tensor([length + step]), mask)
                states = states + mixed
                states = states + layer.mlp(layer.post_attention_layernorm(states))
            logits.append(self.logits(states))
        return torch.stack(logits)

    def attention(self, layer: Any, states: Tensor, at: Tensor, mask: Tensor) -> Any:
        return layer.self_attn(
            layer.input_layernorm(states),
            position_embeddings=self.decoder.rotary_emb(states, at[None]),
            attention_mask=mask[None, None],
            past_key_values=self.cache,
        )

    def merging(self, index: int, attention: Tensor, start: int, kept: list[int]) -> Tensor:
        """[n', n] matrix whose rows are the weights of each new token's members."""
        n, audio = attention.shape[-1], kept[index]
        keys = self.cache.layers[index].keys[0, :, start : start + audio]
        keys = keys.transpose(0, 1).flatten(1)
        similar = F.cosine_similarity(keys[:-1], keys[1:], dim=-1)
        absorbed = torch.zeros(n, dtype=torch.long)
        absorbed[similar.topk(audio - kept[index + 1]).indices + start + 1] = 1
        slot = torch.arange(n) - absorbed.cumsum(0)
        matrix = F.one_hot(slot).float().T
        if self.weighted:
            matrix = matrix * attention[0].sum((0, 1))
        return matrix / matrix.sum(1, keepdim=True)

    def logits(self, states: Tensor) -> Tensor:
        return self.model.lm_head(self.decoder.norm(states[0, -1]))


# --- invariants


@pytest.mark.parametrize("positions", ["reindex", "keep"])
def test_order_counts_and_positions(tiny_model, prompt_batch, positions):
    embeds, span = prompt_batch(tiny_model, [20], seed=4).row(0)
    kept, text = cut(span), len(embeds) - 20
    prompt = prefill(tiny_model, embeds, span, kept, positions, size_bias=True)
    sources = [layer.sources for layer in prompt.layers] + [[t.sources for t in prompt.final]]
    for index, groups in enumerate(sources):
        assert len(groups) == text + kept[index]
        assert [i for group in groups for i in group] == list(range(len(embeds)))
        for group in groups:
            assert len(group) == 1 or (span[0] <= group[0] and group[-1] < span[1])
    assert max(len(group) for group in sources[-1]) > 2, "no chain was ever merged"
    for layer in prompt.layers:
        _check_layer(layer, positions, len(embeds))


def _check_layer(layer: LayerTrace, positions: str, length: int) -> None:
    n = len(layer.sources)
    gapless = list(range(length - n, length))
    first_members = [group[0] for group in layer.sources]
    assert layer.positions == (gapless if positions == "reindex" else first_members)
    assert layer.log_sizes.exp().round().tolist() == [len(group) for group in layer.sources]
    assert len(layer.keys) == len(layer.values) == len(layer.received) == n
    assert layer.received.sum() == pytest.approx(n * 4), "each query of each head gives out one"


@pytest.mark.parametrize(
    "kept", [[8] * LAYERS, [7] * (LAYERS + 1), [8, 6, 7, 7, 7, 7, 7], [8, 4, 4, 4, 4, 4, 0]]
)
def test_impossible_counts_are_refused(gqa_model, prompt_batch, kept):
    embeds, span = prompt_batch(gqa_model, [8]).row(0)
    with pytest.raises(AssertionError):
        prefill(gqa_model, embeds, span, kept)
