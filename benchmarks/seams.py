"""Are words lost or doubled where long recordings are cut?

`python -m benchmarks.seams [MANIFEST]` transcribes the recordings of a manifest with `text` that
are longer than `--longer-than` seconds, as a run does, and aligns what was heard with the text.
`--join N` puts N of its short recordings end to end instead, `--gap` seconds apart: without a
pause, cuts fall where speech goes on. Errors are counted beside a seam (the last word of a piece
and the first of the next) and elsewhere. Ends in one JSON line.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from core import pipeline
from core.flags import resolve
from core.media.decode import decode
from core.records import Recording, Span
from core.results.store import MemorySink

EXAMPLES = Path(__file__).parent.parent / "examples" / "audio" / "manifest.jsonl"
RATE = 16_000


def errors(reference: str, spans: Sequence[Span]) -> Counter[str]:
    """Words lost, doubled, put in or mistaken, `seam_` before those that stand beside a seam."""
    import jiwer

    pieces = [span.text.split() for span in spans if span.text.strip()]
    heard = [word for piece in pieces for word in piece]
    # places between words where a piece ends and the next begins
    seams = {sum(map(len, pieces[: n + 1])) for n in range(len(pieces) - 1)}
    found: Counter[str] = Counter(words=len(reference.split()), seams=len(seams))
    made = jiwer.process_words(reference, " ".join(heard))
    for part in made.alignments[0]:
        first, last = part.hyp_start_idx, part.hyp_end_idx
        if part.type == "delete":
            count = part.ref_end_idx - part.ref_start_idx
            found[_name("lost", first in seams)] += count
        elif part.type == "insert":
            beside = {first, last} & seams
            twice = beside and heard[first:last] in (
                heard[2 * first - last : first],
                heard[last : 2 * last - first],
            )
            found[_name("doubled" if twice else "put_in", bool(beside))] += last - first
        elif part.type == "substitute":
            for place in range(first, last):
                found[_name("mistaken", bool({place, place + 1} & seams))] += 1
    return found


def _name(what: str, at_seam: bool) -> str:
    return f"seam_{what}" if at_seam else what


def read(manifest: Path) -> list[Recording]:
    """Recordings with a text."""
    rows = map(json.loads, manifest.read_text(encoding="utf-8").splitlines())
    return [
        Recording(row["audio_filepath"], manifest.parent / row["audio_filepath"], row["text"])
        for row in rows
        if row.get("text")
    ]


def joined(parts: Sequence[Recording], gap: float, path: Path) -> Recording:
    """One recording of several, end to end."""
    import soundfile

    sound = [np.concatenate(list(decode(part.path, RATE))) for part in parts]
    pause = np.zeros(round(gap * RATE), np.float32)
    soundfile.write(path, np.concatenate([x for one in sound for x in (one, pause)]), RATE)
    return Recording(path.name, path, " ".join(str(part.text) for part in parts))


def main(
    manifest: Annotated[Path, typer.Argument(help="JSON lines with text.")] = EXAMPLES,
    longer_than: Annotated[float, typer.Option(help="Seconds; others are left out.")] = 20,
    join: Annotated[int, typer.Option(help="Short recordings to put end to end.")] = 0,
    gap: Annotated[float, typer.Option(help="Seconds between them.")] = 0.0,
    chunk_length: Annotated[float, typer.Option(help="Longest piece; 0 = by the model.")] = 0,
    reduce: Annotated[float, typer.Option(help="Cut of prefill FLOPs.")] = 0.0,
    model: Annotated[str, typer.Option(help="Id or folder.")] = "embedded",
    threads: Annotated[int, typer.Option(help="Of the model.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the order.")] = 0,
) -> None:
    """Count errors beside seams and elsewhere."""
    settings = {name: value for name, value in locals().items() if name != "manifest"}
    torch.set_num_threads(threads)
    lengths = {one.id: sum(map(len, decode(one.path, RATE))) / RATE for one in read(manifest)}
    long = [one for one in read(manifest) if (lengths[one.id] > longer_than) != bool(join)]
    config = resolve(model=model, reduce=reduce, chunk_length=chunk_length or None)
    total: Counter[str] = Counter()
    sink = MemorySink()
    with tempfile.TemporaryDirectory() as folder:
        if join:
            picked = random.Random(seed).choices(long, k=join)
            long = [joined(picked, gap, Path(folder) / "joined.wav")]
        pipeline.run(config, long, sink)
    for recording in long:
        record = sink.records[recording.id]
        found = errors(str(recording.text), record.segments)
        total += found
        print(recording.id, record.coverage, dict(found), file=sys.stderr)  # noqa: T201
    names = ("lost", "doubled", "put_in", "mistaken")
    counted: dict[str, Any] = {
        key: total[key] for name in names for key in (name, _name(name, True))
    }
    coverage = min(sink.records[one.id].coverage or 0.0 for one in long)
    result = {"recordings": len(long), "words": total["words"], "seams": total["seams"], **counted}
    typer.echo(json.dumps({**result, "coverage": coverage, **settings}))


if __name__ == "__main__":
    typer.run(main)
