"""What segments go through: encoder, prefill and search, with the books kept on each of them.

Knows a loaded SpeechLM and how its prompts are reduced; who goes when is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..config import RunConfig
from ..errors import TranscriptionError, first_line
from ..flops import PromptLengths
from ..models.base import Request, SpeechLM
from ..records import Cost, Hypothesis, Seconds, Segment
from ..reduction import Eviction, Reduction
from .beams import beam_search
from .cost import Clock, shares
from .generate import Answer, Decoder, Prefilled, prefill
from .greedy import greedy
from .hypotheses import LOOP, failed, hypothesis, work_of
from .job import Job, sound_of
from .loops import TIMES, looped
from .memory import row_bytes
from .prompts import Prompts, encoder_scores, stacked
from .reducer import Reducer
from .stems import before_layers, prefill_stems, stems
from .windows import Encode, audio_tokens, encode, longest_prompt, positions

_TOKENS_PER_SECOND, _SPARE_TOKENS = 12, 16
_TWICE = (
    "encoder_flops",
    "prefill_full_flops",
    "prefill_flops",
    "decode_full_flops",
    "decode_flops",
)
Prompt = tuple[list[int], list[int]]


class Runner:
    """Takes groups of segments through one model.

    Args:
        lm: the loaded model; its decoder must be inside `reducing`.
        config: the run's settings.
        reducer: how prompts are reduced.
        encode: what makes audio tokens of segments.

    Attributes:
        kind, kinds: see `Job`; of this runner, and how many there are.
        of: the runner of a segment's task, itself where there is but one.
    """

    def __init__(
        self, lm: SpeechLM, config: RunConfig, reducer: Reducer, encode: Encode = encode
    ) -> None:
        self.lm, self._config, self._reducer, self._encode = lm, config, reducer, encode
        self.kind, self.kinds = 0, 1
        self.of: Callable[[Segment], Runner] = lambda segment: self
        self._request = Request(
            config.task, config.language, config.target_language, config.question, config.prompt
        )
        self._texts: dict[tuple[str | None, Seconds | None], Prompt] = {}
        self._gates: dict[str | None, Tensor | None] = {}
        self._shape = lm.decoder_shape
        self.beams = config.num_beams
        self.decoder = Decoder(lm.decoder, lm.head, lm.model.get_input_embeddings(), lm.end_tokens)
        self.clock = Clock(lm.device)

    def prompt(self, question: str | None, seconds: Seconds | None = None) -> Prompt:
        """Ids around audio of so many seconds; the run's own question, if any, goes first."""
        key = question, seconds if self.lm.names_seconds else None
        if key not in self._texts:
            self._texts[key] = self.lm.prompt_ids(self._asking(question), seconds)
        return self._texts[key]

    def _text(self, segment: Segment) -> Prompt:
        return self.prompt(segment.question, segment.duration)

    @torch.inference_mode()
    def gate(self, question: str | None) -> Tensor | None:
        """What the decoder is steered by in a row, made once for each question."""
        if question not in self._gates:
            self._gates[question] = self.lm.gate(self._asking(question))
        return self._gates[question]

    def _asking(self, question: str | None) -> Request:
        return replace(self._request, question=self._config.question or question)

    def job(self, segment: Segment) -> Job:
        """What a segment will ask for.

        Raises:
            TranscriptionError: it, or its prompt, is longer than one prompt may be.
        """
        longest = longest_prompt(self.lm)
        if segment.duration > longest:
            raise TranscriptionError(
                f"{segment.duration:.0f} s are more than the {longest:g} s that {self.lm.name} "
                "takes in one prompt: use --segment vad"
            )
        own = self.of(segment)
        before, after = own._text(segment)
        audio = audio_tokens(self.lm, segment.duration)
        lengths = PromptLengths(len(before), audio, len(after))
        budget = own._reducer.solve(lengths, own._reducer.target)
        cap = self._cap(segment, lengths.total)
        value, tail = self.lm.dtype.itemsize, cap * self.beams
        size = row_bytes(self._shape, lengths, value, budget.kept, tail)
        stem = own._stem(segment, own._reducer.counts(budget), own._reducer.how)
        return Job(segment, lengths, budget, cap, size, own.kind, stem, after)

    def prepare(self, segments: Sequence[Segment]) -> Prompts:
        """Encode and embed segments; the same prompts serve every level and layer.

        Raises:
            TranscriptionError: a segment is longer than the model's window.
        """
        owns = [self.of(segment) for segment in segments]
        encoded, flops = self._encode(self.lm, segments, owns[0]._reducer.needs_encoder)
        texts = [own._text(one) for own, one in zip(owns, segments, strict=True)]
        pairs = list(zip(texts, encoded.tokens, strict=True))
        gates = [own.gate(one.question) for own, one in zip(owns, segments, strict=True)]
        return Prompts(
            embedded=[self._embedded(text, row) for text, row in pairs],
            lengths=[
                PromptLengths(len(before), len(row), len(after)) for (before, after), row in pairs
            ],
            scores=encoder_scores(encoded),
            encoder_flops=flops,
            gates=stacked(gates),
        )

    @torch.inference_mode()
    def start(self, jobs: Sequence[Job], reducer: Reducer | None = None) -> Prefilled:
        """Encode and prefill a group; its jobs learn their real lengths and what it took.

        Args:
            jobs: the group.
            reducer: in place of their own.
        """
        self.clock.lap()
        ready = self.prepare([job.segment for job in jobs])
        how = (reducer or self.of(jobs[0].segment)._reducer).how
        counts, paying = [], []
        for job, lengths, flops in zip(jobs, ready.lengths, ready.encoder_flops, strict=True):
            runner = self.of(job.segment)
            own = reducer or runner._reducer
            job.prompt, job.budget = lengths, own.solve(lengths, own.target)
            counts.append(own.counts(job.budget))
            job.stem = runner._stem(job.segment, counts[-1], how)
            if flops:  # else another task, or an attempt that failed, has paid
                job.encoder_flops = flops
                paying.append(job)
        encode = self.clock.lap() if paying else 0.0
        shared = stems(jobs)
        if shared:
            start = prefill_stems(self.decoder, ready, counts, how, shared)
        else:
            parts = ready.embedded, ready.lengths, counts, how, ready.scores, ready.gates
            start = prefill(self.decoder, *parts)
        for job, observed in zip(jobs, start.observed, strict=True):
            job.observed = observed
            job.company = max(job.company, len(jobs))
        self._charge(paying, "encode", encode)
        for job in jobs:
            job.spent.first_token = encode
        self.prefilled(jobs)
        return start

    def mixes(self, job: Job) -> bool:
        """Whether rows of other groups can be decoded beside its own."""
        how = self.of(job.segment)._reducer.how
        return self.beams == 1 and not isinstance(how, Eviction)

    def _stem(self, segment: Segment, kept: Sequence[int], how: Reduction | Eviction) -> Hashable:
        """See `Job.stem`."""
        before, after = self._text(segment)
        apart = not segment.tasks or not after or not before_layers(how, kept)
        if apart or self.gate(segment.question) is not None:
            return None
        return self.kind, sound_of(segment), tuple(before), tuple(kept)

    def prefilled(self, jobs: Sequence[Job]) -> None:
        """Charge a group for what brings its first tokens nearer, up to now."""
        seconds = self.clock.lap()
        self._charge(jobs, "prefill", seconds)
        for job in jobs:
            job.spent.first_token += seconds

    def stepped(self, jobs: Sequence[Job]) -> None:
        """Charge rows for a greedy step, up to now."""
        seconds = self.clock.lap()
        for job in jobs:
            job.spent.decode += seconds / len(jobs)

    def gave_up(self, jobs: Sequence[Job]) -> None:
        """Charge a group for an attempt that failed, up to now; nobody stood beside anybody."""
        for job in jobs:
            job.company = 0
        self._charge(jobs, "prefill", self.clock.lap())

    @torch.inference_mode()
    def search(self, start: Prefilled, jobs: Sequence[Job]) -> list[Hypothesis]:
        """Decode a group to its end."""
        caps = [job.cap for job in jobs]

        def first() -> None:
            self.prefilled(jobs)

        if self.beams > 1:
            answers = beam_search(self.decoder, start, caps, self.beams, first)
        else:
            answers = greedy(self.decoder, start, caps, first)
        self._charge(jobs, "decode", self.clock.lap())
        tails = [
            start.cache.tail if self.beams > 1 else len(answer.ids) - 1 + answer.ended
            for answer in answers
        ]
        return [self.answered(*one) for one in zip(jobs, answers, tails, strict=True)]

    def answered(self, job: Job, answer: Answer, tail: int) -> Hypothesis:
        """Text and cost; if the answer ran in a loop, those of a second attempt.

        Args:
            job: the segment.
            answer: what was generated.
            tail: cached tokens behind the prompt.
        """
        found = self._hypothesis(job, answer, tail)
        if LOOP not in found.warnings:
            return found
        first_token = job.spent.first_token
        try:
            again = self._again(job)
        except Exception as error:
            self.gave_up([job])
            left = self._hypothesis(job, answer, tail)
            failed = f"repetition_retry_failed:{first_line(error)}"
            return replace(left, warnings=(*left.warnings, failed))
        finally:
            job.spent.first_token = first_token
        # on both sides: against two full attempts the cut is smaller, never below nothing
        paid = {name: getattr(found.cost, name) + getattr(again.cost, name) for name in _TWICE}
        warnings = (*again.warnings, "repetition_retried")
        return replace(again, cost=replace(again.cost, **paid), warnings=warnings)

    def failed(self, job: Job, error: Exception) -> Hypothesis:
        """A segment without a text, and what it took to learn that."""
        spent = job.spent
        cost = Cost(spent.encode, spent.prefill, spent.decode)
        return failed(job.segment, error, cost)

    @torch.inference_mode()
    def _again(self, job: Job) -> Hypothesis:
        """Ask the full model, alone and without repeats."""
        alone = replace(job, encoder_flops=0)
        start = self.start([alone], self.of(job.segment)._reducer.idle)
        answer = greedy(self.decoder, start, [job.cap], lambda: self.prefilled([alone]), TIMES)[0]
        self.stepped([alone])
        return self._hypothesis(alone, answer, len(answer.ids) - 1 + answer.ended, beams=1)

    def _hypothesis(self, job: Job, answer: Answer, tail: int, beams: int = 0) -> Hypothesis:
        text = self.lm.text(answer.ids)
        scoring = self.of(job.segment)._reducer.scoring
        work = work_of(job, answer, scoring, beams or self.beams, tail)
        loop = looped(answer, text, job.segment.duration)
        return hypothesis(self.lm, job, answer, text, work, loop)

    def _embedded(self, text: Prompt, audio: Tensor) -> Tensor:
        head, tail = (self.lm.embed(ids) for ids in text)
        return torch.cat([head, audio.to(head), tail])

    def _cap(self, segment: Segment, prompt: int) -> int:
        """Most new tokens: what was asked for, else far more than anyone can say in that time.

        Raises:
            TranscriptionError: the prompt fills the positions of a model that ends with them.
        """
        wanted = self._config.max_new_tokens or (
            _SPARE_TOKENS + round(_TOKENS_PER_SECOND * segment.duration)
        )
        room = positions(self.lm) - prompt if self.lm.bounded else wanted
        if room < 1:
            raise TranscriptionError(
                f"a prompt of {prompt} tokens leaves no room for an answer in the"
                f" {positions(self.lm)} positions of {self.lm.name}: ask in fewer words"
            )
        return min(wanted, room)

    def _charge(self, jobs: Sequence[Job], stage: str, seconds: Seconds) -> None:
        for job, share in zip(jobs, shares([j.segment.duration for j in jobs]), strict=True):
            setattr(job.spent, stage, getattr(job.spent, stage) + seconds * share)
