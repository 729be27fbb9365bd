"""Does speed or company change the text? Recordings the slow way, alone, in batches, and shuffled.

`python -m benchmarks.batches MANIFEST [--task st]` answers every recording of the manifest as one
piece: the slow way (plain `generate` of transformers; with `--reduce` a prefill that runs the last
layer for every position, and no pool), one at a time, in batches of 16 in the manifest's order, and
in batches of 16 in random order. Where two texts differ, the full model is asked what it thought of
the two tokens at which they part: a gap between the best two logits below 1e-3 is a tie, which
rounding may decide either way. Ends in one JSON line; the exit code is 1 if any difference is no
tie.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Annotated, Any

import soundfile
import torch
import typer

from core.config import ReductionConfig, RunConfig
from core.engine import Engine
from core.engine.runner import Runner
from core.models import load_model
from core.models.base import Request, SpeechLM
from core.records import Segment
from core.reduction import Reduction, reducing

TIE = 1e-3
BATCH = 16


@dataclass(frozen=True, slots=True)
class Difference:
    """A recording whose text is not that of the slow way, and the logit gap where they part."""

    recording: str
    way: str
    slow: str
    fast: str
    gap: float


def read(manifest: Path) -> list[Segment]:
    """Every recording of a manifest as one segment, with its question if it has one."""
    segments = []
    for index, line in enumerate(manifest.read_text().splitlines()):
        row = json.loads(line)
        samples, rate = soundfile.read(manifest.parent / row["audio_filepath"], dtype="float32")
        name, question = row["audio_filepath"], row.get("question")
        segments.append(Segment(name, index, 0.0, samples, rate, question))
    return segments


def texts(lm: SpeechLM, config: RunConfig, segments: Sequence[Segment]) -> dict[str, str]:
    """Text of every segment, answered in the order and the company that the engine chooses."""
    with Engine(lm, config) as engine:
        return {found.recording_id: found.text for found in engine.transcribe(segments)}


@torch.inference_mode()
def plain(
    lm: SpeechLM, config: RunConfig, segments: Sequence[Segment], size: int = 1
) -> Iterator[str]:
    """`generate` of the untouched model, so many recordings at a time, as its card shows."""
    runner = Engine(lm, config).runner

    @cache
    def prompt(question: str | None) -> str:
        language = config.target_language
        return lm.prompt(Request(config.task, target_language=language, question=question))

    for first in range(0, len(segments), size):
        batch = segments[first : first + size]
        made: Any = lm.processor(
            text=[prompt(segment.question) for segment in batch],
            audio=[segment.samples for segment in batch],
            sampling_rate=batch[0].sample_rate,
            return_tensors="pt",
            padding=True,
            padding_side="left",
        )
        made = made.to(lm.device)
        made["input_features"] = made["input_features"].to(lm.dtype)
        out = lm.model.generate(
            **made,
            max_new_tokens=max(runner.job(segment).cap for segment in batch),
            num_beams=config.num_beams,
            do_sample=False,
        )
        for answer in out[:, made["input_ids"].shape[1] :].tolist():
            end = next((n for n, token in enumerate(answer) if token in lm.end_tokens), None)
            yield lm.text(answer[:end])


def slowly(lm: SpeechLM, config: RunConfig, segments: Sequence[Segment]) -> Iterator[str]:
    """Texts without the shortcuts: of the full model by `plain`, else the last layer whole."""
    how = Engine(lm, config).reducer
    if not how.target or not isinstance(how.how, Reduction):
        yield from plain(lm, config, segments)
        return
    runner = Runner(lm, config, replace(how, how=replace(how.how, shortcut=False)))
    with reducing(lm.decoder):
        for segment in segments:
            job = runner.job(segment)
            yield runner.search(runner.start([job]), [job])[0].text


@torch.inference_mode()
def gap(lm: SpeechLM, request: Request, segment: Segment, alone: str, together: str) -> float:
    """Difference of the best two logits of the full model where two answers part."""
    encode = lm.processor.tokenizer.encode
    end = list(lm.end_tokens[:1])
    first, second = ([*encode(f" {text}"), *end] for text in (alone, together))
    shared = next(
        (n for n, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]),
        min(len(first), len(second)),
    )
    before, after = lm.prompt_ids(request)
    audio = lm.encode([segment.samples]).tokens[0]
    tail = lm.embed([*after, *first[:shared]])
    prompt = torch.cat([lm.embed(before), audio.to(tail.dtype), tail])[None]
    hidden = lm.decoder(inputs_embeds=prompt, use_cache=False).last_hidden_state
    best = lm.head(hidden[0, -1]).float().topk(2).values
    return float(best[0] - best[1])


def main(
    manifest: Annotated[Path, typer.Argument(help="JSON lines with audio_filepath.")],
    task: Annotated[str, typer.Option(help="Any task of the model.")] = "asr",
    model: Annotated[str, typer.Option(help="Id or folder.")] = "embedded",
    reduce: Annotated[float, typer.Option(help="Cut of prefill FLOPs.")] = 0.0,
    method: Annotated[str, typer.Option(help="Reduction method.")] = "fastadasp",
    schedule: Annotated[str, typer.Option(help="As of `fastadasp run`.")] = "constant",
    num_beams: Annotated[int, typer.Option(help="Beams of the search.")] = 1,
    limit: Annotated[int | None, typer.Option(help="First so many recordings.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the shuffled order.")] = 0,
) -> None:
    """Compare the text of every recording the slow way, alone, in batches and shuffled."""
    segments = read(manifest)[:limit]
    lm = load_model(model)
    language = "de" if task == "st" else None
    reduction = ReductionConfig(method, schedule, reduce, "keep", 0.0, 0)
    config = RunConfig(task, reduction, target_language=language, num_beams=num_beams)

    def answer(order: Sequence[Segment], size: int) -> dict[str, str]:
        return texts(lm, replace(config, batch_size=size), order)

    names = [segment.recording_id for segment in segments]
    slow = dict(zip(names, slowly(lm, config, segments), strict=True))
    shuffled = Random(seed).sample(segments, len(segments))
    ways = {
        "alone": answer(segments, 1),
        "batches": answer(segments, BATCH),
        "shuffled": answer(shuffled, BATCH),
    }
    differences = [
        Difference(
            name,
            way,
            slow[name],
            found[name],
            gap(
                lm,
                Request(task, target_language=language, question=segment.question),
                segment,
                slow[name],
                found[name],
            ),
        )
        for way, found in ways.items()
        for name, segment in zip(names, segments, strict=True)
        if found[name] != slow[name]
    ]
    typer.echo(
        json.dumps(
            {
                "manifest": manifest.as_posix(),
                "task": task,
                "reduce": reduce,
                "method": method if reduce else None,
                "schedule": schedule if reduce else None,
                "num_beams": num_beams,
                "recordings": len(segments),
                "differences": [asdict(one) for one in differences],
            }
        )
    )
    if any(one.gap >= TIE for one in differences):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
