"""Cut a recording into pieces that fit the model's window, while it is still being decoded.

Pieces never overlap, are in order of time, and hold every sample that was taken for speech exactly
once. At most a window of sound is kept in memory (except in mode `whole`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..errors import MediaError
from ..records import Seconds, Segment, Waveform
from .cutters import SHORTEST, Cutting, Mode, Stretch, Tape, cutter_for

__all__ = ["Cutting", "Mode", "Segmenter", "segment"]


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

    def __init__(self, blocks: Iterable[Waveform], recording_id: str, cutting: Cutting) -> None:
        """Nothing is read before the first piece is asked for."""
        self._rate = cutting.sample_rate
        self._cutter = cutter_for(cutting)
        self._samples = 0
        self._emitted = self._speech = 0
        self._pieces = self._run(blocks, recording_id)

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

    def _run(self, blocks: Iterable[Waveform], recording_id: str) -> Iterator[Segment]:
        tape = Tape()
        errors: list[MediaError] = []
        for index, piece in enumerate(self._stretches(_until_error(blocks, errors), tape)):
            samples = tape.copy(piece.start, piece.end)
            self._emitted += len(samples)
            self._speech += piece.speech
            start, speech = piece.start / self._rate, piece.speech / self._rate
            yield Segment(recording_id, index, start, samples, self._rate, speech=speech)
        if errors:
            raise errors[0]

    def _stretches(self, blocks: Iterable[Waveform], tape: Tape) -> Iterator[Stretch]:
        shortest = SHORTEST * self._rate
        for block in blocks:
            tape.append(block)
            self._samples += len(block)
            yield from self._cutter.push(block, tape)
            tape.drop(self._cutter.needs_from)
        if self._samples >= shortest:
            yield from self._cutter.finish(tape)


def _until_error(blocks: Iterable[Waveform], errors: list[MediaError]) -> Iterator[Waveform]:
    try:
        yield from blocks
    except MediaError as error:
        errors.append(error)
