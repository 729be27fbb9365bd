"""How many audio tokens each layer keeps, and the solvers that turn a cut into such counts.

Pure python: knows the cost model, no tensors. The ratio of a layer follows FastAdaSP
(arXiv 2410.03007, section 3: constant and decay schedules for dense tasks, one layer for sparse
ones). Departure: the published code floors every layer's count, `int(A_l * r_l)`, and so can only
cut short prompts in leaps of several points; here the exact length is carried on from layer to
layer and rounded once, which costs one token at the most and lets the solver meet any target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from presets import ANCHORED, SCHEDULES, shares

from .errors import UsageError
from .flops import WEIGHTS, DecoderShape, PromptLengths, Scoring, prefill_flops

_LARGEST_RATIO = 0.9999
_BISECTIONS = 40
_POINT = 0.01


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which layers remove audio tokens, relative to each other.

    Attributes:
        kind: `once` (one layer), `constant` (the same ratio from `start` on), `decay` (falling
            linearly to 0 at the last layer), `input` (before the first layer), or the places'
            shares in numbers, see `presets.shares`.
        start: first layer that removes tokens; not used by `input` and by numbers.
        layers: decoder layers of the model.
        most: largest share of its audio tokens that one layer can remove (pairs only: half).

    Raises:
        UsageError: unknown kind, or a start layer that the model does not have.
    """

    kind: str
    start: int
    layers: int
    most: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES and not shares(self.kind):
            raise UsageError(
                f"unknown schedule '{self.kind}'; choose one of {', '.join(SCHEDULES)}, or say what"
                " share goes at the input and in each layer, as in 2-0-0-1"
            )
        if len(shares(self.kind)) > self.layers + 1:
            raise UsageError(
                f"schedule {self.kind} has more numbers than the input and {self.layers} layers"
            )
        if not 0 <= self.start < self.layers:
            raise UsageError(
                f"start layer {self.start} does not exist: this model has layers 0 to"
                f" {self.layers - 1}"
            )

    @property
    def outside(self) -> bool:
        """Whether nothing goes in any layer: all that goes does so before the first."""
        return not any(self.ratios(1.0)[1:])

    def ratios(self, ratio: float) -> tuple[float, ...]:
        """Share of its audio tokens that leaves at the input, then in each layer (layers + 1)."""
        if self.kind not in ANCHORED:
            said = shares(self.kind) or (1.0,)
            return (*(ratio * share for share in said), *[0.0] * (self.layers + 1 - len(said)))
        inside = [0.0] * self.layers
        inside[self.start] = ratio
        span = self.layers - 1 - self.start
        for layer in range(self.start + 1, self.layers):
            if self.kind == "constant":
                inside[layer] = ratio
            elif self.kind == "decay":
                inside[layer] = ratio * (1 - (layer - self.start) / span)
        return (0.0, *inside)

    def kept(self, audio: int, ratio: float, spans: Sequence[int] = ()) -> tuple[int, ...]:
        """Audio tokens entering each layer, then those leaving the last (layers + 1 numbers).

        Args:
            audio: tokens of the prompt.
            ratio: see `ratios`.
            spans: they are in so many spans, which share what is kept (see `apportion`).
        """
        exact, before = float(audio), audio
        counts = []
        left = spans
        for share in self.ratios(ratio):
            exact *= 1 - min(share, self.most)
            if left:
                left = apportion(spans, left, round(exact), self.most)
                before = sum(left)
            else:
                before = max(min(audio, 1), round(exact), before - int(before * self.most))
            counts.append(before)
        return tuple(counts)


def apportion(
    whole: Sequence[int], left: Sequence[int], total: int, most: float = 1.0
) -> tuple[int, ...]:
    """How many tokens each span keeps, so that all of them together keep `total`.

    In proportion to the lengths they had in the prompt, to within a token unless a bound forbids
    it: no span grows, none loses its last token or more than `most` of its tokens.

    Args:
        whole: tokens of each span in the prompt.
        left: those that it has now.
        total: what to share; the bounds go first.
        most: largest share of its tokens that a span can lose.
    """
    least = [max(min(now, 1), now - int(now * most)) for now in left]
    total = min(max(total, sum(least)), sum(left))
    exact = [total * size / sum(whole) for size in whole]
    found = [
        min(max(round(one), low), high) for one, low, high in zip(exact, least, left, strict=True)
    ]
    while (missing := total - sum(found)) != 0:
        step = 1 if missing > 0 else -1
        free = [n for n, one in enumerate(found) if least[n] <= one + step <= left[n]]
        found[max(free, key=lambda n: step * (exact[n] - found[n]))] += step
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Budget:
    """What the solver decided for one prompt.

    Attributes:
        kept: audio tokens entering each layer, then those leaving the last (layers + 1 numbers).
        held: audio tokens in each layer's cache once the prompt has been read (layers numbers).
        target: cut that was asked for, of prefill FLOPs (`solve`) or KV bytes (`solve_cache`).
        reduction: cut of the same that these counts give.
        capped: whether the target lies beyond what this prompt can give.
    """

    kept: tuple[int, ...]
    held: tuple[int, ...]
    target: float
    reduction: float
    capped: bool


@lru_cache(maxsize=4096)
def solve(
    shape: DecoderShape,
    schedule: Schedule,
    prompt: PromptLengths,
    target: float,
    scoring: Scoring = WEIGHTS,
) -> Budget:
    """Counts whose cut of prefill FLOPs comes nearest to `target`, by bisection on the ratio.

    A target beyond reach is cut as far as it goes: one token of each span left, `capped` set.
    """
    full, spans = prefill_flops(shape, prompt), prompt.spans if prompt.gaps else ()

    def cut(ratio: float) -> float:
        kept = schedule.kept(prompt.audio, ratio, spans)
        return 1 - prefill_flops(shape, prompt, kept, scoring) / full

    def budget(ratio: float, capped: bool = False) -> Budget:
        kept = schedule.kept(prompt.audio, ratio, spans)
        return Budget(kept, kept[:-1], target, cut(ratio), capped)

    if target <= 0:
        return budget(0.0)
    if cut(_LARGEST_RATIO) <= target:
        return budget(_LARGEST_RATIO, capped=cut(_LARGEST_RATIO) < target - 0.005)
    low, high = 0.0, _LARGEST_RATIO
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if cut(middle) < target:
            low = middle
        else:
            high = middle
    return min(budget(low), budget(high), key=lambda found: abs(found.reduction - target))


def solve_alike(
    words: int,
    shape: DecoderShape,
    schedule: Schedule,
    prompt: PromptLengths,
    target: float,
    scoring: Scoring = WEIGHTS,
) -> Budget:
    """`solve` as if `words` tokens stood behind the audio, where that is within a point of it.

    So prompts about one recording that differ little in words keep equally much of it.
    """
    found = solve(shape, schedule, replace(prompt, after=words), target, scoring)
    full = prefill_flops(shape, prompt)
    reduction = 1 - prefill_flops(shape, prompt, found.kept, scoring) / full
    if found.capped or abs(reduction - target) > _POINT:
        return solve(shape, schedule, prompt, target, scoring)
    return replace(found, reduction=reduction)


def solve_cache(layers: int, prompt: PromptLengths, target: float) -> Budget:
    """Counts that cut the KV bytes of a prompt by `target`; the prompt itself stays whole.

    All layers keep equally much; where that does not come out even, the first ones one less. Text
    stays, so a target beyond the share of the audio is cut as far as it goes, `capped` set.
    """
    slots = layers * prompt.total
    most = layers * sum(max(span - 1, 0) for span in prompt.spans)
    cut = min(round(target * slots), most)
    each, more = divmod(cut, layers)
    held = tuple(prompt.audio - each - (layer < more) for layer in range(layers))
    whole = (prompt.audio,) * (layers + 1)
    return Budget(whole, held, target, cut / slots, capped=cut / slots < target - 0.005)
