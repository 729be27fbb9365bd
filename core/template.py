"""What every record of a run has in common."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

from presets import ANCHORED

from . import __version__
from .config import RunConfig
from .records import SCHEMA_VERSION, Flops, Latency, Memory, Source, Tokens, Transcript

if TYPE_CHECKING:
    from .models.base import SpeechLM


LIBRARIES = ("torch", "transformers", "silero-vad")
"""Those that the text of a recording hangs on."""
LANGUAGE_IGNORED = "language_ignored"
"""Warning of records whose `language` reached no token of the prompt."""


@cache
def versions() -> dict[str, str]:
    """Of `LIBRARIES`, as far as they are installed."""
    found = {}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _ignored(config: RunConfig, model: SpeechLM) -> tuple[str, ...]:
    """A warning where the prompt is the same whatever language is said to be spoken."""
    if config.language is None:
        return ()
    from .models.facts import Request

    known = model.facts.source_languages or ("en", "de")
    other = next((code for code in known if code != config.language), None)
    if other is None:
        return ()
    asked = Request(
        config.task, config.language, config.target_language, config.question, config.prompt
    )
    same = model.prompt_ids(asked) == model.prompt_ids(replace(asked, language=other))
    return (LANGUAGE_IGNORED,) if same else ()


def template_of(config: RunConfig, model: SpeechLM | None = None) -> Transcript:
    """A record with all that is the same for every recording of the run."""
    reduction = config.reduction
    dtype = str(model.dtype).removeprefix("torch.") if model else config.dtype
    start_layer = None
    if model is not None and reduction.cuts_prompt and reduction.schedule in ANCHORED:
        start_layer = reduction.first_layer(model.decoder_shape.layers)
    return Transcript(
        schema_version=SCHEMA_VERSION,
        id="",
        audio_filepath="",
        status="ok",
        error=None,
        warnings=_ignored(config, model) if model else (),
        task=config.task,
        language=config.language,
        target_language=config.target_language,
        question=config.question,
        model=config.model,
        model_revision=model.revision if model else None,
        version=__version__,
        versions=versions(),
        preset=config.preset,
        overrides=dict(config.overrides),
        method=reduction.method,
        schedule=reduction.schedule,
        start_layer=start_layer,
        positions=reduction.positions,
        threshold=reduction.threshold,
        text=None,
        pred_text="",
        label=None,
        segments=(),
        coverage=None,
        duration=None,
        time=None,
        rtf=None,
        rtfx=None,
        rtfx_model=None,
        latency=Latency(),
        tokens=Tokens(),
        flops=Flops(reduction_target=0.0 if reduction.cuts_cache else reduction.reduce),
        memory=Memory(reduction_target=reduction.reduce if reduction.cuts_cache else 0.0),
        device=str(model.device) if model else config.device,
        dtype=dtype,
        quantize=config.quantize,
        batch_size=None,
        num_beams=config.num_beams,
        source=Source(),
        settings_hash=config.hash_in(dtype),
    )
