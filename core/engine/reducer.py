"""`Reducer`: by which method a run reduces, and how much of each prompt.

Knows the run's settings, the decoder's shape, methods and solvers; no tensors, no batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from presets import ANCHORED

from ..config import ReductionConfig
from ..errors import UsageError
from ..flops import DecoderShape, PromptLengths, Scoring
from ..methods import Method, Signal, ThresholdMethod, get_cache_method, get_method
from ..reduction import Eviction, Reduction, Threshold
from ..scheduler import Budget, Schedule, solve, solve_alike, solve_cache

Solve = Callable[[PromptLengths, float], Budget]


@dataclass(frozen=True, slots=True)
class Reducer:
    """How a run reduces.

    Attributes:
        how: what the decoder's layers do.
        target: cut that was asked for, of prefill FLOPs or of the prompt's KV bytes.
        solve: counts for one prompt and a target.
        limit: what a target beyond all reach is told: what can be cut at most, and the way out.
    """

    how: Reduction | Eviction
    target: float
    solve: Solve
    limit: str

    @property
    def idle(self) -> Reducer:
        """The same with nothing to cut."""
        how = self.how
        if isinstance(how, Reduction):
            how = replace(how, threshold=None)
        return replace(self, how=how, target=0.0)

    @property
    def scoring(self) -> Scoring:
        """What the method's signals cost."""
        return self.how.method.scoring

    @property
    def needs_encoder(self) -> bool:
        """Whether the method reads the encoder's attention."""
        return Signal.ENCODER in self.how.method.needs

    def counts(self, budget: Budget) -> tuple[int, ...]:
        """What of a budget the decoder's layers are to be told."""
        return budget.held if isinstance(self.how, Eviction) else budget.kept

    def budgets(self, prompts: Sequence[PromptLengths], target: float) -> list[Budget]:
        """Counts for each prompt of a batch."""
        return [self.solve(prompt, target) for prompt in prompts]

    def check(self, most: float) -> None:
        """Refuse a target that not even the longest prompt can reach, which gives `most`.

        Raises:
            UsageError: names what can be cut at most.
        """
        if self.target > most:
            raise UsageError(
                f"--reduce {self.target:g} is out of reach: {self.limit.format(most=most)}"
            )


def reducer(
    wanted: ReductionConfig, shape: DecoderShape, words: Callable[[], int] | None = None
) -> Reducer:
    """What the settings mean for a decoder of this shape.

    Args:
        wanted: the settings.
        shape: the decoder.
        words: tells how many text tokens stand behind the audio as a rule, see `solve_alike`.

    Raises:
        UsageError: method or schedule that do not exist, or not together; no such start layer.
    """
    if wanted.cuts_cache:
        eviction = Eviction(get_cache_method(wanted.method))
        limit = "{most:.2f} of the KV cache can be cut at most; lower --reduce"
        return Reducer(eviction, wanted.reduce, partial(solve_cache, shape.layers), limit)
    first = wanted.first_layer(shape.layers)
    schedule = Schedule(str(wanted.schedule), first, shape.layers)
    method = _placed(wanted.method, schedule)
    schedule = replace(schedule, most=method.most)
    solver: Callable[..., Budget] = solve
    if words is not None and schedule.outside and wanted.cuts_prompt:
        # the audio is cut before the words of a task are met: alike for all, so that they can share
        solver = partial(solve_alike, words())
    biased = method.size_bias if wanted.size_bias is None else wanted.size_bias
    anchored = schedule.kind in ANCHORED
    where, lower = (f" from layer {first}", " or --start-layer") if anchored else ("", "")
    return Reducer(
        Reduction(
            method, str(wanted.positions), biased, threshold=_threshold(wanted, method, schedule)
        ),
        wanted.reduce if wanted.method != "none" else 0.0,
        partial(solver, shape, schedule, scoring=method.scoring),
        f"{schedule.kind}{where} can cut {{most:.2f}} of the prefill at most;"
        f" lower --reduce{lower}",
    )


def _threshold(wanted: ReductionConfig, method: Method, schedule: Schedule) -> Threshold | None:
    if wanted.threshold is None:
        return None
    if not isinstance(method, ThresholdMethod):
        raise UsageError(f"--threshold is not for {method.name}: use --reduce")
    place = 0 if schedule.kind == "input" else schedule.start + 1
    return Threshold(method, wanted.threshold, place)


def _placed(name: str, schedule: Schedule) -> Method:
    """The method, checked against the schedule; any method stands in where nothing is reduced."""
    method = get_method("uniform" if name == "none" else name)
    at_input, *inside = schedule.ratios(1.0)
    if (at_input and not method.at_input) or (any(inside) and not method.in_layer):
        where = "input" if method.at_input else ", ".join(ANCHORED)
        raise UsageError(f"method {name} cannot work with --schedule {schedule.kind}; use {where}")
    return method
