"""Rooms in which the text suffers from the cut: beyond 30 % the last word of each line is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from core.config import RunConfig
from core.errors import UsageError
from core.models.base import Facts
from core.records import Hypothesis, Segment
from tests.fakes import COST, FakeEngine, FakeStages

FACTS = Facts(16_000, 30.0, None, 25.0, ("asr", "st", "er", "sqa", "ac"), ("en",), ("de",))


class LevelEngine(FakeEngine):
    """Echoes, less well the more is cut; costs what was asked for."""

    def __init__(self, log: list[Any], reduce: float) -> None:
        super().__init__(log)
        self._reduce = reduce

    def _answer(self, segment: Segment, size: int) -> Hypothesis:
        found = super()._answer(segment, size)
        text = found.text.rsplit(" ", 1)[0] if self._reduce > 0.3 else found.text
        reached = min(self._reduce, 0.4)
        left = 1 - reached
        flops, kept = round(COST.prefill_full_flops * left), round(COST.audio_in * left)
        cost = replace(COST, prefill_flops=flops, audio_kept=kept)
        warnings = ("reduction_capped:0.4",) if reached < self._reduce else ()
        return replace(found, text=text, cost=cost, warnings=warnings)


class LevelStages(FakeStages):
    """Fake rooms with `LevelEngine`; layer 5 and deeper are refused."""

    def start(self, config: RunConfig) -> tuple[Any, Any]:
        if (config.reduction.start_layer or 0) >= 5:
            raise UsageError(f"layer {config.reduction.start_layer} is too deep")
        model, _ = super().start(config)
        self.log.pop()
        return model, self._levelled(config)

    @contextmanager
    def _levelled(self, config: RunConfig) -> Iterator[LevelEngine]:
        self.log.append(f"{config.task} {config.reduction.schedule} {config.reduction.reduce:g}")
        yield LevelEngine(self.log, config.reduction.reduce)


def fake_model(revision: str | None = "r1", **changes: Any) -> Any:
    """What an evaluation asks of a loaded model."""
    return SimpleNamespace(
        facts=replace(FACTS, **changes), revision=revision, device="cpu", dtype="torch.float32"
    )


def make_set(folder: Path, rows: Mapping[str, Mapping[str, Any]]) -> Path:
    """A folder with a manifest; a recording's `says` is what is heard, `text` when left out."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, row in rows.items():
        given = dict(row)
        heard = given.pop("says", given.get("text")) or ""
        (folder / name).write_text(heard, encoding="utf-8")
        lines.append(json.dumps({"audio_filepath": name, **given}, ensure_ascii=False))
    (folder / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder
