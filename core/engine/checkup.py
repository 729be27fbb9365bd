"""`checkup`: a checkpoint that someone wants to use, looked at once before the night's work."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..config import ReductionConfig, RunConfig
from ..errors import TranscriptionError
from ..models.base import Facts, SpeechLM
from ..records import Hypothesis, Segment
from ..reduction import why_not
from .engine import Engine

_SECONDS = 3.0
_NEW_TOKENS = 40


@dataclass(frozen=True, slots=True)
class Checkup:
    """What came of it.

    Attributes:
        model, family: as the user called it, and what it is.
        tasks: that it has.
        window: longest piece in seconds.
        audio_tokens: of what it heard.
        reason: why it cannot be reduced; None if it can.
        text: what it wrote, in full.
        cut: prefill FLOPs that were cut the second time, a share; None if it cannot be reduced.
        reduced_text: what it wrote then.
    """

    model: str
    family: str
    tasks: tuple[str, ...]
    window: float
    audio_tokens: int
    reason: str | None
    text: str
    cut: float | None = None
    reduced_text: str | None = None


def checkup(lm: SpeechLM, heard: Segment | None = None) -> Checkup:
    """Prove that a reduction fits the decoder, and let the model hear something, full and reduced.

    Args:
        lm: the loaded model.
        heard: at its rate and under its window; None = a tone of some seconds.

    Raises:
        TranscriptionError: it cannot hear at all.
    """
    segment = heard or _tone(lm.facts)
    plain = ReductionConfig("fastadasp", "constant", 0.0, "keep", 0.0)
    known = lm.facts.source_languages
    language = None if lm.detects or not known else known[0]
    config = RunConfig(lm.facts.tasks[0], plain, language=language, max_new_tokens=_NEW_TOKENS)
    full = _heard(lm, config, segment)
    reason = why_not(lm.decoder, lm.model.get_input_embeddings())
    found = Checkup(
        model=lm.name,
        family=lm.card.get("family", lm.model.config.model_type),
        tasks=lm.facts.tasks,
        window=lm.facts.max_seconds,
        audio_tokens=full.cost.audio_in,
        reason=reason,
        text=full.text,
    )
    if reason is not None:
        return found
    with Engine(lm, config) as engine:
        most = engine.reducer.solve(engine.runner.job(segment).prompt, 1.0).reduction
    reduced = _heard(lm, replace(config, reduction=replace(plain, reduce=most / 2)), segment)
    left = reduced.cost.prefill_flops / reduced.cost.prefill_full_flops
    return replace(found, cut=1 - left, reduced_text=reduced.text)


def _heard(lm: SpeechLM, config: RunConfig, segment: Segment) -> Hypothesis:
    with Engine(lm, config) as engine:
        found = engine.run([segment])[0]
    if found.error is not None:
        raise TranscriptionError(f"{lm.name} loads but does not run: {found.error}")
    return found


def _tone(facts: Facts) -> Segment:
    rate = facts.sample_rate
    time = np.arange(round(min(_SECONDS, facts.max_seconds) * rate)) / rate
    wave = 0.2 * np.sin(2 * np.pi * 220 * time) * np.sin(2 * np.pi * 2 * time) ** 2
    return Segment("tone", 0, 0.0, wave.astype(np.float32), rate)
