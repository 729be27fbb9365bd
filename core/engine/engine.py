"""`Engine`: segments in, hypotheses with their costs out.

Knows a loaded SpeechLM and the run's settings; knows nothing of files. Falls back by itself: what
does not fit in memory is tried in smaller company, an answer that runs in a loop is asked for once
more, a segment that fails alone becomes a hypothesis with an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Self

from ..config import RunConfig
from ..errors import UsageError
from ..flops import PromptLengths
from ..methods import Method, Signal, get_method
from ..models.base import Request, SpeechLM
from ..records import Hypothesis, Segment
from ..reduction import Reduction, reducing
from ..scheduler import Schedule, reach
from .continuous import Continuous
from .memory import Room
from .runner import Cut, Runner

# more rows than these bring no more speed; greedy and with beams
_CPU_ROWS, _GPU_ROWS = (16, 8), (128, 32)


class Engine:
    """Turns segments into text with one model and one set of settings.

    Used as a context manager: inside, the model's decoder reduces; after, it is as it was.

    Args:
        lm: the loaded model.
        config: the run's settings.

    Raises:
        UsageError: task, language, method, schedule or target that this model cannot have.
    """

    def __init__(self, lm: SpeechLM, config: RunConfig) -> None:
        self.lm = lm
        self.config = config
        lm.check(Request(config.task, config.language, config.target_language))
        wanted, shape = config.reduction, lm.decoder_shape
        first = wanted.first_layer(shape.layers)
        method = _method(wanted.method, wanted.schedule)
        if Signal.ENCODER in method.needs and not lm.scores_audio:
            raise UsageError(f"{wanted.method} needs the encoder's attention; {lm.name} has none")
        schedule = Schedule(wanted.schedule, first, shape.layers, method.most)
        self.target = wanted.reduce if wanted.method != "none" else 0.0
        biased = method.size_bias if wanted.size_bias is None else wanted.size_bias
        self.reduction = Reduction(method, wanted.positions, biased)
        self.runner = Runner(lm, config, Cut(self.target, schedule, self.reduction))
        self._exit = ExitStack()
        self._check_reach(schedule)

    def __enter__(self) -> Self:
        self._exit.enter_context(reducing(self.lm.decoder))
        return self

    def __exit__(self, *exception: object) -> None:
        self._exit.close()

    def transcribe(self, segments: Iterable[Segment]) -> Iterator[Hypothesis]:
        """Text and cost of each segment, as soon as it is there, in any order.

        Segments of many recordings go through the model together; they are drawn lazily, in a
        bounded look-ahead.
        """
        rows = self.config.batch_size
        room = Room.on(self.lm.device) if rows is None else Room(None)
        if rows is None:
            greedy, beams = _CPU_ROWS if self.lm.device.type == "cpu" else _GPU_ROWS
            rows = greedy if self.config.num_beams == 1 else beams
        yield from Continuous(self.runner, rows, room, segments)

    def run(self, batch: Sequence[Segment]) -> list[Hypothesis]:
        """Text and cost of each segment, in the order given; their names must differ."""
        place = {(one.recording_id, one.index): n for n, one in enumerate(batch)}
        found = self.transcribe(batch)
        return sorted(found, key=lambda answer: place[answer.recording_id, answer.index])

    def _check_reach(self, schedule: Schedule) -> None:
        """Refuse a target that not even the longest prompt of this model can reach."""
        facts = self.lm.facts
        before, after = self.runner.prompt(None)
        audio = int(facts.max_seconds * facts.tokens_per_second)
        longest = PromptLengths(len(before), audio, len(after))
        scoring = self.reduction.method.scoring
        most = reach(self.lm.decoder_shape, schedule, longest, scoring)
        if self.target > most:
            kind, start = schedule.kind, schedule.start
            inside = kind != "input"
            where, lower = (f" from layer {start}", " or --start-layer") if inside else ("", "")
            raise UsageError(
                f"--reduce {self.target:g} is out of reach: {kind}{where} can cut {most:.2f} of the"
                f" prefill at most; lower --reduce{lower}"
            )


def _method(name: str, schedule: str) -> Method:
    """The method, checked against the schedule; any method stands in where nothing is reduced."""
    method = get_method("uniform" if name == "none" else name)
    at_input = schedule == "input"
    if (at_input and not method.at_input) or (not at_input and not method.in_layer):
        where = "once, constant or decay" if at_input else "input"
        raise UsageError(f"method {name} cannot work with --schedule {schedule}; use {where}")
    return method
