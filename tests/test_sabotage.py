"""A reduction that does not happen, whatever breaks it, ends every command loudly.

Each way of breaking it is one that a new version of a library, or somebody's own method, can take.
What is broken here must never end in exit code 0 nor in a record, a row or a score of a cut.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from core.errors import StartError
from core.methods import get_method
from core.reduction import PromptCache, Reduction, attach, decoding, layers, reducing, why_not
from core.reduction.growing import GrowingLayer
from core.reduction.layout import PromptState
from core.reduction.masks import Masks
from fastadasp_cli.main import app
from tests.test_reduction import counts, run_prefill
from tests.tiny import prompt_batch

AUDIO = Path(__file__).parents[1] / "examples" / "audio"
CUT = ("--preset", "none", "--method", "fastadasp", "--schedule", "constant", "--reduce", "0.5")

COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("run", str(AUDIO / "garden.ogg"), *CUT),
    "profile": ("profile", str(AUDIO / "garden.ogg"), *CUT[:-1], "0,0.5", "--json"),
    "eval": ("eval", "{manifest}", *CUT[2:-1], "0,0.5", "--json"),
    "bench": (
        *("bench", "--shape", "small", "--seconds", "2", "--num-beams", "1", "--tokens", "2"),
        *("--rounds", "1", "--against", "none", "--no-memory", "--json"),
    ),
    "models check": ("models", "check", "embedded", "--json"),
}


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that was proven before is proven again."""
    attach._known.clear()


@pytest.fixture
def command(tmp_path: Path) -> Callable[[str], Result]:
    """`command(name)` runs one of COMMANDS in this process."""
    manifest = tmp_path / "set.jsonl"
    row = {"audio_filepath": str(AUDIO / "garden.ogg"), "text": "the princess noticed"}
    manifest.write_text(json.dumps(row))

    def run(name: str, *more: str) -> Result:
        words = [word.format(manifest=manifest) for word in COMMANDS[name]]
        return CliRunner().invoke(app, [*words, *more])

    return run


def failed(result: Result) -> None:
    """Exit code 1 or 3, a reason, and nothing said to be cut."""
    assert result.exit_code in (1, 3), result.output
    assert "Traceback" not in result.output
    for line in filter(None, result.stdout.splitlines()):
        found = json.loads(line)
        if "blocks" in found:
            (points,) = (block["points"] for block in found["blocks"])
            assert points[-1]["failed"] and not points[-1]["spent"]["cut"]
            continue
        assert found["status"] == "failed"
        assert found["error"]["message"]
        assert not found["flops"]["reduction"] and not found["memory"]["reduction"]


@pytest.mark.parametrize("name", COMMANDS)
def test_unbroken_they_go_well(command: Callable[[str], Result], name: str) -> None:
    result = command(name)
    assert result.exit_code == 0, result.output
    assert result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_hook_that_never_fires(
    command: Callable[[str], Result], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def idle(layer: Any, plain: Any, index: int, *args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs)

    monkeypatch.setattr(layers, "_forward", idle)
    result = command(name)
    failed(result)
    assert "layer 0 was not handed the KV cache" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_a_layer_that_gets_no_cache(
    command: Callable[[str], Result], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = layers._forward

    def forgetful(layer: Any, plain: Any, index: int, *args: Any, **kwargs: Any) -> Any:
        if index == 1:
            kwargs = {key: None if "cache" in key else one for key, one in kwargs.items()}
            kwargs.pop("past_key_values", None)
        return own(layer, plain, index, *args, **kwargs)

    monkeypatch.setattr(layers, "_forward", forgetful)
    result = command(name)
    failed(result)
    assert "layer 1" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_a_cache_that_holds_the_unmerged_keys_too(
    command: Callable[[str], Result], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = GrowingLayer.update

    def hoarding(self: Any, keys: Any, values: Any, *more: Any, **named: Any) -> Any:
        found = own(self, keys, values, *more, **named)
        if keys.shape[2] > 1:
            own(self, keys[:, :, :1], values[:, :, :1])
        return found

    monkeypatch.setattr(GrowingLayer, "update", hoarding)
    result = command(name)
    failed(result)
    assert "tokens and was to hold" in result.output


METHODS = """
import torch
from core.merge import Plan
from core.methods import Method

class Generous(Method):
    "Says that it keeps what is asked for, and keeps one token more."
    name = "generous"

    def plan(self, view, kept):
        more = [count + 1 for count in kept]
        slot = torch.arange(view.states.shape[1]).expand(len(kept), -1)
        slot = torch.minimum(slot, torch.tensor(more)[:, None] - 1)
        return Plan(slot, torch.ones(slot.shape), tuple(kept), slot.shape[1] - min(kept))

class DropAll(Method):
    "Says that it keeps what is asked for, and drops everything."
    name = "drop-all"

    def plan(self, view, kept):
        gone = torch.zeros(view.states.shape[:2], dtype=torch.bool)
        return Plan.from_kept(gone, kept)

class Frank(Method):
    "Keeps one token more, and says so."
    name = "frank"

    def plan(self, view, kept):
        stays = torch.arange(view.states.shape[1]) <= torch.tensor(kept)[:, None]
        return Plan.from_kept(stays, [count + 1 for count in kept])
"""


@pytest.mark.parametrize("method", ["Generous", "DropAll", "Frank"])
@pytest.mark.parametrize("name", ["run", "profile", "eval", "bench"])
def test_a_method_that_does_not_keep_its_word(
    command: Callable[..., Result], name: str, method: str, tmp_path: Path
) -> None:
    file = tmp_path / "own.py"
    file.write_text(METHODS)
    result = command(name, "--method", f"{file}:{method}")
    failed(result)
    assert "were to stay" in result.output or "the method kept" in result.output


@pytest.mark.parametrize("keyword", ["cache", "past_key_values", "what_was_read"])
@torch.no_grad()
def test_the_name_of_the_keyword_does_not_matter(
    gqa_model: Any, keyword: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = gqa_model.get_decoder()
    batch = prompt_batch(gqa_model, [23, 9], [3, 5], [4, 7])
    kept = counts(batch, "constant", 1, [0.35, 0.5])
    reduction = Reduction(get_method("fastadasp"))
    with reducing(stack):
        expected = run_prefill(gqa_model, batch, kept, reduction)
    own, seen = layers._forward, set[str]()

    def under_another_name(layer: Any, forward: Any, *args: Any, **kwargs: Any) -> Any:
        given = next(key for key, one in kwargs.items() if isinstance(one, PromptCache))
        kwargs[keyword] = kwargs.pop(given)

        def named_again(plain: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                seen.add(keyword)
                kwargs[given] = kwargs.pop(keyword)
                return plain(*args, **kwargs)

            return call

        attend = layer.self_attn.forward
        with monkeypatch.context() as patch:
            patch.setattr(layer.self_attn, "forward", named_again(attend))
            return own(layer, named_again(_with(patch, layer, attend, forward)), *args, **kwargs)

    monkeypatch.setattr(layers, "_forward", under_another_name)
    with reducing(stack):
        found = run_prefill(gqa_model, batch, kept, reduction)
    assert seen and torch.equal(found.logits, expected.logits)
    assert found.observed == expected.observed
    assert [row.kept for row in found.observed] == kept


def _with(patch: Any, layer: Any, attend: Any, forward: Callable[..., Any]) -> Callable[..., Any]:
    """A layer's own forward, inside which its attention is called by its own names."""

    def call(*args: Any, **kwargs: Any) -> Any:
        patch.setattr(layer.self_attn, "forward", attend)
        return forward(*args, **kwargs)

    return call


class LosesItsCache(torch.nn.Module):
    """A decoder that keeps the cache to itself."""

    def __init__(self, stack: Any) -> None:
        super().__init__()
        self.stack, self.layers = stack, stack.layers

    def forward(self, past_key_values: Any = None, use_cache: bool = False, **kwargs: Any) -> Any:
        return self.stack(**kwargs, use_cache=False)


@torch.no_grad()
def test_a_model_that_hands_its_layers_no_cache_is_refused(gqa_model: Any) -> None:
    decoder = LosesItsCache(gqa_model.get_decoder())
    with pytest.raises(StartError, match="layer 0 was not handed the KV cache of the prompt"):
        why_not(decoder, gqa_model.get_input_embeddings())


@torch.no_grad()
def test_a_check_that_merged_nothing_does_not_pass(
    gqa_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PromptState, "merged", lambda self, *_: self)
    reason = why_not(gqa_model.get_decoder(), gqa_model.get_input_embeddings())
    assert reason is not None and "cannot be taken apart" in reason


@torch.no_grad()
def test_a_check_sees_a_mask_that_is_not_read(
    gqa_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Masks, "prefill", lambda *_: None)
    reason = why_not(gqa_model.get_decoder(), gqa_model.get_input_embeddings())
    assert reason is not None and "differ from their own forward" in reason


@torch.no_grad()
def test_a_check_sees_positions_that_are_not_kept(
    gqa_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = layers._rotary
    monkeypatch.setattr(layers, "_rotary", lambda all, state: own(all, replace(state, origin=None)))
    reason = why_not(gqa_model.get_decoder(), gqa_model.get_input_embeddings())
    assert reason is not None and "differ from their own forward" in reason


@torch.no_grad()
def test_another_attention_backend_than_the_named_one_is_noticed(
    gqa_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_with_backend", lambda config, backend: config)
    with pytest.raises(StartError, match="does not attend as its config says"):
        why_not(gqa_model.get_decoder(), gqa_model.get_input_embeddings())
