"""`evaluate`: sets through the rooms of `run` at many settings, and what became of the text.

The model is loaded once. Every point is a run of its own into a store of its own, so what an
interrupted evaluation finished is not done again; quality and cost are read from the same records
that `run` writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from ..config import RunConfig
from ..engine import Engine
from ..errors import UsageError
from ..flags import Flags
from ..models.base import Facts, SpeechLM
from ..pipeline import Event, run
from ..reading import Read
from ..records import Transcript
from ..results.labels import LABELS, longest_label
from ..results.scoring import BASIC, NORMALISERS, Tally, scores, tallies
from ..results.store import MemorySink, Sink, Store
from ..stages import Rooms, Stages, Transcriber
from .grid import Grid
from .heard import Heard
from .points import BlockResult, Evaluation, Point, spent
from .sets import Block, seconds

Watch = Callable[[Block, RunConfig, Event], None]
"""Called with every event of every point."""


class OneModel(Rooms):
    """The real stages, with one model for all runs, and recordings that are heard once."""

    def __init__(self, lm: SpeechLM) -> None:
        """Keep the loaded model."""
        self._lm, self._heard = lm, Heard()

    def start(self, config: RunConfig) -> tuple[SpeechLM, AbstractContextManager[Transcriber]]:
        """The model that is there, in an engine that encodes what is new."""
        return self._lm, Engine(self._lm, config, self._heard.encode)

    def reader(self, config: RunConfig, model: SpeechLM) -> Read:
        """Decode and cut what is new."""
        how = (config.segment, config.chunk_length)
        return self._heard.reader(how, super().reader(config, model))


@dataclass(frozen=True, slots=True)
class Course:
    """How an evaluation goes about it.

    Attributes:
        folder: keeps every point's records, and gives back those that it has; None = memory.
        draws: resamples of the recordings behind an interval.
        seed: of the resampling.
        normaliser: of `NORMALISERS`, for asr.
    """

    folder: Path | None = None
    draws: int = 1000
    seed: int = 0
    normaliser: str = NORMALISERS[0]


@dataclass(frozen=True, slots=True)
class Plan:
    """A block and its points.

    Attributes:
        block: what is scored.
        full: the full model.
        reduced: all other points.
        refused: why the model or a method cannot have the settings that were left out.
    """

    block: Block
    full: RunConfig
    reduced: tuple[RunConfig, ...]
    refused: tuple[str, ...]


def plan(
    blocks: Sequence[Block], grid: Grid, lm: SpeechLM, stages: Stages | None = None
) -> list[Plan]:
    """The points of every block.

    Args:
        blocks: sets and tasks.
        grid: the settings to compare.
        lm: the loaded model.
        stages: other rooms, for tests.

    Raises:
        UsageError: a task or language that the model lacks, or no point that it can have.
    """
    return [_plan(block, grid, lm.facts, stages or OneModel(lm)) for block in blocks]


def evaluate(
    plans: Sequence[Plan],
    lm: SpeechLM,
    course: Course = Course(),
    *,
    watch: Watch = lambda block, config, event: None,
    stages: Stages | None = None,
) -> Evaluation:
    """Run every block at all of its points, and score it.

    Args:
        plans: what to run, at least one.
        lm: the loaded model.
        course: how to go about it.
        watch: told of all that happens.
        stages: other rooms, for tests.
    """
    study = _Study(lm.revision, stages or OneModel(lm), course, watch)
    found = tuple(study.block(one) for one in plans)
    full = plans[0].full
    return Evaluation(
        model=full.model,
        revision=lm.revision,
        device=str(lm.device),
        dtype=str(lm.dtype).removeprefix("torch."),
        quantize=full.quantize,
        num_beams=full.num_beams,
        draws=course.draws,
        seed=course.seed,
        blocks=found,
    )


def _plan(block: Block, grid: Grid, facts: Facts, stages: Stages) -> Plan:
    common = _common(block, grid.common, facts)
    full = grid.full(block.task, common)
    stages.start(full)  # refuses a task or a language
    possible, refused = [], []
    asked = grid.reduced(block.task, common)
    for config in asked:
        try:
            stages.start(config)
        except UsageError as error:
            refused.append(str(error))
        else:
            possible.append(config)
    if asked and not possible:
        raise UsageError(refused[0])
    return Plan(block, full, tuple(possible), tuple(dict.fromkeys(refused)))


def _common(block: Block, common: Flags, facts: Facts) -> Flags:
    """The flags of a block: what the model or the recordings leave no choice about is filled in."""
    said = Flags({**common})
    if block.task != "st":
        said["lang"] = None
    elif not said.get("lang") and len(facts.target_languages or ()) == 1:
        [said["lang"]] = facts.target_languages or ()
    if not said.get("language") and len(facts.source_languages or ()) == 1:
        [said["language"]] = facts.source_languages or ()
    if not (said.get("segment") or said.get("chunk_length")) and _fits(block, facts):
        said["segment"] = "whole"
    return said


def _fits(block: Block, facts: Facts) -> bool:
    """Whether every recording goes through the model in one piece."""
    return all(seconds(recording) <= facts.max_seconds for recording in block.recordings)


class _Study:
    def __init__(self, revision: str | None, stages: Stages, course: Course, watch: Watch) -> None:
        self._revision = revision
        self._stages = stages
        self._course = course
        self._watch = watch

    def block(self, plan: Plan) -> BlockResult:
        """All points of a block, the full model first."""
        full, base = self._point(plan.block, plan.full, None)
        points = [full]
        points += [self._point(plan.block, config, base)[0] for config in plan.reduced]
        return BlockResult(
            of=plan.block.of,
            manifest=plan.block.manifest.as_posix(),
            task=plan.block.task,
            language=plan.full.language,
            target_language=plan.full.target_language,
            segment=plan.full.segment,
            recordings=len(plan.block.recordings),
            left_out=plan.block.left_out,
            points=tuple(points),
            refused=plan.refused,
        )

    def _point(
        self, block: Block, config: RunConfig, base: Sequence[Tally] | None
    ) -> tuple[Point, Sequence[Tally]]:
        records = self._records(block, config)
        answers = [_answer(record) for record in records]
        counted = tallies(block.task, block.references, answers, self._written(config))
        reduced = config.reduction.method != "none"
        how = config.reduction
        point = Point(
            preset=config.preset,
            overrides=dict(config.overrides),
            method=how.method if reduced else None,
            schedule=how.schedule if reduced else None,
            positions=how.positions if reduced else None,
            start_layer=records[0].start_layer,
            asked=how.reduce,
            spent=spent(records),
            scores=scores(counted, base, self._course.draws, self._course.seed),
            failed=tuple(record.id for record in records if record.status != "ok"),
            cuts_cache=how.cuts_cache,
        )
        return point, counted

    def _written(self, config: RunConfig) -> str | None:
        """The language whose rules make texts comparable; None = no language's."""
        if config.task == "st":
            return config.target_language
        return None if self._course.normaliser == BASIC else config.language

    def _records(self, block: Block, config: RunConfig) -> list[Transcript]:
        def tell(event: Event) -> None:
            self._watch(block, config, event)

        def go(sink: Sink) -> None:
            run(config, list(block.recordings), sink, on_event=tell, stages=self._stages)

        if self._course.folder is None:
            memory = MemorySink()
            go(memory)
            found = memory.records
        else:
            name = _point_name(config, self._revision)
            place = self._course.folder / block.of / block.task / name
            with Store(place, config.settings) as store:
                go(store)
                found = store.records(block.task)
        return [found[recording.id] for recording in block.recordings]


def _answer(record: Transcript) -> str:
    """The raw text; of a label the one that holds for the longest time."""
    if record.task in LABELS and len(record.segments) > 1:
        return longest_label(record.task, record.segments) or ""
    return record.pred_text


def _point_name(config: RunConfig, revision: str | None) -> str:
    """A folder's name that people can read, and that other settings or weights do not share."""
    how = config.reduction
    words = ["full"]
    if how.method != "none":
        placed = [word for word in (how.schedule, how.positions) if word]
        words = [how.method, *placed, f"{how.reduce:g}"]
    whole = f"{config.settings_hash}/{revision}"
    return "-".join([*words, hashlib.sha256(whole.encode()).hexdigest()[:8]])
