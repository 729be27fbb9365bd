"""What a side cost, in the numbers of a table: times, memory, ratios, shares of the limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from ...errors import FastAdaSPError
from ...flops import kv_bytes, last_layer_saving, prefill_flops
from ...methods import get_method
from ...records import Json, Seconds
from .limits import Limits
from .setting import Entrant, Setting
from .sides import Run


@dataclass(frozen=True, slots=True)
class Row:
    """One side at one level; times are medians over the rounds.

    Attributes:
        seconds, beams, batch, side: what ran.
        asked, cut: of prefill FLOPs, asked for and by the cost model.
        encode_s, prefill_s, first_token_s, decode_s: seconds; the encoder is the same for all.
        spread: largest less smallest prefill and decode time, over their median.
        tokens_per_s: of all prompts together, while decoding.
        rtf: encode + prefill + decode seconds per second of audio.
        kv_bytes: of the cache at the end.
        prompt_kv_bytes: of the cache when the prompt had been read, which is what the cut says
            (see `check`); None where the side was not asked.
        peak_bytes: what one run adds to the memory held; None where it was not looked for, or the
            system cannot count it.
        prefill_ratio, rtf_ratio: over plain transformers, medians of ratios within a round; None
            where that did not run.
        decode_speedup, kv_smaller: plain transformers over this side, likewise.
        of_flops: prefill FLOPs per second over this machine's best.
        of_bandwidth: bytes that the decode steps must read (weights once and one copy of keys and
            values a step) per second over this machine's best.
        same_ids: whether the answer is that of plain transformers.
    """

    seconds: float
    beams: int
    batch: int
    side: str
    asked: float
    cut: float
    encode_s: Seconds
    prefill_s: Seconds
    first_token_s: Seconds
    decode_s: Seconds
    spread: float
    tokens_per_s: float
    rtf: float
    kv_bytes: int
    prompt_kv_bytes: int | None
    peak_bytes: int | None
    prefill_ratio: float | None
    rtf_ratio: float | None
    decode_speedup: float | None
    kv_smaller: float | None
    of_flops: float
    of_bandwidth: float
    same_ids: bool | None

    def to_json(self) -> Json:
        """A plain dict."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Measured:
    """The runs of one side, those of plain transformers in the same rounds, and the rest.

    Attributes:
        entrant: the side.
        runs, plain: of each round; `plain` is empty where transformers did not run.
        encode: seconds of the encoder, a median.
        peak: bytes that a run adds, if known.
        value_bytes: of one number.
    """

    entrant: Entrant
    runs: Sequence[Run]
    plain: Sequence[Run]
    encode: Seconds
    peak: int | None
    value_bytes: int

    def beside(self, ratio: Callable[[Run, Run], float]) -> float | None:
        """Median over the rounds of what compares a run with that of plain transformers."""
        if not self.plain:
            return None
        return median(ratio(*pair) for pair in zip(self.runs, self.plain, strict=True))


def row(setting: Setting, found: Measured, limits: Limits) -> Row:
    """Sum up one side."""
    runs, encode = found.runs, found.encode
    prefill = median(run.prefill_s for run in runs)
    decode = median(run.decode_s for run in runs)
    whole = [encode + run.prefill_s + run.decode_s for run in runs]
    return Row(
        seconds=setting.seconds,
        beams=setting.beams,
        batch=setting.batch,
        side=found.entrant.side,
        asked=found.entrant.asked,
        cut=found.entrant.budget.reduction,
        encode_s=encode,
        prefill_s=prefill,
        first_token_s=encode + prefill,
        decode_s=decode,
        spread=(max(whole) - min(whole)) / median(whole),
        tokens_per_s=setting.batch * (setting.tokens - 1) / decode,
        rtf=median(whole) / (setting.seconds * setting.batch),
        kv_bytes=runs[0].kv_bytes,
        prompt_kv_bytes=runs[0].prompt_bytes,
        peak_bytes=found.peak,
        prefill_ratio=found.beside(lambda mine, other: mine.prefill_s / other.prefill_s),
        rtf_ratio=found.beside(
            lambda mine, other: (encode + mine.busy_s) / (encode + other.busy_s)
        ),
        decode_speedup=found.beside(lambda mine, other: other.decode_s / mine.decode_s),
        kv_smaller=found.beside(lambda mine, other: other.kv_bytes / mine.kv_bytes),
        of_flops=spent_flops(setting, found.entrant) / prefill / limits.flops,
        of_bandwidth=least_bytes(setting, found) / decode / limits.bandwidth,
        same_ids=runs[0].ids == found.plain[0].ids if found.plain else None,
    )


def check(setting: Setting, entrant: Entrant, run: Run, value_bytes: int) -> None:
    """Hold what the cache held of the prompt against the cut that the row would claim.

    Raises:
        FastAdaSPError: they contradict each other.
    """
    if run.prompt_bytes is None:
        return
    shape, prompt = setting.size.decoder, setting.size.prompt(setting.seconds)
    copies = setting.batch * (setting.beams if entrant.expands else 1)
    planned = copies * kv_bytes(shape, prompt, value_bytes, entrant.budget.held)
    if run.prompt_bytes != planned:
        raise FastAdaSPError(
            f"{setting}: {entrant}: the cache holds {run.prompt_bytes} bytes of the prompt where"
            f" {planned} were planned: its times would be those of another cut; run `fastadasp"
            " doctor`, or leave it out with --reduce 0"
        )


def spent_flops(setting: Setting, entrant: Entrant) -> int:
    """FLOPs that the prefill of this side spends."""
    shape, prompt = setting.size.decoder, setting.size.prompt(setting.seconds)
    scoring, budget = get_method(setting.method).scoring, entrant.budget
    total = prefill_flops(shape, prompt, budget.kept, scoring)
    if entrant.expands:
        return setting.batch * setting.beams * total
    if budget.reduction:
        total -= last_layer_saving(shape, prompt, budget.kept, scoring)
    return setting.batch * total


def least_bytes(setting: Setting, found: Measured) -> int:
    """Bytes that all decode steps must read, however they are made."""
    shape, prompt = setting.size.decoder, setting.size.prompt(setting.seconds)
    steps = setting.tokens - 1
    cached = sum(prompt.text + audio for audio in found.entrant.budget.held)
    new = setting.beams * shape.layers * setting.tokens // 2
    values = setting.batch * shape.kv_bytes(cached + new, found.value_bytes)
    return steps * (shape.weights * found.value_bytes + values)
