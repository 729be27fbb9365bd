"""Tables of `docs/methods.md` out of evaluations: one for each set and task, a row for a setting.

`python -m benchmarks.methods OUT/*/eval.json` prints Markdown. Evaluations of the same set and task
are put together; the full model stands once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Block = dict[str, Any]
Point = dict[str, Any]
Setting = tuple[str, str, str, str]

_FAR = 0.01


def main(
    evaluations: Annotated[list[Path], typer.Argument(help="eval.json files.", exists=True)],
) -> None:
    """Print one Markdown table for each set and task."""
    together: dict[tuple[str, str], list[Block]] = {}
    for path in evaluations:
        for block in json.loads(path.read_text())["blocks"]:
            together.setdefault((block["task"], block["of"]), []).append(block)
    typer.echo("\n\n".join(table(blocks) for blocks in together.values()))


def table(blocks: Sequence[Block]) -> str:
    """One table: levels in columns, the task's first measure in the cells."""
    first = blocks[0]
    measure = next(iter(first["measures"].values()))
    points = [point for block in blocks for point in block["points"]]
    reduced = [point for point in points if point["method"] is not None]
    levels = sorted({point["asked"] for point in reduced})
    rows: dict[Setting, dict[float, str]] = {}
    for point in reduced:
        rows.setdefault(_setting(point), {})[point["asked"]] = _cell(point, measure["name"])
    full = _interval(points[0]["scores"][measure["name"]])
    lines = [
        f"{first['task']}, {first['recordings']} recordings of `{first['of']}`:"
        f" {measure['title']}, full model {full}.",
        "",
        _line(["method", "schedule", "from", "positions", *(f"{level:.0%}" for level in levels)]),
        _line(["---"] * (4 + len(levels))),
    ]
    lines += [
        _line([*setting, *(cells.get(level, "") for level in levels)])
        for setting, cells in rows.items()
    ]
    return "\n".join(lines)


def _setting(point: Point) -> Setting:
    start = point["start_layer"]
    inside = point["schedule"] not in (None, "input")
    layer = str(start) if inside and start is not None else ""
    return (
        f"`{point['method']}`",
        "KV cache" if point["cuts_cache"] else point["schedule"],
        layer,
        point["positions"] or "",
    )


def _cell(point: Point, name: str) -> str:
    """The score, and what was cut where that is not what was asked for."""
    spent = point["spent"]
    cut = 1 - spent["kv_bytes"] / spent["kv_bytes_full"] if point["cuts_cache"] else spent["cut"]
    found = _interval(point["scores"][name])
    return found if abs(cut - point["asked"]) <= _FAR else f"{found} at {cut:.0%}"


def _interval(score: dict[str, float]) -> str:
    return f"{score['value']:.1f} [{score['low']:.1f}, {score['high']:.1f}]"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    typer.run(main)
