"""`Engine`: segments in, hypotheses with their costs out.

Knows a loaded SpeechLM and the run's settings; knows nothing of files. Falls back by itself: a
batch that does not fit in memory is halved, an answer that runs in a loop is asked for once more,
a segment that fails alone becomes a hypothesis with an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from ..config import RunConfig
from ..errors import FastAdaSPError, UsageError
from ..flops import PromptLengths
from ..models.base import Request, SpeechLM
from ..records import Cost, Hypothesis, Seconds, Segment
from ..reduction import reducing
from ..scheduler import Budget
from . import batching
from .cost import Clock, Machine, Row, Times, costs, peak_bytes
from .generate import Answer, Decoder, Prefilled, StepHook, beam_search, greedy, prefill
from .prompts import Prompts, encoder_scores
from .reducer import Reducer, reducer

_CPU_BATCH, _GPU_BATCH = 8, 32
_TOKENS_PER_SECOND, _SPARE_TOKENS = 12, 16
_LOOP_PERIODS, _LOOP_TIMES = range(1, 21), 4
_LOOP = "repetition"
Prompt = tuple[list[int], list[int]]
_PAID_TWICE = (
    *("encode_s", "prefill_s", "decode_s"),
    *("encoder_flops", "prefill_flops", "decode_flops"),
)


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
        self.request = Request(
            config.task, config.language, config.target_language, config.question, config.prompt
        )
        lm.check(self.request)
        self._texts: dict[str | None, Prompt] = {}
        self.before, self.after = self._prompt(None)
        self.shape = lm.decoder_shape
        self.reducer = reducer(config.reduction, self.shape)
        self.target = self.reducer.target
        if self.reducer.needs_encoder and not lm.scores_audio:
            named = config.reduction.method
            raise UsageError(f"{named} needs the encoder's attention; {lm.name} has none")
        self.batch_size = config.batch_size or (
            _CPU_BATCH if lm.device.type == "cpu" else _GPU_BATCH
        )
        self.decoder = Decoder(lm.decoder, lm.head, lm.model.get_input_embeddings(), lm.end_tokens)
        self._exit = ExitStack()
        self.reducer.check(self.reach)

    def __enter__(self) -> Self:
        self._exit.enter_context(reducing(self.lm.decoder))
        return self

    def __exit__(self, *exception: object) -> None:
        self._exit.close()

    def batches(self, segments: Iterable[Segment]) -> Iterator[list[Segment]]:
        """Groups of segments that `run` takes, across recordings, in a bounded look-ahead."""
        return batching.batches(segments, self.batch_size)

    def run(self, batch: Sequence[Segment]) -> list[Hypothesis]:
        """Text and cost of each segment, in the order given."""
        return batching.by_halves(batch, self._answers)

    def _answers(self, batch: Sequence[Segment]) -> list[Hypothesis]:
        found = self._transcribe(batch, self.reducer)
        return [self._again_if_looping(*pair) for pair in zip(batch, found, strict=True)]

    def _again_if_looping(self, segment: Segment, found: Hypothesis) -> Hypothesis:
        """Ask once more, with the full model and without repeats, if the answer ran in a loop."""
        if _LOOP not in found.warnings:
            return found
        try:
            again = self._transcribe([segment], self.reducer.idle, no_repeat=_LOOP_TIMES)[0]
        except (FastAdaSPError, RuntimeError, ValueError):
            return found
        paid = {name: getattr(found.cost, name) + getattr(again.cost, name) for name in _PAID_TWICE}
        cost = replace(again.cost, **paid)
        warnings = (*(name for name in again.warnings if name != _LOOP), "repetition_retried")
        return replace(again, cost=cost, warnings=warnings)

    @torch.inference_mode()
    def _transcribe(
        self, batch: Sequence[Segment], reducer: Reducer, no_repeat: int = 0
    ) -> list[Hypothesis]:
        clock = Clock(self.lm.device)
        ready = self.prepare(batch)
        prompts = ready.lengths
        budgets = reducer.budgets(prompts, reducer.target)
        encode = clock.lap()
        counts = [reducer.counts(budget) for budget in budgets]
        start = prefill(self.decoder, ready.embedded, prompts, counts, reducer.how, ready.scores)
        prefilled = clock.lap()
        first: list[Seconds] = []
        answers = self._decode(start, batch, lambda: first.append(clock.lap()), no_repeat)
        decode = first[0] + clock.lap()
        times = Times(encode, prefilled, encode + prefilled + first[0], decode)
        rows = [
            Row(
                segment.duration,
                prompt,
                kept,
                held,
                len(answer.ids) + answer.ended,
                reducer.scoring,
                start.cache.beams,
                start.cache.tail,
            )
            for segment, prompt, kept, held, answer in zip(
                batch, prompts, start.cache.kept, start.cache.held, answers, strict=True
            )
        ]
        spent = costs(rows, times, ready.encoder_flops, self.shape, self._machine())
        return [
            self._hypothesis(segment, len(batch), answer, budget, cost)
            for segment, answer, budget, cost in zip(batch, answers, budgets, spent, strict=True)
        ]

    def prepare(self, batch: Sequence[Segment]) -> Prompts:
        """Encode and embed segments; the same prompts serve every level and layer.

        Raises:
            TranscriptionError: a segment is longer than the model's window.
        """
        samples = [segment.samples for segment in batch]
        encoded = self.lm.encode(samples, self.reducer.needs_encoder)
        texts = [self._prompt(segment.question) for segment in batch]
        pairs = list(zip(texts, encoded.tokens, strict=True))
        return Prompts(
            embedded=[self._embedded(text, row) for text, row in pairs],
            lengths=[
                PromptLengths(len(before), len(row), len(after)) for (before, after), row in pairs
            ],
            scores=encoder_scores(encoded),
            encoder_flops=encoded.flops,
        )

    @property
    def reach(self) -> float:
        """Largest cut on the longest prompt of this model."""
        facts = self.lm.facts
        audio = int(facts.max_seconds * facts.tokens_per_second)
        longest = PromptLengths(len(self.before), audio, len(self.after))
        return self.reducer.solve(longest, 1.0).reduction

    def _prompt(self, question: str | None) -> Prompt:
        """Ids around the audio; the run's own question, if it has one, goes first."""
        if question not in self._texts:
            asked = self.config.question or question
            self._texts[question] = self.lm.prompt_ids(replace(self.request, question=asked))
        return self._texts[question]

    def _embedded(self, text: Prompt, audio: Tensor) -> Tensor:
        head, tail = (self.lm.embed(ids) for ids in text)
        return torch.cat([head, audio.to(head.dtype), tail])

    def _decode(
        self, start: Prefilled, batch: Sequence[Segment], mark: StepHook, no_repeat: int
    ) -> list[Answer]:
        caps = [self._cap(segment) for segment in batch]
        if self.config.num_beams > 1 and not no_repeat:
            return beam_search(self.decoder, start, caps, self.config.num_beams, mark)
        return greedy(self.decoder, start, caps, mark, no_repeat)

    def _hypothesis(
        self, segment: Segment, batch_size: int, answer: Answer, budget: Budget, cost: Cost
    ) -> Hypothesis:
        warnings = []
        if budget.capped:
            warnings.append(f"reduction_capped:{budget.reduction:.3f}")
        if not answer.ended:
            warnings.append("max_tokens_reached")
        if loops(answer.ids):
            warnings.append(_LOOP)
        return Hypothesis(
            segment.recording_id,
            segment.index,
            segment.start,
            segment.end,
            self.lm.text(answer.ids),
            cost,
            batch_size,
            tuple(warnings),
        )

    def _cap(self, segment: Segment) -> int:
        """Most new tokens: what was asked for, else far more than anyone can say in that time."""
        return self.config.max_new_tokens or (
            _SPARE_TOKENS + round(_TOKENS_PER_SECOND * segment.duration)
        )

    def _machine(self) -> Machine:
        return Machine(self.lm.dtype.itemsize, peak_bytes(self.lm.device))


def loops(ids: Sequence[int]) -> bool:
    """Whether an answer ends in the same few tokens four times over."""
    return any(
        len(ids) >= period * _LOOP_TIMES
        and list(ids[-period * _LOOP_TIMES :]) == list(ids[-period:]) * _LOOP_TIMES
        for period in _LOOP_PERIODS
    )
