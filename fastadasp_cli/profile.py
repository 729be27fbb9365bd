"""`fastadasp profile`: what one recording costs, full against reduced."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from core.config import RunConfig
from core.errors import FastAdaSPError, UsageError
from core.flags import Flags, no_question, resolve
from core.studies.progress import Progress, beams_of, part

from . import options as opt
from .measuring import Measuring, megabytes
from .run import prepare

if TYPE_CHECKING:
    from core.records import Recording, Segment
    from core.stages import Rooms
    from core.studies.profile import CostRow

    Column = Callable[[float, CostRow], str]


def profile(
    recording: opt.Recording,
    levels: opt.Levels = "0,0.1,0.2,0.3,0.4,0.5",
    beams: opt.Beams = "1",
    task: opt.Task = "asr",
    lang: opt.Lang = None,
    language: opt.Language = None,
    question: opt.Question = None,
    prompt: opt.Prompt = None,
    segment: opt.Segment = None,
    chunk_length: opt.ChunkLength = None,
    seconds: opt.Seconds = None,
    preset: opt.Preset = None,
    method: opt.Method = None,
    schedule: opt.Schedule = None,
    start_layer: opt.StartLayer = None,
    model: opt.Model = "embedded",
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    quantize: opt.Quantize = None,
    offline: opt.Offline = False,
    batch_size: opt.BatchSize = "auto",
    max_new_tokens: opt.MaxNewTokens = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
    no_progress: opt.NoProgress = False,
    verbose: opt.Verbose = False,
) -> None:
    """The cost table of one recording: FLOPs, time, tokens per second, memory."""
    cuts = opt.numbers("--reduce", levels, float)
    widths = opt.numbers("--num-beams", beams, int)
    lengths = _lengths(seconds, segment)
    flags: Flags = {
        "task": task,
        "lang": lang,
        "language": language,
        "question": question,
        "prompt": prompt,
        "segment": "whole" if lengths else segment,
        "chunk_length": chunk_length,
        "preset": preset,
        "method": method,
        "schedule": schedule,
        "start_layer": start_layer,
        "model": model,
        "device": device,
        "dtype": dtype,
        "quantize": quantize,
        "offline": offline,
        "batch_size": batch_size,
        "max_new_tokens": max_new_tokens,
    }
    prepare(offline=offline, verbose=verbose)
    config = _config(flags, cuts, widths)
    asked = Asked(cuts, widths, lengths)
    columns = _columns(config, asked)
    view = Measuring(
        () if as_json else tuple(columns), asked.rows, quiet=quiet, no_progress=no_progress
    )
    found = _found(recording, config, asked, view, columns)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))


def _config(flags: Flags, cuts: Sequence[float], widths: Sequence[int]) -> RunConfig:
    """Settings with every level and width checked; the highest level, as `none` has no method."""
    asked = [
        Flags({**flags, "num_beams": width, "reduce": cut}) for width in widths for cut in cuts
    ]
    return max((resolve(**one) for one in asked), key=lambda config: config.reduction.reduce)


class Asked(NamedTuple):
    """Which rows the table is to have: every level with every width, at every length."""

    cuts: Sequence[float]
    widths: Sequence[int]
    lengths: Sequence[float]

    @property
    def rows(self) -> int:
        """How many they are."""
        return len(self.cuts) * len(self.widths) * max(1, len(self.lengths))


def _lengths(seconds: str | None, segment: str | None) -> tuple[float, ...]:
    found = opt.numbers("--seconds", seconds, float)
    if any(one < 1 for one in found):
        raise UsageError(f"--seconds {seconds}: give lengths of at least 1 second")
    if found and segment not in (None, "whole"):
        raise UsageError(
            f"--seconds makes one prompt of each length: leave out --segment {segment}"
        )
    return found


def _columns(config: RunConfig, asked: Asked) -> dict[str, Column]:
    """The columns of the table: of the cuts the one that the method is about."""
    measured = "KV cut" if config.reduction.cuts_cache else "cut"
    left_out = _CUTS - {measured} | (set() if asked.lengths else {"audio s"})
    return {name: cell for name, cell in _COLUMNS.items() if name not in left_out}


def _found(
    name: str, config: RunConfig, asked: Asked, view: Measuring, columns: dict[str, Column]
) -> dict[str, Any]:
    """Everything that was found, as it goes into JSON; shown while it is measured."""
    from core.stages import Rooms

    rooms = Rooms()
    recording = _one(name)
    config = _asking(config, recording)
    view.note(f"loading {config.model}")
    lm = rooms.load(config)
    heard = _heard(rooms, config, lm, recording, asked.lengths)
    if not heard[0]:
        raise FastAdaSPError(f"{name}: there is nothing to hear in it")
    about = _about(name, config, lm, heard[-1])
    rows = []
    with view.following():
        view.begin(", ".join(f"{key} {value}" for key, value in about.items() if value is not None))
        for seconds, row in _rows(lm, heard, config, asked, view.step):
            rows.append({"seconds": seconds, **row.to_json()})
            label = f"{seconds:g} s, {beams_of(row.num_beams)}, {row.reduce:.0%}"
            said = f"prefill {row.prefill_s:.3f} s, decode {row.decode_s:.3f} s, RTF {row.rtf:.4f}"
            view.row(label, said, [cell(seconds, row) for cell in columns.values()], row.note)
    return {**about, "rows": rows}


def _rows(
    lm: Any,
    heard: Sequence[Sequence[Segment]],
    config: RunConfig,
    asked: Asked,
    step: Progress,
) -> Iterator[tuple[float, CostRow]]:
    """Rows with their seconds of audio, each as soon as it is measured."""
    from core.studies.profile import profile as measure

    levels = [(width, cut) for width in asked.widths for cut in asked.cuts]
    lengths = [round(sum(segment.duration for segment in segments), 3) for segments in heard]
    ends = [sum(lengths[: number + 1]) / sum(lengths) for number in range(len(lengths))]
    for seconds, segments, begin, end in zip(lengths, heard, [0.0, *ends], ends, strict=False):
        told = part(step, f"{seconds:g} s", begin, end)
        for row in measure(lm, segments, config, levels, progress=told):
            yield seconds, row


def _heard(
    rooms: Rooms, config: RunConfig, lm: Any, recording: Recording, lengths: Sequence[float]
) -> list[list[Segment]]:
    """Segments of the recording; with lengths one each, of its sound again and again."""
    if not lengths:
        return [list(rooms.reader(config, lm)(recording, lambda: None))]
    import numpy as np

    from core.media.apart import decode_apart
    from core.records import Segment

    rate = lm.facts.sample_rate
    blocks = decode_apart(recording.path, rate, None, recording.offset, recording.duration)
    sound = np.concatenate(list(blocks) or [np.zeros(0, np.float32)])
    if not len(sound):
        return [[]]
    return [
        [Segment(recording.id, 0, 0.0, np.resize(sound, round(one * rate)), rate)]
        for one in lengths
    ]


def _one(name: str) -> Any:
    from core.media.discover import discover

    found = list(discover([name]))
    if len(found) != 1:
        raise UsageError(f"{name}: profile takes one recording, not {len(found)}")
    return found[0]


def _asking(config: RunConfig, recording: Recording) -> RunConfig:
    if not config.asks_each:
        return config
    if not recording.question:
        raise UsageError(no_question(config.task))
    return replace(config, question=recording.question)


def _about(name: str, config: RunConfig, lm: Any, segments: Sequence[Segment]) -> dict[str, Any]:
    reduction = config.reduction
    return {
        "file": name,
        "audio_s": round(sum(piece.duration for piece in segments), 3),
        "segments": len(segments),
        "task": config.task,
        "model": config.model,
        "revision": lm.revision,
        "device": str(lm.device),
        "dtype": str(lm.dtype).removeprefix("torch."),
        "quantize": config.quantize,
        "method": reduction.method,
        "schedule": reduction.schedule,
        "positions": reduction.positions,
    }


_COLUMNS: dict[str, Column] = {
    "audio s": lambda seconds, row: f"{seconds:g}",
    "beams": lambda _, row: str(row.num_beams),
    "cut asked": lambda _, row: f"{row.reduce:.1%}",
    "cut": lambda _, row: f"{row.reduction:.1%}",
    "KV cut": lambda _, row: f"{row.kv_reduction:.1%}",
    "encoder s": lambda _, row: f"{row.encode_s:.3f}",
    "prefill s": lambda _, row: f"{row.prefill_s:.3f}",
    "/ first": lambda _, row: f"{row.prefill_ratio:.3f}",
    "of peak": lambda _, row: f"{row.of_flops:.0%}",
    "first token s": lambda _, row: f"{row.first_token_s:.3f}",
    "decode s": lambda _, row: f"{row.decode_s:.3f}",
    "tokens/s": lambda _, row: f"{row.tokens_per_s:.1f}",
    "x first": lambda _, row: f"{row.decode_speedup:.2f}",
    "of bandwidth": lambda _, row: "" if row.of_bandwidth is None else f"{row.of_bandwidth:.0%}",
    "RTF": lambda _, row: f"{row.rtf:.4f}",
    "RTF / first": lambda _, row: f"{row.rtf_ratio:.3f}",
    "audio tokens": lambda _, row: f"{row.audio_in} > {row.audio_kept}",
    "KV MB": lambda _, row: f"{row.kv_bytes / 1e6:.2f}",
    "x smaller": lambda _, row: f"{row.kv_smaller:.2f}",
    "peak MB": lambda _, row: megabytes(row.peak_bytes),
    "same text": lambda _, row: "yes" if row.same_text else "no",
}
_CUTS = {"cut", "KV cut"}
"""Of these a table shows the one that the method is about."""
