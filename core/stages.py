"""The rooms that a run walks through, behind a few plain calls; the only file that knows them all.

Everything heavy is imported inside the calls: a run with nothing to do loads no torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from .config import RunConfig
from .errors import UsageError
from .reading import WORKERS, Read
from .records import Hypothesis, Recording, Seconds, Segment, Source, Waveform

if TYPE_CHECKING:
    from .media.listening import Listening
    from .media.segment import Cutting
    from .models.base import Facts, SpeechLM

Item = TypeVar("Item")

Hear = Callable[[Waveform], tuple[Any, ...]]

_OUTGROW = 2.0
"""Times the preferred length that speech without a pause may have before it is cut where it is
quietest, perhaps in a word."""


class Transcriber(Protocol):
    """What the pipeline needs of the engine."""

    def transcribe(self, segments: Iterator[Segment]) -> Iterator[Hypothesis]:
        """Answer segments across files, in any order, drawn in a bounded look-ahead.

        A segment that cannot be done comes back with its error set.
        """


class Stages(Protocol):
    """What a run needs of the house; tests bring their own."""

    def start(self, config: RunConfig) -> tuple[SpeechLM, AbstractContextManager[Transcriber]]:
        """Load the model and set up the engine."""

    def reader(self, config: RunConfig, model: SpeechLM) -> Read:
        """What decodes and cuts one recording for this model, and makes its features.

        It is decoded once; where there are several tasks each piece names its own.
        """

    def source(self, recording: Recording, hashed: bool) -> Source:
        """Identity of the file, with its content when `hashed`."""


class Rooms:
    """The real stages."""

    def start(self, config: RunConfig) -> tuple[SpeechLM, AbstractContextManager[Transcriber]]:
        """Load the model and set up the engine."""
        from .engine import Engine
        from .media.apart import start_ahead

        start_ahead(WORKERS)
        lm = self.load(config)
        return lm, Engine(lm, config)

    def load(self, config: RunConfig) -> SpeechLM:
        """Load the model; a method that does not exist ends it before that."""
        from .methods import check_name
        from .models import load_model

        for one in config.each:
            if one.reduction.method != "none":
                check_name(one.reduction.method)
        return load_model(
            config.model,
            device=config.device,
            dtype=config.dtype,
            offline=config.offline,
            revision=config.model_revision,
            quantize=config.quantize,
        )

    def reader(self, config: RunConfig, model: SpeechLM) -> Read:
        """Decode at the model's rate, cut under its window, make its features."""
        from .engine.windows import hear, longest_prompt
        from .media.listening import Listening

        whole = longest_prompt(model) if config.segment == "whole" else None
        cuttings: dict[Cutting, tuple[str, ...]] = {}
        for one in config.each:
            cutting = _cutting(one, model.facts, whole)
            cuttings[cutting] = (*cuttings.get(cutting, ()), one.task) if config.also else ()
        how = Listening(config.audio_track, config.channels)
        return lambda recording, check: Pieces(
            recording, cuttings, check, partial(hear, model), how
        )

    def source(self, recording: Recording, hashed: bool) -> Source:
        """Size and time of the file, and its content when `hashed`."""
        from .ids import source_of

        found = source_of(recording.path, hashed=hashed)
        return replace(found, offset=recording.offset or 0.0, duration=recording.duration)


class Pieces:
    """The segments of one recording, with a stopwatch on decoding and on cutting.

    Args:
        recording: which one; it is not opened yet.
        cuttings: the ways to cut, each with the tasks that want it; of equal rates.
        check: called at every block.
        hear: makes a segment's features.
        how: which tracks and channels of it; a recording that names a channel is only that.
    """

    def __init__(
        self,
        recording: Recording,
        cuttings: Mapping[Cutting, tuple[str, ...]],
        check: Callable[[], None],
        hear: Hear,
        how: Listening | None = None,
    ) -> None:
        """Open nothing yet."""
        from .media.apart import decode_apart
        from .media.listening import Listening
        from .media.segment import Segmenter, side_by_side

        self._decoding = Stopwatch()
        self._drawing = Stopwatch()
        self._notes: list[str] = []
        rate = next(iter(cuttings)).sample_rate
        how = how or Listening()
        if recording.channel is not None:
            how = replace(how, channels=str(recording.channel))
        part = recording.offset, recording.duration
        blocks = decode_apart(recording.path, rate, self._notes.append, *part, how)
        timed = _checked(self._decoding.timed(blocks), check)
        self._segmenters = [
            Segmenter((), recording.id, cutting, tasks) for cutting, tasks in cuttings.items()
        ]
        self._segments = side_by_side(timed, self._segmenters)
        self._begin, self._hear = recording.offset or 0.0, hear

    def __iter__(self) -> Iterator[Segment]:
        """Decode and cut as the segments are drawn."""
        return self._drawing.timed(map(self._heard, self._segments))

    def _heard(self, one: Segment) -> Segment:
        """With features, and times of the whole recording where this is a part of it."""
        return replace(one, start=self._begin + one.start, features=self._hear(one.samples))

    @property
    def audio_s(self) -> Seconds:
        """Seconds decoded."""
        return self._segmenters[0].audio_seconds

    @property
    def load_s(self) -> Seconds:
        """Time taken by decoding."""
        return self._decoding.seconds

    @property
    def segment_s(self) -> Seconds:
        """Time taken by finding speech, cutting and making features."""
        return self._drawing.seconds - self._decoding.seconds

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the decoder found odd."""
        return tuple(self._notes)


def _checked(blocks: Iterable[Waveform], check: Callable[[], None]) -> Iterator[Waveform]:
    for block in blocks:
        check()
        yield block


class Stopwatch:
    """Counts the time spent inside an iterator, not between its items."""

    def __init__(self) -> None:
        self.seconds: Seconds = 0.0

    def timed(self, items: Iterable[Item]) -> Iterator[Item]:
        """The same items."""
        source = iter(items)
        while True:
            begun = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - begun
            yield item


def _cutting(config: RunConfig, facts: Facts, whole: Seconds | None = None) -> Cutting:
    from .media.segment import Cutting, Mode

    longest = facts.max_seconds
    if config.chunk_length is not None and config.chunk_length > longest:
        raise UsageError(
            f"--chunk-length {config.chunk_length:g}: the window of {config.model} is "
            f"{longest:g} s; longer recordings are cut by themselves"
        )
    target = config.chunk_length or facts.chunk_seconds or longest
    window = target
    if config.segment == "whole":
        window = whole or longest
    elif config.segment == "vad" and config.chunk_length is None:
        window = min(longest, _OUTGROW * target)
    return Cutting(cast(Mode, config.segment), window, target, facts.sample_rate)
