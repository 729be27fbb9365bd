"""What a run does and where its output goes: frozen, decided once.

Knows errors and shards, nothing else of the house. `core.flags` makes these from a preset and
flags.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .errors import UsageError
from .shard import Shard

DEFAULT_MODEL = "embedded"
ASKING = ("sqa", "chat")
"""Tasks that need to be told what to ask."""
CACHE_METHODS = ("h2o", "streaming-llm")
"""Methods that read the whole prompt and cut the KV cache behind it; see `core.methods`."""
THRESHOLD_METHODS = ("affinity",)
"""Methods that can decide by themselves how much goes."""
AUTO = "auto"
DTYPES = ("float32", "bfloat16", "float16")
"""What `auto` comes to once the model is there."""
ONE_PLACE = ("input", "once")
"""Schedules of which one place decides all."""
_ONCE_THE_ONLY_WAY = {"quantize": None, "audio_track": "auto", "channels": "mix"}
"""Settings that came later, with what was done before there was a choice."""


@dataclass(frozen=True, slots=True)
class ReductionConfig:
    """How many audio tokens go, where and by which method.

    Attributes:
        method: a name of `core.methods`; `none` in the preset that reduces nothing.
        schedule: once | constant | decay | input, or shares in numbers (`presets.shares`); None
            for methods that cut the KV cache.
        reduce: share of the LM's prefill FLOPs to cut, 0 to 0.9; of the prompt's KV bytes for
            methods that cut the KV cache.
        positions: reindex (gaps closed, as the paper's code does) | keep (the first member's);
            None for methods that cut the KV cache.
        start_fraction: first reduced layer as a fraction of the decoder's depth.
        start_layer: the same as a layer's index; wins over the fraction.
        size_bias: add the log of a merged token's size to its attention logits; None = as the
            method does it.
        threshold: what the method decides by in place of `reduce`; None = `reduce` decides.
    """

    method: str
    schedule: str | None
    reduce: float
    positions: str | None
    start_fraction: float
    start_layer: int | None = None
    size_bias: bool | None = None
    threshold: float | None = None

    @property
    def cuts_prompt(self) -> bool:
        """Whether tokens of the prompt are to go."""
        asked = self.reduce > 0 or self.threshold is not None
        return asked and self.method != "none" and not self.cuts_cache

    @property
    def cuts_cache(self) -> bool:
        """Whether the method cuts the KV cache and not the prompt."""
        return self.method in CACHE_METHODS

    def first_layer(self, n_layers: int) -> int:
        """Index of the first reduced layer in a decoder of `n_layers`."""
        if self.start_layer is None:
            return min(int(self.start_fraction * n_layers + 0.5), n_layers - 1)
        if self.start_layer >= n_layers:
            raise UsageError(
                f"--start-layer {self.start_layer}: the model has layers 0 to {n_layers - 1}"
            )
        return self.start_layer


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything that a run needs to know about itself, except where its output goes.

    Attributes:
        task: asr | st | er | sv | sqa | ac | chat.
        language: spoken language, None = detect.
        target_language: language of the translation (st), else None.
        question: for sqa and chat; None = each recording brings its own.
        prompt: replaces the task's own prompt.
        preset: name of the preset that the reduction started from.
        overrides: the flags that changed it, by name.
        reduction: preset and flags together.
        model: id or path.
        device, dtype: `auto` leaves the choice to the model loader.
        batch_size: most segments that go through the model together, None = what the memory holds.
        num_beams: beams of the search.
        max_new_tokens: cap for each segment, None = by its length.
        segment: vad | fixed | whole.
        chunk_length: seconds of the longest segment, None = the model's choice.
        offline: never ask the network.
        hash: know recordings by their content, not only by size and time of change.
        model_revision: which weights, see `core.pinning`; None = not looked up.
        method_digest: of a method's own file, see `core.pinning`.
        max_memory: bytes to stay under, of the GPU or else of the process; None = what there is.
        quantize: 8bit | 4bit, the weights of the decoder's layers; None = as they are.
        audio_track: of a file that has several: auto | all | a number from 1.
        channels: mix | best | split | a number from 1; see `core.media.listening`.
        also: further tasks for the same recordings, which share what they can with this one; the
            settings of model and machine are the same in all.
    """

    task: str
    reduction: ReductionConfig
    language: str | None = None
    target_language: str | None = None
    question: str | None = None
    prompt: str | None = None
    preset: str = "none"
    overrides: Mapping[str, Any] = field(default_factory=dict, hash=False)
    model: str = DEFAULT_MODEL
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | None = None
    num_beams: int = 1
    max_new_tokens: int | None = None
    segment: str = "vad"
    chunk_length: float | None = None
    offline: bool = False
    hash: bool = False
    model_revision: str | None = None
    method_digest: str | None = None
    max_memory: int | None = None
    quantize: str | None = None
    audio_track: str = "auto"
    channels: str = "mix"
    also: tuple[RunConfig, ...] = ()

    @property
    def each(self) -> tuple[RunConfig, ...]:
        """One task each, in the order given."""
        return (replace(self, also=()), *self.also) if self.also else (self,)

    @property
    def asks_each(self) -> bool:
        """Whether every recording must bring a question of its own."""
        return self.task in ASKING and not (self.question or self.prompt)

    def asked(self, own: str | None) -> str | None:
        """What a recording is asked that may bring a question of its own."""
        return own if self.asks_each else self.question

    @property
    def settings(self) -> dict[str, frozenset[tuple[str, str]]]:
        """By task the `settings_hash` and `dtype` of records that these settings may come to.

        Records that needed no model have the hash of `auto`, if that was asked for; so have those
        of versions that did not look what it became.
        """
        return {one.task: one._settings for one in self.each}

    @property
    def _settings(self) -> frozenset[tuple[str, str]]:
        dtypes = DTYPES if self.dtype == AUTO else (self.dtype,)
        auto = self.hash_in(AUTO)
        own = {(self.hash_in(dtype), dtype) for dtype in dtypes}
        return frozenset(own | {(auto, dtype) for dtype in (*dtypes, AUTO)})

    def hash_in(self, dtype: str) -> str:
        """`settings_hash` where the model runs in `dtype`, which `auto` came to."""
        return replace(self, dtype=dtype).settings_hash

    @property
    def settings_hash(self) -> str:
        """Fingerprint of all that changes the text: not names, device, batch size or the network.

        Nor other tasks at the same time: what this one gives is the same as without them.

        A model folder counts by its place on the disk, so two ways to write it are one; a method's
        file by what is in it.
        """
        harmless = (
            "preset",
            "overrides",
            "device",
            "batch_size",
            "offline",
            "hash",
            "max_memory",
            "also",
        )
        settings = {key: value for key, value in asdict(self).items() if key not in harmless}
        for name, default in _ONCE_THE_ONLY_WAY.items():
            if settings[name] == default:
                del settings[name]  # so that results from before there was a choice stay valid
        if Path(self.model).is_dir():
            settings["model"] = str(Path(self.model).resolve())
        if self.method_digest is not None:
            settings["reduction"]["method"] = self.reduction.method.rpartition(":")[2]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class OutputConfig:
    """Where the output of a run goes and how much is said on the way.

    Attributes:
        output_dir: folder of `results.jsonl` and side files; None = JSON lines on stdout.
        formats: jsonl and the side formats asked for.
        shard: the part of the recordings to do, None = all.
        overwrite: redo everything, over results of other settings and files of other makers too.
        skip_existing: leave out recordings that have subtitles or a text already.
        fail_fast: end at the first recording that failed.
        quiet: only errors on stderr.
        no_progress: no bar, also on a terminal.
        null: paths on stdin end with NUL.
    """

    output_dir: Path | None = None
    formats: tuple[str, ...] = ("jsonl",)
    shard: Shard | None = None
    overwrite: bool = False
    skip_existing: bool = False
    fail_fast: bool = False
    quiet: bool = False
    no_progress: bool = False
    null: bool = False

    @property
    def part(self) -> str:
        """What the name of the results file ends in, for a shard's own."""
        return self.shard.suffix if self.shard else ""

    @property
    def side_formats(self) -> tuple[str, ...]:
        """The formats that are one file for each recording."""
        return tuple(name for name in self.formats if name != "jsonl")
