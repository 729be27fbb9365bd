"""`calibrate`: the layer for the one-layer schedule, by transfer entropy.

FastAdaSP (arXiv 2410.03007, Table 6 and the text on layer selection) takes the layer i of least

    TE(i) = | H(F_final) - H(F_final | reduction at layer i) |

The feature dump of its published code says what F is: the states of the audio tokens alone, tokens
of all recordings pooled, a merged token counted once like any other. H is the Gaussian entropy of
`entropy.GaussianEntropy`. What the paper leaves open is decided here, and differs where said:

- F is taken after the decoder's last norm: what the head reads. The code dumps the last layer's
  output before the norm, where a few channels of huge values decide the sum.
- Every layer is compared at the same cut of prefill FLOPs, so a deeper layer removes more tokens;
  a layer that cannot reach the cut is not compared. The paper does not say what it held equal; its
  numbers hardly rise with depth, as if every layer had removed the same share.
- Of several levels the mean counts.

Every batch is encoded once and prefilled once in full and once for each layer and level; nothing
is decoded, and no feature is kept: memory is that of the moments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from ..config import RunConfig
from ..engine import Engine
from ..engine.features import AudioFeatures, audio_features
from ..errors import FastAdaSPError, TranscriptionError, UsageError
from ..models.base import SpeechLM
from ..pipeline import Event, run
from ..records import Hypothesis, Recording, Seconds, Segment, Transcript
from ..results.store import MemorySink
from ..stages import Rooms, Transcriber
from .entropy import GaussianEntropy
from .groups import by_halves, groups
from .layers import Calibration, LayerPoint

FULL = (None, 0.0)
_GROUP = 8
Place = tuple[int | None, float]
"""Layer and level; `FULL` for the model as it is."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is compared.

    Attributes:
        levels: cuts of prefill FLOPs, at least one.
        layers: candidates; empty = all.
        joint: see `GaussianEntropy`.
    """

    levels: tuple[float, ...]
    layers: tuple[int, ...] = ()
    joint: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A batch went through the decoder once more.

    Attributes:
        place: where it was reduced.
        seconds: of its audio.
        places: how often it goes through the decoder in all.
    """

    place: Place
    seconds: Seconds
    places: int


Watch = Callable[[Event | Step], None]


def calibrate(
    search: Search,
    config: RunConfig,
    recordings: Sequence[Recording],
    lm: SpeechLM,
    watch: Watch = lambda event: None,
) -> Calibration:
    """Transfer entropy of every layer at every level.

    Args:
        search: layers and levels.
        config: task, method, positions and all else; level, layer and schedule are replaced.
        recordings: found, unread. One that fails is told to `watch` and named in the result.
        lm: the loaded model.
        watch: told of all that happens.

    Raises:
        UsageError: the model cannot do what is asked, or no layer can cut so much.
        FastAdaSPError: no recording could be used.
    """
    probe = _Probe(search, config, lm, watch)
    report = run(config, recordings, _Nowhere(), on_event=watch, stages=_OneProbe(lm, probe))
    used = report.ok + report.partial
    if not used:
        raise FastAdaSPError("no recording could be used, so there is no layer to choose")
    full = probe.tallies[FULL].entropy
    entropy = _nats(full)
    return Calibration(
        model=config.model,
        revision=lm.revision,
        device=str(lm.device),
        dtype=str(lm.dtype).removeprefix("torch."),
        quantize=config.quantize,
        task=config.task,
        reduction=replace(config.reduction, schedule="once"),
        layers=lm.decoder_shape.layers,
        joint=search.joint,
        entropy=entropy,
        audio_tokens=full.count,
        audio_s=round(report.audio_s, 3),
        recordings=used,
        failed=tuple(name for name, _ in report.failures),
        points=tuple(probe.points(entropy)),
    )


def _nats(found: GaussianEntropy) -> float:
    try:
        return found.nats()
    except ValueError:
        raise UsageError(
            f"{found.count} audio tokens of {found.channels} channels are too few for an entropy:"
            " give more recordings, or leave out --entropy joint"
        ) from None


class _Nowhere(MemorySink):
    """Records are not what a calibration wants."""

    def write(self, record: Transcript) -> Transcript:
        """Forget the record."""
        return record


class _OneProbe(Rooms):
    """The real stages, with a probe where the engine is."""

    def __init__(self, lm: SpeechLM, probe: _Probe) -> None:
        self._lm = lm
        self._probe = probe

    def start(self, config: RunConfig) -> tuple[SpeechLM, AbstractContextManager[Transcriber]]:
        """What is there."""
        return self._lm, self._probe


@dataclass(slots=True)
class _Tally:
    """Sums at one place."""

    entropy: GaussianEntropy
    full_flops: int = 0
    flops: int = 0

    def merge(self, other: _Tally) -> None:
        self.entropy.merge(other.entropy)
        self.full_flops += other.full_flops
        self.flops += other.flops


class _Probe:
    """Stands in for the engine: prefills segments at every place, and answers nothing."""

    def __init__(self, search: Search, config: RunConfig, lm: SpeechLM, watch: Watch) -> None:
        layers = search.layers or tuple(range(lm.decoder_shape.layers))
        self._engines = {layer: Engine(lm, _at(config, layer)) for layer in layers}
        self._first = self._engines[layers[0]]
        self._search = search
        self._watch = watch
        reached = [place for place in self._places() if self._reaches(place)]
        _check_reach(max(search.levels), self._engines)
        self.tallies = {place: self._tally() for place in (FULL, *reached)}

    def __enter__(self) -> Self:
        self._first.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._first.__exit__(kind, error, trace)

    def transcribe(self, segments: Iterator[Segment]) -> Iterator[Hypothesis]:
        """Take segments into the sums; a group counts at every place or at none."""
        for group in groups(segments, self._first.config.batch_size or _GROUP):
            yield from by_halves(group, self._take)

    def points(self, full: float) -> Iterator[LayerPoint]:
        """What was found at every layer and level; `full` is the entropy of the full model."""
        for layer, level in self._places():
            most = round(self._engines[layer].reach, 6)
            tally = self.tallies.get((layer, level))
            if tally is None:
                yield LayerPoint(layer, level, most)
                continue
            entropy = _nats(tally.entropy)
            cut = round(1 - tally.flops / tally.full_flops, 6)
            count, distance = tally.entropy.count, abs(full - entropy)
            yield LayerPoint(layer, level, most, cut, count, entropy, distance)

    def _places(self) -> list[tuple[int, float]]:
        return [(layer, level) for layer in self._engines for level in self._search.levels]

    def _reaches(self, place: tuple[int, float]) -> bool:
        layer, level = place
        return level <= self._engines[layer].reach

    def _tally(self) -> _Tally:
        return _Tally(GaussianEntropy(joint=self._search.joint))

    def _take(self, batch: Sequence[Segment]) -> list[Hypothesis]:
        prompts = self._first.runner.prepare(batch)
        seconds = sum(segment.duration for segment in batch)
        found = {}
        for place in self.tallies:
            layer, level = place
            engine = self._first if layer is None else self._engines[layer]
            found[place] = self._sums(audio_features(engine, prompts, level))
            self._watch(Step(place, seconds, len(self.tallies)))
        for place, sums in found.items():
            self.tallies[place].merge(sums)
        return [_silent(segment) for segment in batch]

    def _sums(self, features: AudioFeatures) -> _Tally:
        if not features.states.isfinite().all():
            raise TranscriptionError("the model's states overflow; use --dtype float32")
        tally = self._tally()
        tally.entropy.add(features.states)
        tally.full_flops, tally.flops = features.full_flops, features.flops
        return tally


def _at(config: RunConfig, layer: int) -> RunConfig:
    """The settings with one layer; the level is given batch by batch."""
    reduction = replace(config.reduction, schedule="once", start_layer=layer, reduce=0.0)
    return replace(config, reduction=reduction)


def _check_reach(level: float, engines: Mapping[int, Engine]) -> None:
    """Refuse now what not even the longest prompt of the model can reach in any layer."""
    layer, most = max(
        ((layer, engine.reach) for layer, engine in engines.items()), key=lambda pair: pair[1]
    )
    if level > most:
        raise UsageError(
            f"--reduce {level:g} is out of reach in one layer: layer {layer} can cut {most:.2f} of"
            " the prefill at most; lower --reduce"
        )


def _silent(segment: Segment) -> Hypothesis:
    return Hypothesis(
        segment.recording_id, segment.index, segment.start, segment.end, "", speech=()
    )
