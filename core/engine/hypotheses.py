"""What becomes of a segment: a text with its warnings and its cost, or an error in one line."""

from __future__ import annotations

from ..errors import first_line
from ..flops import Scoring
from ..models.base import SpeechLM
from ..records import Cost, Hypothesis, Segment
from ..reduction import given_up
from .cost import Work, cost_of
from .generate import Answer
from .job import Job, task_of
from .peak import peak_bytes
from .windows import positions

LOOP = "repetition"


def work_of(job: Job, answer: Answer, scoring: Scoring, beams: int, tail: int) -> Work:
    """What an answered segment asked of the model, see `Work`."""
    assert job.observed is not None, "it was not prefilled"
    return Work(
        job.prompt,
        job.observed,
        scoring,
        job.encoder_flops,
        len(answer.ids) + answer.ended,
        beams,
        tail,
        job.sharing,
        job.apart,
    )


def hypothesis(
    lm: SpeechLM, job: Job, answer: Answer, text: str, work: Work, loop: bool
) -> Hypothesis:
    """A segment's answer.

    Args:
        lm: the model that gave it.
        job: the segment.
        answer: what was generated, and `text`, what it says.
        work: what that took.
        loop: whether it runs in a loop.
    """
    segment = job.segment
    return Hypothesis(
        segment.recording_id,
        segment.index,
        segment.start,
        segment.end,
        text,
        cost_of(work, job.spent, lm.decoder_shape, peak_bytes(lm.device)),
        job.company,
        tuple(_warnings(lm, job, answer)) + (LOOP,) * loop,
        finished=answer.ended and not loop,
        speech=segment.speech,
        task=task_of(segment),
    )


def _warnings(lm: SpeechLM, job: Job, answer: Answer) -> list[str]:
    length = job.prompt.total + len(answer.ids)
    found = [f"batch_failed:{reason}" for reason in dict.fromkeys(job.failures)]
    found += [f"plain_code:{what}" for what in given_up()]
    if job.budget.capped:
        found.append(f"reduction_capped:{job.budget.reduction:.3f}")
    if 0 < positions(lm) < length:
        found.append(f"beyond_context:{length}")
    if not answer.ended:
        found.append("max_tokens_reached")
    return found


def failed(segment: Segment, error: Exception, cost: Cost) -> Hypothesis:
    """A segment without a text, in one line why."""
    return Hypothesis(
        segment.recording_id,
        segment.index,
        segment.start,
        segment.end,
        "",
        cost,
        error=first_line(error),
        finished=False,
        speech=segment.speech,
        task=task_of(segment),
    )
