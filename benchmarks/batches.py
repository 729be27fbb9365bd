"""Does company change the text? Every recording of a manifest alone, in batches, and shuffled.

`python -m benchmarks.batches MANIFEST [--task st]` answers every recording of the manifest as one
piece: one at a time, in batches of 16 in the manifest's order, and in batches of 16 in random
order. Where two texts differ, the full model is asked what it thought of the two tokens at which
they part: a gap between the best two logits below 1e-3 is a tie, which rounding may decide either
way. Ends in one JSON line; the exit code is 1 if any difference is no tie.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Annotated

import soundfile
import torch
import typer

from core.config import ReductionConfig, RunConfig
from core.engine import Engine
from core.models import load_model
from core.models.base import Request, SpeechLM
from core.records import Segment

TIE = 1e-3
BATCH = 16


@dataclass(frozen=True, slots=True)
class Difference:
    """A recording whose text changed with its company, and the logit gap where it did."""

    recording: str
    alone: str
    together: str
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
    seed: Annotated[int, typer.Option(help="Seed of the shuffled order.")] = 0,
) -> None:
    """Compare the text of every recording alone, in batches and shuffled."""
    segments = read(manifest)
    lm = load_model(model)
    language = "de" if task == "st" else None
    reduction = ReductionConfig("fastadasp", "constant", reduce, "keep", 0.0, 0)

    def answer(order: Sequence[Segment], size: int) -> dict[str, str]:
        config = RunConfig(task, reduction, target_language=language, batch_size=size)
        return texts(lm, config, order)

    alone = answer(segments, 1)
    shuffled = Random(seed).sample(segments, len(segments))
    differences = [
        Difference(
            segment.recording_id,
            alone[segment.recording_id],
            found[segment.recording_id],
            gap(
                lm,
                Request(task, target_language=language, question=segment.question),
                segment,
                alone[segment.recording_id],
                found[segment.recording_id],
            ),
        )
        for found in (answer(segments, BATCH), answer(shuffled, BATCH))
        for segment in segments
        if found[segment.recording_id] != alone[segment.recording_id]
    ]
    typer.echo(
        json.dumps(
            {
                "manifest": manifest.as_posix(),
                "task": task,
                "reduce": reduce,
                "recordings": len(segments),
                "differences": [asdict(one) for one in differences],
            }
        )
    )
    if any(one.gap >= TIE for one in differences):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
