"""The frozen records that cross floors, and the JSON line of one recording.

Knows no torch, no files, no model. Field order and names of `Transcript` are the JSON contract:
`to_json` writes every key, unknown is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Seconds = float
Stretches = tuple[tuple[Seconds, Seconds], ...]
Waveform = npt.NDArray[np.float32]
Status = Literal["ok", "partial", "failed"]
Json = dict[str, Any]

SCHEMA_VERSION = 1
SLACK: Seconds = 0.1
"""Durations of manifests are rounded: a recording may be so much longer."""
CUT_SHORT = "cut_short"
"""Begins the warning that a manifest's duration ends a recording before its end."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One input that was found, not yet read.

    Attributes:
        id: stable name, unique in a run: posix path relative to the input that brought it.
        path: where it lies.
        text: reference text of the input manifest, if it brought one.
        error: why it can already be given up (a missing path among good ones), else None.
        question: what the input manifest asks about it (sqa, chat), else None.
        row: the whole row of the input manifest, as it stands.
        offset, duration: the part of the file that the input manifest names, None = not said.
        channel: which one alone is heard, from 1; None = what the run says of channels.
    """

    id: str
    path: Path
    text: str | None = None
    error: str | None = None
    question: str | None = None
    row: Json = field(default_factory=dict, hash=False, repr=False)
    offset: Seconds | None = None
    duration: Seconds | None = None
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of one recording, short enough for the model's window.

    Attributes:
        recording_id: `Recording.id` it was cut from.
        index: 0, 1, ... in order of time.
        start: seconds from the recording's beginning.
        samples: mono waveform in [-1, 1], shape (n,), at `sample_rate`.
        sample_rate: Hz.
        question: the recording's own, where the run has none for all of them.
        speech: what of it was taken for speech, beginning and end of each stretch in seconds from
            its own beginning; None = nobody looked, all of it.
        tasks: what is to be answered, of a run with several tasks; () = the run's only one.
        features: what the model's adapter made of each window of it beforehand, if anything.
    """

    recording_id: str
    index: int
    start: Seconds
    samples: Waveform = field(repr=False)
    sample_rate: int = 16_000
    question: str | None = None
    speech: Stretches | None = None
    tasks: tuple[str, ...] = ()
    features: tuple[Any, ...] = field(default=(), repr=False, compare=False)

    @property
    def duration(self) -> Seconds:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate

    @property
    def end(self) -> Seconds:
        """Seconds from the recording's beginning."""
        return self.start + self.duration


@dataclass(frozen=True, slots=True)
class Cost:
    """What one segment cost, or (added up) one recording.

    Times are this segment's share of what several went through together: by audio seconds, greedy
    steps equally. What its tasks share is in the cost of the first until there are records, a
    prefill equally in all. FLOPs count 2 per multiply-add, attention as the full square; bytes are
    those of the decoder's KV cache at the end of decoding, of its prompt alone, and of the whole
    process at its peak, None where the system does not say.
    """

    encode_s: Seconds = 0.0
    prefill_s: Seconds = 0.0
    decode_s: Seconds = 0.0
    first_token_s: Seconds = 0.0
    prompt_tokens: int = 0
    audio_in: int = 0
    audio_kept: int = 0
    generated: int = 0
    encoder_flops: int = 0
    prefill_full_flops: int = 0
    prefill_flops: int = 0
    decode_full_flops: int = 0
    decode_flops: int = 0
    kv_bytes_full: int = 0
    kv_bytes: int = 0
    peak_bytes: int | None = None
    prompt_kv_bytes_full: int = 0
    prompt_kv_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The model's answer to one segment.

    Attributes:
        recording_id: as in the segment.
        index: as in the segment.
        start, end: seconds from the recording's beginning.
        text: decoded text, stripped; empty when `error` is set.
        cost: what it took.
        batch_size: most segments, itself included, that went through the model together with it.
        warnings: names such as `reduction_capped:0.41`, `repetition_retried`, `max_tokens_reached`.
        error: one line when the segment could not be transcribed, else None.
        finished: whether the text ended with the model's own end token and not in a loop.
        speech: stretches of speech, as in the segment; None = all of it.
        task: which of the segment's tasks it answers; None = the run's only one.
    """

    recording_id: str
    index: int
    start: Seconds
    end: Seconds
    text: str
    cost: Cost = Cost()
    batch_size: int = 1
    warnings: tuple[str, ...] = ()
    error: str | None = None
    finished: bool = True
    speech: Stretches | None = None
    task: str | None = None

    @property
    def speech_s(self) -> Seconds:
        """Seconds of speech that it answers for."""
        heard = ((self.start, self.end),) if self.speech is None else self.speech
        return sum(end - start for start, end in heard)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a recording failed or is only partly done."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class Span:
    """A stitched piece of text with its times in seconds.

    `speech` has beginning and end of each stretch of speech in it; None = nobody looked.
    """

    start: Seconds
    end: Seconds
    text: str
    speech: Stretches | None = None


@dataclass(frozen=True, slots=True)
class Latency:
    """Where the time of a recording went, in seconds; for what was done together see `Cost`."""

    load_audio_s: Seconds = 0.0
    segment_s: Seconds = 0.0
    encode_s: Seconds = 0.0
    prefill_s: Seconds = 0.0
    decode_s: Seconds = 0.0
    first_token_s: Seconds | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts summed over segments; `per_second` is generated tokens per decode second."""

    prompt: int = 0
    audio_in: int = 0
    audio_kept: int = 0
    generated: int = 0
    per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Flops:
    """FLOPs (2 per multiply-add), summed over segments.

    `reduction` is the cut of LM prefill FLOPs that was reached, `total_reduction` the cut of
    encoder + prefill + decode.
    """

    encoder: int = 0
    prefill_full: int = 0
    prefill: int = 0
    decode_full: int = 0
    decode: int = 0
    reduction_target: float = 0.0
    reduction: float | None = None
    total_reduction: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """KV cache bytes of the largest segment at the end of decoding; peak of the process, if known.

    `reduction` is the cut of the prompt's KV bytes that was reached, summed over segments and
    without what is generated; `reduction_target` what was asked for, of methods that cut these.
    """

    kv_bytes_full: int = 0
    kv_bytes: int = 0
    peak_bytes: int | None = None
    reduction_target: float = 0.0
    reduction: float | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Identity of what is read.

    Attributes:
        size, mtime_ns: of the file.
        sha256: of its content, None unless hashing was asked for.
        offset: where the part begins that is read, 0 unless a manifest names one.
        duration: seconds of it, None = to the end of the file.
        length: seconds of a file that was read as a whole; None = it was not yet.
    """

    size: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = None
    offset: Seconds | None = None
    duration: Seconds | None = None
    length: Seconds | None = None

    def same(self, now: Source) -> bool:
        """Whether the file is what it was: by content where both know it, else size and time.

        And the same part of it is wanted.
        """
        if not self._same_part(now):
            return False
        if self.sha256 is not None and now.sha256 is not None:
            return self.sha256 == now.sha256
        return (self.size, self.mtime_ns) == (now.size, now.mtime_ns)

    def _same_part(self, now: Source) -> bool:
        if self.offset is None or now.offset is None:  # older records are of whole files
            return True
        asked = now.duration
        if self.length is not None and asked is not None and asked > self.length - SLACK:
            asked = None  # a manifest that has the length of the whole file
        return (self.offset, self.duration) == (now.offset, asked)


@dataclass(frozen=True, slots=True)
class Transcript:
    """The record of one recording and task: one JSON line, unique by (id, task)."""

    schema_version: int
    id: str
    audio_filepath: str
    status: Status
    error: Failure | None
    warnings: tuple[str, ...]
    task: str
    language: str | None
    target_language: str | None
    question: str | None
    model: str
    model_revision: str | None
    version: str
    versions: Mapping[str, str]
    preset: str
    overrides: Json
    method: str
    schedule: str | None
    start_layer: int | None
    positions: str | None
    threshold: float | None
    text: str | None
    pred_text: str
    label: str | None
    segments: tuple[Span, ...]
    coverage: float | None
    duration: Seconds | None
    time: Seconds | None
    rtf: float | None
    rtfx: float | None
    rtfx_model: float | None
    latency: Latency
    tokens: Tokens
    flops: Flops
    memory: Memory
    device: str
    dtype: str
    quantize: str | None
    batch_size: int | None
    num_beams: int
    source: Source
    settings_hash: str
    offset: Seconds | None = None

    def to_json(self) -> Json:
        """A plain dict in the contract's key order."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Report:
    """Totals of a run; rates are sums over sums, never means of per-file values.

    Attributes:
        ok, partial, failed, skipped: numbers of recordings.
        audio_s: seconds of audio transcribed; nothing of a failed recording, and of one that is
            partly done as much as was covered.
        wall_s: seconds from the first recording to the last, model loading left out.
        model_s: seconds of encode + prefill + decode.
        prefill_full_flops, prefill_flops: summed over segments whose prompt was to be cut, if any.
        prompt_tokens, held_tokens: of segments whose KV cache was to be cut, and held in it.
        failures: (id, message) of each failed or partial recording, in order.
        stopped: it was asked to end before all recordings were begun.
    """

    ok: int = 0
    partial: int = 0
    failed: int = 0
    skipped: int = 0
    audio_s: Seconds = 0.0
    wall_s: Seconds = 0.0
    model_s: Seconds = 0.0
    prefill_full_flops: int = 0
    prefill_flops: int = 0
    prompt_tokens: int = 0
    held_tokens: float = 0.0
    failures: tuple[tuple[str, str], ...] = ()
    stopped: bool = False
