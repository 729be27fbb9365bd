"""What is measured, and the sides that enter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from ...config import ReductionConfig
from ...engine.reducer import reducer
from ...errors import UsageError
from ...methods import get_method
from ...scheduler import Budget
from ..progress import beams_of
from .published import published
from .shapes import ModelShape, shape_of
from .sides import Side, own, plain, static

PLAIN, STATIC, PUBLISHED, OWN = "transformers", "static", "published", "fastadasp"
RIVALS = (PLAIN, STATIC, PUBLISHED)


@dataclass(frozen=True, slots=True)
class Setting:
    """One prompt length and one number of beams.

    Attributes:
        shape: name of the model shape.
        seconds: of audio in one prompt.
        beams: of the search.
        batch: equal prompts at once.
        tokens: that every side makes, two or more.
        reduce: cuts of prefill FLOPs.
        method, schedule, start: how they are made; `start` is the first layer.
        against: which of `RIVALS` run beside.
        rounds: measured ones, after one that warms up.
    """

    shape: str
    seconds: float
    beams: int = 1
    batch: int = 1
    tokens: int = 64
    reduce: tuple[float, ...] = (0.0, 0.5)
    method: str = "fastadasp"
    schedule: str = "constant"
    start: int = 1
    against: tuple[str, ...] = RIVALS
    rounds: int = 3

    @property
    def size(self) -> ModelShape:
        """The shape."""
        return shape_of(self.shape)

    def __str__(self) -> str:
        return f"{self.seconds:g} s, {beams_of(self.beams)}"


@dataclass(frozen=True, slots=True)
class Entrant:
    """A side at a level, what the cost model says of it, and how to run it."""

    side: str
    asked: float
    budget: Budget
    run: Side

    @property
    def expands(self) -> bool:
        """Whether every beam has its own prompt from the prefill on."""
        return self.side != OWN

    def __str__(self) -> str:
        return f"{self.side} at {self.asked:.0%}" if self.asked else self.side


def entrants(setting: Setting) -> Iterator[Entrant]:
    """Who runs, in this order, round after round.

    Raises:
        UsageError: a rival, method or schedule that does not exist.
    """
    unknown = set(setting.against) - set(RIVALS)
    if unknown:
        raise UsageError(f"unknown side '{min(unknown)}'; choose from {', '.join(RIVALS)}")
    prompt = setting.size.prompt(setting.seconds)
    get_method(setting.method)  # what cuts the KV cache alone has no prefill to compare
    wanted = ReductionConfig(setting.method, setting.schedule, 0.0, "keep", 0.0, setting.start)
    how = reducer(wanted, setting.size.decoder)
    full = how.solve(prompt, 0.0)
    for side, run in ((PLAIN, plain), (STATIC, static)):
        if side in setting.against:
            yield Entrant(side, 0.0, full, run)
    for asked in setting.reduce:
        budget = how.solve(prompt, asked)
        if asked and PUBLISHED in setting.against:
            yield Entrant(PUBLISHED, asked, budget, partial(published, kept=budget.kept))
        yield Entrant(OWN, asked, budget, partial(own, kept=budget.kept, reduction=how.how))
