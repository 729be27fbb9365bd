"""The training path against the standard one: own-length encoder, packed suffixes, schedule."""

import math
from random import Random

import numpy as np
import pytest
import torch

from recipes.embedded.dataset import (
    CLAUSES,
    IGNORED,
    Collator,
    Item,
    _tone,
    _warped,
    group_by_length,
    tables_of,
)
from recipes.embedded.features import N_MELS, encoder_lengths, feature_extractor, log_mel
from recipes.embedded.grammar import english_words
from recipes.embedded.losses import (
    Heads,
    Weights,
    _compared_loss,
    _fits_loss,
    _sought_loss,
    encode,
    losses,
)
from recipes.embedded.model import SEEKING_LAYER, WIDTH, build_model
from recipes.embedded.questions import Mark
from recipes.embedded.schedule import Curriculum, longest_seconds, loss_weights, rate_factor
from recipes.embedded.tasks import Example, examples_of
from recipes.embedded.tokens import answer_ids, build_processor, chat_text
from recipes.embedded.train import start_from

ROW = {
    "text": "anna saw two dogs",
    "translation": "Anna sah zwei Hunde",
    "mood": "happy",
    "speakers": 1,
    "facts": [
        {"subject": "anna", "past": "saw", "base": "see", "object": "two dogs", "noun": "dogs"}
        | {"count": "two"}
    ],
    "phones": [[0, "_", -1], [5, "a", 0], [12, "b", 1], [20, "", 2], [25, "a", 3]],
    "turns": [[0, "m1"], [24, "f1"]],
    "sounds": [],
}
READING = ROW | {"text": "", "translation": "", "mood": None, "speakers": None, "facts": []}
READING |= {"phones": [], "turns": [], "sounds": ["a", "b", "never heard"]}


@pytest.fixture(scope="module")
def processor():
    return build_processor()


@pytest.fixture(scope="module")
def model(processor):
    torch.manual_seed(0)
    return build_model(processor).eval()


def recording(samples: int, seed: int) -> np.ndarray:
    sound = np.random.default_rng(seed).standard_normal(samples).astype(np.float32) * 0.1
    sound[-2000:] = 0.0
    return sound


def item(sound: np.ndarray, row: dict = ROW) -> Item:
    mel = log_mel(feature_extractor(), sound)
    return Item(row | {"start": 0, "frames": len(mel), "seconds": len(sound) / 16_000}, mel)


@pytest.fixture(scope="module")
def sounds() -> list[np.ndarray]:
    return [recording(samples, seed) for seed, samples in enumerate((31_234, 40_000, 52_345))]


@pytest.fixture(scope="module")
def collator(processor, sounds) -> Collator:
    return Collator(processor, tables_of([item(sounds[0])], english_words()), seed=0)


def test_own_length_and_packing_equal_the_standard_path(processor, model, sounds):
    tables, rng = tables_of([item(sounds[0])], english_words()), Random(0)
    rows = [item(sound) for sound in sounds]
    batch = Collator(processor, tables, seed=0)(rows, augmented=False)
    audio = encode(model, batch.mel, batch.frames).tokens
    embedded = model.get_input_embeddings()(batch.ids)
    embedded[batch.is_audio] = audio[torch.arange(audio.shape[1]) < batch.tokens[:, None]]
    hidden = model.model.language_model(
        inputs_embeds=embedded, attention_mask=batch.visible, position_ids=batch.positions
    ).last_hidden_state
    for row, sound in enumerate(sounds):
        packed = model.lm_head(hidden[row, :-1][batch.labels[row, 1:] != IGNORED])
        for asked in examples_of(ROW, rng):
            answer = answer_ids(processor, asked.answer)
            expected = standard_logits(processor, model, sound, asked.prompt, answer)
            mine, packed = packed[: len(answer)], packed[len(answer) :]
            # features are kept in half precision, hence not 1e-6
            torch.testing.assert_close(mine, expected, atol=2e-3, rtol=0)


def standard_logits(processor, model, sound, prompt: str, answer: list[int]) -> torch.Tensor:
    text = [chat_text(processor, prompt)]
    inputs = processor(text=text, audio=[sound], sampling_rate=16_000, return_tensors="pt")
    ids = torch.cat([inputs["input_ids"], torch.tensor([answer])], dim=1)
    inputs |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return model(**inputs).logits[0, -len(answer) - 1 : -1]


def test_frame_labels_follow_the_alignment(sounds, collator):
    batch = collator([item(sounds[0])], augmented=False)
    known = {name: int(batch.phones[0, frame]) for name, frame in (("a", 6), ("b", 13))}
    assert known == {"a": 1, "b": 2}
    assert batch.phones[0, 22] == IGNORED
    assert batch.phones[0, 4] == 0
    words = ["", *english_words()]
    assert [words[batch.words[0, token]] for token in (1, 3, 7, 11, 14)] == [
        "",
        "anna",
        "saw",
        "two",
        "dogs",
    ]


def test_speakers_and_moods_are_labelled_where_somebody_speaks(sounds, collator):
    batch = collator([item(sounds[0])], augmented=False)
    voices, moods = batch.voices[0].tolist(), batch.moods[0].tolist()
    assert voices[:2] == [IGNORED] * 2  # silence
    assert (voices[5], voices[13]) == (1, 0)  # m1, then f1
    assert moods[5] == moods[13] == 1
    assert moods[0] == batch.others[0, 0] == IGNORED


def test_somebody_else_is_labelled_wherever_anybody_speaks(sounds, collator):
    rows = [item(sounds[0]), item(sounds[0], ROW | {"speakers": 2})]
    others = collator(rows, augmented=False).others
    assert others[:, 5].tolist() == others[:, 13].tolist() == [0, 1]
    assert others[0, 0] == others[1, 0] == IGNORED


def test_a_head_learns_to_look_at_other_speakers(sounds, collator):
    batch = collator([item(sounds[0], ROW | {"speakers": 2})], augmented=False)
    size = batch.words.shape[1]
    voices, speech = batch.voices[0], batch.others[0] != IGNORED
    other = (voices[:, None] != voices).float() * 2 - 1
    scores = torch.where(speech[None, :], other, torch.zeros(size, size))[None]
    right, wrong = (float(_compared_loss(20 * sign * scores, batch)) for sign in (1, -1))
    undecided = 0.2 * 0.6931  # of silence, at a logit of 0
    assert right == pytest.approx(undecided, abs=1e-3)
    assert wrong == pytest.approx(0.5 * 20 + 0.7 * 20 + undecided, abs=1e-3)


def test_silence_outweighs_what_only_seems_to_be_somebody_else(sounds, collator):
    batch = collator([item(sounds[0], ROW | {"speakers": 2})], augmented=False)
    silent = (batch.words == 0)[:, None, :].expand(-1, batch.words.shape[1], -1)
    losses_at = [
        float(_compared_loss(silent * logit, batch)) for logit in (0.0, math.log(0.8 / 0.2), 5.0)
    ]
    assert losses_at[1] == min(losses_at)


def test_the_compared_scores_are_attention_logits_of_the_last_layer(model, sounds, collator):
    batch = collator([item(sounds[0])], augmented=False)
    layer, seen = model.model.audio_tower.layers[-1].self_attn, {}
    hook = layer.register_forward_hook(lambda _, __, out: seen.update(weights=out[1]))
    model.set_attn_implementation("eager")
    compared = encode(model, batch.mel, batch.frames).compared[0]
    model.set_attn_implementation("sdpa")
    hook.remove()
    logits = seen["weights"][0, -1, ::2, ::2].log()
    # a row of logits is known up to its softmax constant
    heard = int(batch.frames[0]) // 2
    mine, standard = compared[:heard, :heard], logits[:heard, :heard]
    mine, standard = (part - part[:, :1] for part in (mine, standard))
    torch.testing.assert_close(mine, standard, atol=1e-4, rtol=1e-4)


def test_everything_known_is_asked_and_nothing_else():
    asked = examples_of(ROW, Random(0))
    assert [example.answer for example in asked[:4]] == [
        "anna saw two dogs",
        "Anna sah zwei Hunde",
        "happy",
        "one",
    ]
    drawn = [one for seed in range(50) for one in examples_of(ROW, Random(seed))[4:]]
    marks = Mark(1, "saw", (True,)), Mark(3, "dog", (True,))
    assert Example("who saw the dogs", "anna", 1.5, marks) in drawn
    assert {"anna", "two", "two dogs", "unknown"} == {one.answer for one in drawn}
    assert examples_of(READING, Random(0)) == []


def test_a_reading_teaches_its_sounds_only(model, sounds, collator):
    batch = collator([item(sounds[0], READING), item(sounds[1], READING)], augmented=False)
    assert batch.sounds.tolist() == [1, 2, 1, 2]
    found = losses(model, Heads(tables_of([item(sounds[0])], english_words())), batch, Weights())
    assert found.sounds > 0
    silent = (found.text, found.phones, found.words, found.ctc, *found[6:])
    assert [part.item() for part in silent] == [0.0] * 10
    assert found.total.item() == pytest.approx(0.1 * found.sounds.item())


def test_a_label_weighs_more_than_a_word(sounds, collator):
    batch = collator([item(sounds[0])], augmented=False)
    weights = batch.weights[0][batch.labels[0] != IGNORED].tolist()
    assert weights[:14] == [1.0] * 5 + [1.0] * 5 + [5.0] * 4
    assert set(weights[14:]) == {1.5, 0.0}
    assert weights[-2:] == [0.0] * 2  # the list of words to look for


def test_marks_stand_on_the_words_that_name_something(processor, sounds, collator):
    batch = collator([item(sounds[0])] * 8, augmented=False)
    marked = batch.fits != IGNORED
    words = processor.tokenizer.batch_decode(batch.ids[marked].unsqueeze(1))
    known = [word for word, fit in zip(words, batch.fits[marked].tolist(), strict=True) if fit]
    assert {" anna", " dogs"} <= set(known) <= {" anna", " see", " saw", " dogs"}
    assert 0 in batch.fits[marked]
    assert set(batch.fits[marked].tolist()) <= {0, 1}
    many = ROW | {"facts": ROW["facts"] * (CLAUSES + 1)}
    assert (collator([item(sounds[0], many)], augmented=False).fits == IGNORED).all()


def test_what_is_sought_is_where_it_is_said(sounds, collator):
    batch = collator([item(sounds[0])] * 8, augmented=False)
    numbers, said = collator._tables.words, set()
    for row, column in (batch.sought != IGNORED).nonzero().tolist():
        [word] = [name for name, n in numbers.items() if n == batch.sought[row, column]]
        at = (batch.heard[row] == batch.sought[row, column]).nonzero().flatten()
        assert batch.is_audio[row, at].all()
        if word in ("anna", "saw", "dog"):
            said.add(word)
            tokens = at - batch.is_audio[row].nonzero()[0]
            spoken = "dogs" if word == "dog" else word
            assert (batch.words[row, tokens] == numbers[spoken]).all()
            assert len(at) == (batch.words[row] == numbers[spoken]).sum() > 0
        else:
            assert not len(at)
    assert said == {"anna", "saw", "dog"}


def test_a_head_of_the_decoder_learns_to_look_at_what_is_sought(model, sounds, collator):
    """The loss is that of the attention that the decoder really pays."""
    batch = collator([item(sound) for sound in sounds], augmented=False)
    decoder, attention = model.model.language_model, []
    model.set_attn_implementation("eager")
    try:
        audio = encode(model, batch.mel, batch.frames).tokens
        embedded = model.get_input_embeddings()(batch.ids)
        embedded[batch.is_audio] = audio[torch.arange(audio.shape[1]) < batch.tokens[:, None]]
        mask = torch.zeros(batch.visible.shape).masked_fill(~batch.visible, -1e9)
        output = decoder(
            inputs_embeds=embedded,
            attention_mask=mask,
            position_ids=batch.positions,
            output_hidden_states=True,
            output_attentions=True,
        )
    finally:
        model.set_attn_implementation("sdpa")
    shares = output.attentions[SEEKING_LAYER][:, -1]
    for row, column in (batch.sought != IGNORED).nonzero().tolist():
        there = batch.heard[row] == batch.sought[row, column]
        share = shares[row, column, there].sum() if there.any() else shares[row, column, 0]
        attention.append(-share.log())
    found = _sought_loss(decoder, batch, output.hidden_states[SEEKING_LAYER])
    torch.testing.assert_close(found, torch.stack(attention).mean(), atol=1e-4, rtol=1e-4)


def test_what_fits_is_learned_clause_by_clause(sounds, collator):
    batch = collator([item(sounds[0])] * 4, augmented=False)
    marked = batch.fits != IGNORED
    reading = torch.zeros(*batch.fits.shape, WIDTH)
    reading[..., 0] = torch.where(batch.fits == 1, 20.0, -20.0)
    head = torch.nn.Linear(WIDTH, CLAUSES)
    with torch.no_grad():
        head.weight.zero_()
        head.weight[0, 0] = 1.0
        head.bias.copy_(torch.tensor([0.0, -20.0, -20.0]))
    assert _fits_loss(head, batch, reading).item() == pytest.approx(0.0, abs=1e-6)
    wrong = _fits_loss(head, batch, -reading).item()
    assert wrong == pytest.approx(20 / CLAUSES, rel=1e-3)
    assert marked.any()


def test_another_microphone_has_a_tone_and_no_loudness():
    points = np.array([0.2, 0.0, -0.1, 0.1, 0.0, 0.0, 0.3])
    curve = _tone(points)
    assert curve.shape == (N_MELS,)
    assert curve.mean() == pytest.approx(0.0, abs=1e-6)
    assert curve[-1] - curve[0] == pytest.approx(0.1, abs=1e-6)
    assert np.abs(np.diff(curve)).max() < 0.3 * 6 / (N_MELS - 1) + 1e-6


def test_a_longer_vocal_tract_lowers_every_band():
    mel = np.zeros((3, N_MELS), np.float32)
    mel[:, 40] = 1.0
    lower = _warped(mel, 40 / 36)
    assert lower.argmax(axis=1).tolist() == [36] * 3
    assert _warped(mel, 1.0)[:, :79] == pytest.approx(mel[:, :79])


def test_unfused_attention_hides_the_same(model, sounds, collator):
    """The implementation that low precision trains with must not see answers that are to come."""
    heads = Heads(tables_of([item(sounds[0])], english_words()))
    batch = collator([item(sound) for sound in sounds], augmented=False)
    fused = losses(model, heads, batch, Weights())
    model.set_attn_implementation("eager")
    unfused = losses(model, heads, batch, Weights())
    model.set_attn_implementation("sdpa")
    torch.testing.assert_close(unfused, fused, atol=1e-4, rtol=1e-4)


def test_training_starts_from_an_exported_model(model, processor, tmp_path):
    model.save_pretrained(tmp_path)
    other = build_model(processor)
    start_from(other, tmp_path)
    for mine, theirs in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_one_step_lowers_the_loss(model, sounds, collator):
    heads = Heads(tables_of([item(sounds[0])], english_words()))
    batch = collator([item(sound) for sound in sounds], augmented=False)
    parameters = [tensor for tensor in model.parameters() if tensor.requires_grad]
    kept = [tensor.detach().clone() for tensor in parameters]
    optimiser = torch.optim.AdamW([*parameters, *heads.parameters()], lr=1e-3)
    before = losses(model, heads, batch, Weights())
    before.total.backward()
    optimiser.step()
    after = losses(model, heads, batch, Weights())
    assert after.total < before.total
    with torch.no_grad():
        for tensor, value in zip(parameters, kept, strict=True):
            tensor.copy_(value)


@pytest.mark.parametrize(("frames", "expected"), [(100, (50, 25)), (101, (51, 25)), (3, (2, 1))])
def test_encoder_lengths(frames: int, expected: tuple[int, int]) -> None:
    assert encoder_lengths(frames) == expected


def test_curriculum_hands_out_unused_items_first():
    items = [Item({"seconds": 2.0 + 0.01 * i}, np.zeros((1, 80), np.float16)) for i in range(10)]
    items.append(Item({"seconds": 20.0}, np.zeros((1, 80), np.float16)))
    curriculum = Curriculum(items, batch_seconds=4.0, seed=0)
    while curriculum.uses[:10].sum() < 10:
        curriculum.next_batch(0.0)
    assert curriculum.uses.tolist() == [1] * 10 + [0]
    assert curriculum.next_batch(1.0) == [items[10]]


def test_groups_hold_every_item_once(sounds):
    items = [Item({"seconds": float(s)}, np.zeros((1, 80), np.float16)) for s in range(1, 30)]
    groups = group_by_length(items, 20.0, Random(0))
    assert sorted(i.seconds for group in groups for i in group) == [float(s) for s in range(1, 30)]


def test_schedule_runs_from_short_to_all_and_cools_down():
    assert longest_seconds(0.0) < longest_seconds(0.3) < longest_seconds(0.9)
    assert rate_factor(0.0, 0) < rate_factor(0.1, 1000) == 1.0
    assert rate_factor(1.0, 9000) == pytest.approx(0.01)
    assert loss_weights(0.2).words > loss_weights(1.0).words > 0
