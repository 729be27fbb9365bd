"""Cut a recording into pieces that fit the model's window, while it is still being decoded.

Pieces never overlap, are in order of time, and hold every sample that was taken for speech exactly
once. At most a window of sound is kept in memory (except in mode `whole`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..errors import MediaError
from ..records import Seconds, Segment, Waveform
from .cutters import SHORTEST, Cutting, Mode, Stretch, Tape, cutter_for

__all__ = ["Cutting", "Mode", "Segmenter", "segment", "side_by_side"]


def segment(
    blocks: Iterable[Waveform],
    recording_id: str,
    *,
    mode: Mode = "vad",
    window: Seconds | None = 30.0,
    target: Seconds | None = None,
    sample_rate: int = 16_000,
) -> Segmenter:
    """The pieces of one recording with the usual voice detection; see `Segmenter`, `Cutting`."""
    return Segmenter(blocks, recording_id, Cutting(mode, window, target, sample_rate))


class Segmenter(Iterator[Segment]):
    """Iterator over the pieces of one recording.

    When `blocks` ends in a MediaError, the pieces of what came before are handed out first and the
    error is raised after them. Mode `whole` raises MediaError for a recording beyond the window.

    Attributes (final when exhausted):
        audio_seconds: length of what was decoded.
        speech_seconds: of that, what was taken for speech (all that is not digital silence, when
            the mode is not `vad`).
        segment_seconds: sum of the pieces' lengths; speech with its padding and short pauses.
    """

    def __init__(
        self,
        blocks: Iterable[Waveform],
        recording_id: str,
        cutting: Cutting,
        tasks: tuple[str, ...] = (),
    ) -> None:
        """Nothing is read before the first piece is asked for.

        Args:
            blocks: the recording, as it is decoded.
            recording_id: its name.
            cutting: how to cut.
            tasks: see `Segment`.
        """
        self._recording_id, self._tasks = recording_id, tasks
        self._rate = cutting.sample_rate
        self._cutter = cutter_for(cutting)
        self._tape = Tape()
        self._count = self._samples = 0
        self._emitted = self._speech = 0
        self._pieces = side_by_side(blocks, [self])

    @property
    def audio_seconds(self) -> Seconds:
        """Seconds decoded so far."""
        return self._samples / self._rate

    @property
    def speech_seconds(self) -> Seconds:
        """Seconds of speech in the pieces handed out so far."""
        return self._speech / self._rate

    @property
    def segment_seconds(self) -> Seconds:
        """Seconds in the pieces handed out so far."""
        return self._emitted / self._rate

    def __next__(self) -> Segment:
        """The next piece."""
        return next(self._pieces)

    def push(self, block: Waveform) -> Iterator[Segment]:
        """Pieces that are settled now that the next block is known."""
        self._tape.append(block)
        self._samples += len(block)
        yield from self._made(self._cutter.push(block, self._tape))
        self._tape.drop(self._cutter.needs_from)

    def finish(self) -> Iterator[Segment]:
        """The remaining pieces."""
        if self._samples >= SHORTEST * self._rate:
            yield from self._made(self._cutter.finish(self._tape))
        self._tape.drop(self._tape.end)  # whoever wants the numbers keeps no sound

    def _made(self, stretches: Iterable[Stretch]) -> Iterator[Segment]:
        for piece in stretches:
            samples = self._tape.copy(piece.start, piece.end)
            self._emitted += len(samples)
            self._speech += sum(end - start for start, end in piece.speech)
            yield Segment(
                self._recording_id,
                self._count,
                piece.start / self._rate,
                samples,
                self._rate,
                speech=tuple(
                    ((start - piece.start) / self._rate, (end - piece.start) / self._rate)
                    for start, end in piece.speech
                ),
                tasks=self._tasks,
            )
            self._count += 1


def side_by_side(blocks: Iterable[Waveform], segmenters: Sequence[Segmenter]) -> Iterator[Segment]:
    """The pieces of one recording, decoded once and cut in several ways.

    Args:
        blocks: as for one `Segmenter`, and so is the error that they end in.
        segmenters: without blocks of their own.
    """
    errors: list[MediaError] = []
    for block in _until_error(blocks, errors):
        for one in segmenters:
            yield from one.push(block)
    for one in segmenters:
        yield from one.finish()
    if errors:
        raise errors[0]


def _until_error(blocks: Iterable[Waveform], errors: list[MediaError]) -> Iterator[Waveform]:
    try:
        yield from blocks
    except MediaError as error:
        errors.append(error)
