"""`Engine`: segments in, hypotheses with their costs out.

Knows a loaded SpeechLM and the run's settings; knows nothing of files. Falls back by itself: what
does not fit in memory is tried in smaller company, an answer that runs in a loop is asked for once
more, a segment that fails alone becomes a hypothesis with an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Self

from ..config import ASKING, RunConfig
from ..errors import UsageError
from ..flops import PromptLengths
from ..models.base import Request, SpeechLM
from ..records import Hypothesis, Segment
from ..reduction import Eviction, Reduction, reducing, why_not
from .ceiling import Ceiling
from .continuous import Continuous
from .job import task_of
from .memory import Room
from .reducer import reducer
from .runner import Runner
from .shared import Shared
from .windows import Encode, audio_tokens, encode, longest_prompt

# more rows than these bring no more speed; greedy and with beams
_CPU_ROWS, _GPU_ROWS = (16, 8), (128, 32)


class Engine:
    """Turns segments into text with one model and one set of settings.

    Used as a context manager: inside, the model's decoder reduces; after, it is as it was.

    Args:
        lm: the loaded model.
        config: the run's settings, of one task or several.
        encode: in place of the model's encoder, for those who remember what it said.

    Raises:
        UsageError: task, language, method, schedule, target or any reduction that this model
            cannot have.
    """

    def __init__(self, lm: SpeechLM, config: RunConfig, encode: Encode = encode) -> None:
        self.lm = lm
        self.config = config
        lm.check(Request(config.task, config.language, config.target_language))
        words = partial(_words, lm, config)
        self.reducer = reducer(config.reduction, lm.decoder_shape, words)
        self.target = self.reducer.target
        if self.reducer.needs_encoder and not lm.scores_audio:
            named = config.reduction.method
            raise UsageError(f"{named} needs the encoder's attention; {lm.name} has none")
        if self.target or config.reduction.threshold is not None:
            _check_decoder(lm)
        self._shared = Shared(encode) if config.also else None
        self.runner = Runner(
            lm, config, self.reducer, self._shared.encode if self._shared else encode
        )
        self._lead([self, *(Engine(lm, one) for one in config.also)])
        self._ceiling = Ceiling(lm.device, config.max_memory)
        self._exit = ExitStack()
        self.reducer.check(self.reach)

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.enter_context(reducing(self.lm.decoder))
            undo.enter_context(self._ceiling)
            self._exit = undo.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._exit.close()

    def transcribe(self, segments: Iterable[Segment]) -> Iterator[Hypothesis]:
        """Text and cost of each segment, as soon as it is there, in any order.

        Segments of many recordings go through the model together; they are drawn lazily, in a
        bounded look-ahead. Each of a segment's tasks has an answer of its own.
        """
        rows = self.config.batch_size
        ceiling = self._ceiling
        room = Room(None, ceiling) if rows else Room.on(self.lm.device, ceiling)
        if rows is None:
            greedy, beams = _CPU_ROWS if self.lm.device.type == "cpu" else _GPU_ROWS
            rows = greedy if self.config.num_beams == 1 else beams
        if self._shared is None:
            yield from Continuous(self.runner, rows, room, segments)
        else:
            entering = self._shared.entering(segments)
            yield from self._shared.leaving(Continuous(self.runner, rows, room, entering))

    def run(self, batch: Sequence[Segment]) -> list[Hypothesis]:
        """Text and cost of each segment, in the order given; their names must differ."""
        place = {(one.recording_id, one.index): n for n, one in enumerate(batch)}
        found = self.transcribe(batch)
        return sorted(found, key=lambda answer: place[answer.recording_id, answer.index])

    def _lead(self, engines: Sequence[Engine]) -> None:
        """Answer for engines of one task each, itself the first; one method is one kind of job."""
        hows: list[Reduction | Eviction] = []
        for one in engines:
            if one.reducer.how not in hows:
                hows.append(one.reducer.how)
            one.runner.kind = hows.index(one.reducer.how)
        runners: dict[str | None, Runner] = {one.config.task: one.runner for one in engines}
        self.runner.kinds = len(hows)
        self.runner.of = lambda segment: runners.get(task_of(segment), self.runner)

    @property
    def reach(self) -> float:
        """Largest cut on the longest prompt of this model."""
        before, after = self.runner.prompt(None)
        whole = self.config.segment == "whole"
        seconds = longest_prompt(self.lm) if whole else self.lm.facts.max_seconds
        longest = PromptLengths(len(before), audio_tokens(self.lm, seconds), len(after))
        return self.reducer.solve(longest, 1.0).reduction


def _check_decoder(lm: SpeechLM) -> None:
    reason = why_not(lm.decoder, lm.model.get_input_embeddings())
    if reason is not None:
        raise UsageError(f"{lm.name} cannot be reduced: {reason}; use --reduce 0")


def _words(lm: SpeechLM, config: RunConfig) -> int:
    """Text tokens behind the audio, in the middle between the model's shortest task and longest."""
    tasks = [task for task in lm.facts.tasks if task not in ASKING] or [config.task]
    found = [len(lm.prompt_ids(Request(task, config.language))[1]) for task in tasks]
    return (min(found) + max(found) + 1) // 2
