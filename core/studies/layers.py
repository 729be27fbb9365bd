"""What a calibration found: transfer entropies of layers, the layer chosen, and a preset of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import fmean

import yaml

from .. import __version__
from ..config import ReductionConfig
from ..records import Json, Seconds
from ..results.report import numbers

SCHEMA_VERSION = 1
WITHIN = 0.01
"""A cut counts as reached within one point, which is what `--reduce` promises."""


@dataclass(frozen=True, slots=True)
class LayerPoint:
    """Reduction in one layer at one level.

    Attributes:
        layer: where tokens go.
        asked: cut of prefill FLOPs.
        most: largest cut that this layer can give on the longest prompt of the model.
        cut: of these recordings; None where `most` is less than `asked`, so nothing was run.
        audio_tokens: left by the reduction.
        entropy: of the final features, in nats; None as `cut`.
        transfer_entropy: distance of `entropy` to the full model's, in nats.
    """

    layer: int
    asked: float
    most: float
    cut: float | None = None
    audio_tokens: int | None = None
    entropy: float | None = None
    transfer_entropy: float | None = None

    @property
    def reached(self) -> bool:
        """Whether these recordings could be cut so far in this layer."""
        return self.cut is not None and self.cut >= self.asked - WITHIN


@dataclass(frozen=True, slots=True)
class Calibration:
    """Everything that `fastadasp calibrate` found.

    Attributes:
        model: as the user called it, and `revision`, what fixes its weights.
        device, dtype, quantize: where and in what it ran, as in `RunConfig`.
        task: what it was asked.
        reduction: method, positions and size bias.
        layers: of the decoder.
        joint: whether entropies know the covariances of the channels.
        entropy: of the full model's final features, in nats.
        audio_tokens: of the full model.
        audio_s: seconds of audio.
        recordings: how many could be used, in whole or in part.
        failed: ids that could not, or in part; what was heard of them counts.
        points: by layer, then level.
    """

    model: str
    revision: str | None
    device: str
    dtype: str
    quantize: str | None
    task: str
    reduction: ReductionConfig
    layers: int
    joint: bool
    entropy: float
    audio_tokens: int
    audio_s: Seconds
    recordings: int
    failed: tuple[str, ...]
    points: tuple[LayerPoint, ...]

    @property
    def levels(self) -> tuple[float, ...]:
        """The cuts asked for."""
        return tuple(dict.fromkeys(point.asked for point in self.points))

    @property
    def chosen(self) -> int | None:
        """The layer of least transfer entropy, by the mean over the levels; of equals the first.

        Only a layer that reaches every level is chosen; None if there is none.
        """
        means = {
            layer: fmean(point.transfer_entropy or 0.0 for point in points)
            for layer, points in self._by_layer().items()
            if all(point.reached for point in points)
        }
        return min(means, key=lambda layer: (means[layer], layer), default=None)

    @property
    def start(self) -> float | None:
        """The chosen layer as a fraction of the depth, as presets give it."""
        return None if self.chosen is None else fraction(self.chosen, self.layers)

    def _by_layer(self) -> dict[int, list[LayerPoint]]:
        found: dict[int, list[LayerPoint]] = {}
        for point in self.points:
            found.setdefault(point.layer, []).append(point)
        return found

    def to_json(self) -> Json:
        """A plain dict."""
        data = {"schema_version": SCHEMA_VERSION, "version": __version__, **asdict(self)}
        reduction = data.pop("reduction")
        data |= {name: reduction[name] for name in ("method", "positions")}
        data["entropy_of"] = "joint" if data.pop("joint") else "channels"
        data |= {"levels": list(self.levels), "layer": self.chosen, "start": self.start}
        data["points"] = [_point(self, point) for point in self.points]
        return data


def fraction(layer: int, layers: int) -> float:
    """A layer as a fraction of the depth that `ReductionConfig.first_layer` reads back."""
    return round(layer / layers, 6)


def preset(found: Calibration, name: str, command: str) -> str:
    """The text of a preset file with the chosen layer, for `--preset FILE`.

    Its level is the highest that was asked for: what a layer can bear shows there.

    Args:
        found: with a layer chosen.
        name: of the preset.
        command: what made it, for the comment on top.
    """
    level, how = max(found.levels), found.reduction
    said = {
        "name": name,
        "description": f"One layer for {found.task}, calibrated on {found.model}.",
        "tasks": [found.task],
        "method": how.method,
        "schedule": "once",
        "reduce": level,
        "start": found.start,
        "positions": how.positions,
        "size_bias": how.size_bias,
        "reason": (
            f"Layer {found.chosen} of {found.layers} has the least transfer entropy of"
            f" {found.recordings} recordings (fastadasp calibrate, numbers above)."
        ),
    }
    body = yaml.safe_dump(
        {key: value for key, value in said.items() if value is not None},
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )
    return "".join(f"# {_printable(line)}\n" for line in _header(found, command)) + body


def _header(found: Calibration, command: str) -> Iterator[str]:
    revision = f" ({found.revision})" if found.revision else ""
    failed = f", {len(found.failed)} failed" if found.failed else ""
    weights = numbers(found.dtype, found.quantize)
    yield command
    yield (
        f"fastadasp {__version__}, {found.model}{revision}, {found.layers} decoder layers,"
        f" {weights}; {found.recordings} recordings{failed}, {found.audio_s:.1f} s,"
        f" {found.audio_tokens} audio tokens"
    )
    kind = "joint" if found.joint else "independent channels"
    yield f"Gaussian entropy in nats ({kind}) of the full model's features: {found.entropy:.4f}"
    yield "transfer entropy in nats, by layer and cut of prefill FLOPs:"
    for point in found.points:
        mark = " (chosen)" if point.layer == found.chosen else ""
        yield f"  layer {point.layer} at {point.asked:.0%}: {_outcome(point)}{mark}"


def _outcome(point: LayerPoint) -> str:
    if point.transfer_entropy is None:
        return f"out of reach, {point.most:.1%} at most"
    short = "" if point.reached else f", but only {point.cut:.1%} were cut"
    return f"{point.transfer_entropy:.4f}{short}"


def _printable(text: str) -> str:
    """One line that YAML takes, whatever was typed or stands in a path."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _point(found: Calibration, point: LayerPoint) -> Json:
    return {
        **asdict(point),
        "start": fraction(point.layer, found.layers),
        "reached": point.reached,
        "chosen": point.layer == found.chosen,
    }
