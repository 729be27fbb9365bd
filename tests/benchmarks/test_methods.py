"""The table of methods, and the methods that were tried and lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import tried
from benchmarks.methods import table
from core.methods import AudioView, get_method
from tests.telling import telling

ROOT = Path(__file__).parents[2]
NAMES = ("Causal", "LastQuery", "KeyNorm", "Sizes", "SilenceFirst", "Capped")


def view(lengths: tuple[int, ...] = (40, 23)) -> AudioView:
    draw = torch.Generator().manual_seed(0)
    shape = len(lengths), max(lengths)
    return AudioView(
        lengths,
        torch.randn(shape[0], 2, shape[1], 4, generator=draw),
        torch.randn(*shape, 8, generator=draw),
        telling(torch.rand(shape, generator=draw)),
        torch.rand(shape, generator=draw),
        torch.ones(shape),
    )


@pytest.mark.parametrize("name", NAMES)
def test_what_was_tried_keeps_what_is_asked(name: str) -> None:
    method = get_method(f"{ROOT / 'benchmarks' / 'tried.py'}:{name}")
    plan = method.plan(view(), (25, 10))
    assert plan.kept == (25, 10)
    assert plan.slot.max(1).values.tolist() == [24, 9]


def test_no_chain_is_longer_than_six_while_there_is_another_way() -> None:
    alike = view((40,))
    alike.keys[:] = 1.0  # all pairs tie: one chain from the first
    chains = tried.Capped().plan(alike, (20,)).slot[0].bincount()
    assert chains.max() == 6
    assert tried.Capped().plan(alike, (3,)).kept == (3,)


def test_weights_of_the_mean() -> None:
    seen = view((40,))
    assert seen.received is not None
    behind = torch.arange(40, 0, -1)
    torch.testing.assert_close(tried.Causal().weights(seen), seen.received() / behind)
    assert tried.LastQuery().weights(seen) is seen.last_query
    norms = seen.keys[0].permute(1, 0, 2).flatten(1).norm(dim=1)
    torch.testing.assert_close(tried.KeyNorm().weights(seen)[0], norms)


def point(method: str | None, asked: float, cut: float, value: float) -> dict[str, Any]:
    return {
        "method": method,
        "schedule": method and "once",
        "positions": method and "keep",
        "start_layer": method and 2,
        "asked": asked,
        "cuts_cache": False,
        "spent": {"cut": cut, "kv_bytes": 1, "kv_bytes_full": 2},
        "scores": {"wer": {"value": value, "low": value - 1, "high": value + 1}},
    }


def test_a_table_has_a_row_for_a_setting_and_a_column_for_a_level() -> None:
    block = {
        "task": "asr",
        "of": "set",
        "recordings": 3,
        "measures": {"wer": {"name": "wer", "title": "WER %"}},
        "points": [point(None, 0.0, 0.0, 5.0), point("ward", 0.3, 0.3, 6.0)],
    }
    more = {**block, "points": [point(None, 0.0, 0.0, 5.0), point("ward", 0.5, 0.42, 7.0)]}
    assert table([block, more]).splitlines() == [
        "asr, 3 recordings of `set`: WER %, full model 5.0 [4.0, 6.0].",
        "",
        "| method | schedule | from | positions | 30% | 50% |",
        "| --- | --- | --- | --- | --- | --- |",
        "| `ward` | once | 2 | keep | 6.0 [5.0, 7.0] | 7.0 [6.0, 8.0] at 42% |",
    ]


def test_evaluations_of_a_set_become_one_table(tmp_path: Path) -> None:
    from typer import Typer

    from benchmarks.methods import main

    app, files = Typer(), []
    app.command()(main)
    for number, task in enumerate(("asr", "asr", "st")):
        measures = {"wer": {"name": "wer", "title": "WER %"}}
        points = [point(None, 0.0, 0.0, 5.0), point(f"m{number}", 0.3, 0.3, 6.0)]
        block = {"task": task, "of": "a", "recordings": 3, "measures": measures, "points": points}
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps({"blocks": [block]}))
    found = CliRunner().invoke(app, [str(path) for path in files])
    assert found.exit_code == 0, found.output
    assert found.stdout.count("full model") == 2
    assert "`m0`" in found.stdout.split("\n\nst,")[0]
    assert "`m1`" in found.stdout.split("\n\nst,")[0]
