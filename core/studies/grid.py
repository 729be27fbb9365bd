"""The settings that an evaluation compares: every combination that was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

import presets as library

from ..config import CACHE_METHODS, RunConfig
from ..flags import Flags, resolve

LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
ALL = "all"


@dataclass(frozen=True, slots=True)
class Grid:
    """What to compare; where a tuple is empty, the task's default preset decides.

    Attributes:
        levels: cuts of prefill FLOPs, or of KV bytes; 0, the full model, is always there.
        methods: names, or `all`.
        schedules: once | constant | decay | input; like the next two, nothing to methods that cut
            the KV cache.
        positions: keep | reindex.
        start_layers: first reduced layers; nothing to schedules that begin at none.
        presets: presets as they are shipped, each for the tasks that it is meant for.
        common: settings that all points share, as flags.
    """

    levels: tuple[float, ...] = ()
    methods: tuple[str, ...] = ()
    schedules: tuple[str, ...] = ()
    positions: tuple[str, ...] = ()
    start_layers: tuple[int, ...] = ()
    presets: tuple[str, ...] = ()
    common: Flags = field(default_factory=lambda: Flags(), hash=False)

    def full(self, task: str, common: Flags | None = None) -> RunConfig:
        """The full model on a task."""
        return resolve(**Flags({**(common or self.common), "task": task, "preset": "none"}))

    def reduced(self, task: str, common: Flags | None = None) -> list[RunConfig]:
        """Every other point, each setting once.

        Raises:
            UsageError: a name or number that cannot be.
        """
        shared = common or self.common
        made = [*self._combined(task, shared), *self._shipped(task, shared)]
        return list({config.settings_hash: config for config in made}.values())

    def method_names(self) -> tuple[str, ...]:
        """The methods by name, `all` written out.

        Raises:
            UsageError: no such method.
        """
        from ..methods import METHODS, check_name

        names = (*METHODS, *CACHE_METHODS) if self.methods == (ALL,) else self.methods
        for name in names:
            check_name(name)
        return names

    def _combined(self, task: str, common: Flags) -> Iterator[RunConfig]:
        axes = (self.methods, self.schedules, self.positions, self.start_layers)
        if self.presets and not self.levels and not any(axes):
            return
        for method, schedule, positions, start, level in product(
            self.method_names() or (None,),
            self.schedules or (None,),
            self.positions or (None,),
            self.start_layers or (None,),
            [level for level in self.levels or LEVELS if level],
        ):
            said = Flags({**common, "task": task, "method": method, "reduce": level})
            if method not in CACHE_METHODS:
                said.update({"schedule": schedule, "positions": positions})
                if resolve(**said).reduction.schedule in library.ANCHORED:
                    said["start_layer"] = start
            yield resolve(**said)

    def _shipped(self, task: str, common: Flags) -> Iterator[RunConfig]:
        for name in self.presets:
            config = resolve(**Flags({**common, "task": task, "preset": name}))
            if task in library.load(name).tasks and config.reduction.reduce:
                yield config


def check(grid: Grid) -> None:
    """Find what is wrong with a grid before a model is loaded.

    Raises:
        UsageError: a name or number that cannot be.
    """
    # a translation's target may only be known once the model is
    common = Flags({**grid.common, "lang": None})
    grid.reduced("asr", common)
