"""Quality against measured cost as a picture: one panel for each set and task.

Up is better in every panel: an axis that counts errors is turned over. matplotlib is an extra and
imported inside; no window is ever opened.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..results.files import replace_file
from .points import BlockResult, Evaluation, Point

_COLUMNS = 3
_PANEL = (4.6, 3.5)  # inches
_DODGE = 0.35  # points of cut between lines that measured the same
# Okabe and Ito's colours, which colour-blind people tell apart, without the yellow
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = "osD^vPX"
_DPI = 160
Line = tuple[str, list[Point]]


@contextmanager
def _no_list_of_fonts() -> Iterator[None]:
    """matplotlib keeps one below the home folder: here it gets a folder that goes again."""
    if "MPLCONFIGDIR" in os.environ or "matplotlib" in sys.modules:
        yield
        return
    with TemporaryDirectory(ignore_cleanup_errors=True) as place:
        os.environ["MPLCONFIGDIR"] = place
        try:
            yield
        finally:
            del os.environ["MPLCONFIGDIR"]


@_no_list_of_fonts()
def draw(found: Evaluation, path: Path) -> None:
    """Draw an evaluation into a file, whole or not at all; blocks without scores are left out.

    Args:
        found: what to draw.
        path: its extension says in which format.
    """
    from io import BytesIO

    from matplotlib.figure import Figure

    blocks = [block for block in found.blocks if block.points[0].scores]
    columns = 2 if len(blocks) == 4 else max(1, min(_COLUMNS, len(blocks)))
    rows = max(1, -(-len(blocks) // columns))
    size = (_PANEL[0] * columns, _PANEL[1] * rows + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flatten())
    for axis, block in zip(axes, blocks, strict=False):
        _panel(axis, block)
    for axis in axes[len(blocks) :]:
        axis.set_visible(False)
    _legend(figure, axes)
    revision = f" ({found.revision})" if found.revision else ""
    figure.suptitle(f"{found.model}{revision}: quality against cost", fontsize=11)
    picture = BytesIO()
    figure.savefig(picture, format=path.suffix[1:].lower(), dpi=_DPI)
    replace_file(path, picture.getvalue())


def _panel(axis: Any, block: BlockResult) -> None:
    from matplotlib.ticker import MultipleLocator

    full = block.points[0].scores[0]
    measure, level = full.measure, full.estimate
    axis.axhspan(level.low, level.high, color="0.5", alpha=0.13, linewidth=0)
    axis.axhline(level.value, color="0.35", linestyle="--", linewidth=1.2, label="full model")
    found = lines(block.points)
    for index, (name, points) in enumerate(found):
        shift = _DODGE * (index - (len(found) - 1) / 2)
        _line(axis, name, points, index, shift)
    if measure.lower_is_better:
        axis.invert_yaxis()
    note = " (turned over: up is better)" if measure.lower_is_better else ""
    axis.set_ylabel(measure.title + note, fontsize=9)
    axis.set_xlabel("prefill FLOPs cut, measured, %", fontsize=9)
    named = block.of if block.of == block.task else f"{block.of}, {block.task}"
    axis.set_title(f"{named}, {block.recordings} recordings", fontsize=10)
    axis.set_xlim(left=0)
    axis.xaxis.set_major_locator(MultipleLocator(10))
    axis.tick_params(labelsize=8)
    axis.grid(True, color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _line(axis: Any, name: str, points: Sequence[Point], index: int, shift: float) -> None:
    cuts = [100 * point.spent.cut + shift for point in points]
    values = [point.scores[0].estimate for point in points]
    colour, marker = _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]
    low, high = [value.low for value in values], [value.high for value in values]
    # no error bars of matplotlib's: they refuse an interval that does not hold its value
    axis.vlines(cuts, low, high, color=colour, linewidth=1)
    axis.plot([*cuts, *cuts], [*low, *high], "_", color=colour, markersize=6)
    axis.plot(
        cuts,
        [value.value for value in values],
        label=name,
        color=colour,
        marker=marker,
        markersize=4.5,
        linewidth=1.4,
    )


def _legend(figure: Any, axes: Sequence[Any]) -> None:
    """One for all panels; a line that several of them have is named once."""
    named: dict[str, Any] = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)
    figure.legend(
        named.values(), named, loc="outside lower center", ncols=4, fontsize=9, frameon=False
    )


def lines(points: Sequence[Point]) -> list[Line]:
    """The reduced points by what they share beside the level, in order of the measured cut.

    Those that cut the KV cache alone have no place on an axis of prefill FLOPs.
    A line's name says only what tells it from the others; a method is always named.
    """
    reduced = [point for point in points if point.method is not None and not point.cuts_cache]
    by_setting: dict[tuple[str, ...], list[Point]] = {}
    for point in reduced:
        by_setting.setdefault(_setting(point), []).append(point)
    differs = [len(set(column)) > 1 for column in zip(*by_setting, strict=True)]
    return [
        (_name(setting, differs), sorted(found, key=lambda point: point.spent.cut))
        for setting, found in by_setting.items()
    ]


def _setting(point: Point) -> tuple[str, ...]:
    layer = "" if point.start_layer is None else f"from layer {point.start_layer}"
    return (str(point.method), str(point.schedule), str(point.positions), layer)


def _name(setting: Sequence[str], differs: Sequence[bool]) -> str:
    method, *rest = setting
    schedule, *others = zip(rest, differs[1:], strict=True)
    return ", ".join(
        [f"{method} {schedule[0]}", *(word for word, shown in others if shown and word)]
    )
