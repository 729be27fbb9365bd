from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.results.scoring import Estimate, Measure, Score
from core.studies.plot import draw, lines
from core.studies.points import BlockResult, Evaluation, Point, Spent

WER = Measure("wer", "WER %", True, "jiwer")
BLEU = Measure("bleu", "BLEU", False, "nrefs:1")


def point(schedule: str | None, cut: float, value: float, measure: Measure = WER) -> Point:
    spent = Spent(cut, cut, 1 - cut, 0.0, 100, 80, 64, 48, 6.0, 0.1, 0.1, 0.1)
    method = schedule and "fastadasp"
    start = None if schedule is None else 0
    score = Score(measure, Estimate(value, value - 0.4, value + 0.5))
    return Point("p", {}, method, schedule, schedule and "keep", start, cut, spent, (score,))


def evaluation() -> Evaluation:
    blocks = []
    for task, measure, scale in (("asr", WER, 1), ("st", BLEU, -1)):
        points = [point(None, 0.0, 5 + scale, measure)]
        for schedule, slope in (("constant", 6), ("once", 4)):
            points += [
                point(schedule, cut, 5 + scale * (1 + slope * cut**2), measure)
                for cut in (0.3, 0.1, 0.2)
            ]
        blocks.append(BlockResult("speech", "s", task, "en", None, "whole", 40, 0, tuple(points)))
    return Evaluation("embedded", "r1", "cpu", "float32", None, 1, 50, 0, tuple(blocks))


def test_a_line_for_each_setting_in_order_of_the_measured_cut() -> None:
    found = lines(evaluation().blocks[0].points)
    assert [name for name, _ in found] == ["fastadasp constant", "fastadasp once"]
    assert [one.spent.cut for one in found[0][1]] == [0.1, 0.2, 0.3]
    assert lines([point(None, 0.0, 1.0)]) == []


@pytest.mark.parametrize(("name", "magic"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_a_picture_is_drawn(tmp_path: Path, name: str, magic: bytes) -> None:
    pytest.importorskip("matplotlib")
    draw(evaluation(), tmp_path / name)
    data = (tmp_path / name).read_bytes()
    assert data.startswith(magic)
    assert len(data) > 10_000


def test_an_interval_need_not_hold_its_value(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    odd = point("once", 0.2, 5.0)
    score = replace(odd.scores[0], estimate=Estimate(5.0, 5.1, 5.3))
    found = evaluation()
    blocks = (replace(found.blocks[0], points=(point(None, 0, 5), replace(odd, scores=(score,)))),)
    draw(replace(found, blocks=blocks), tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


def test_up_is_better_in_every_panel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = pytest.importorskip("matplotlib.figure")
    seen = []
    monkeypatch.setattr(figures.Figure, "savefig", lambda self, *_, **__: seen.append(self))
    draw(evaluation(), tmp_path / "a.png")
    errors, points = seen[0].axes
    assert errors.yaxis_inverted()
    assert "up is better" in errors.get_ylabel()
    assert not points.yaxis_inverted()
    [legend] = seen[0].legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "full model",
        "fastadasp constant",
        "fastadasp once",
    ]
