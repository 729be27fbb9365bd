"""Score a model folder on held-out sets with plain transformers, nothing of fastadasp.

    python -m recipes.embedded.evaluate --model FOLDER --heldout DIR

Every recording takes the standard path: processor with 30 s padding, then greedy `generate`.
Prints one JSON object per set and task: WER in percent by jiwer (per kind too), BLEU by sacrebleu,
or the share of exact answers.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import jiwer
import sacrebleu
import soundfile
import torch
import typer
from tqdm import tqdm
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

from .speech import SAMPLE_RATE
from .tasks import SPEAKERS, TASKS
from .tokens import chat_text

Row = dict[str, Any]


TASK_OF = {"speech": "asr", "long": "asr", "digits": "asr", "er": "er", "sv": "sv", "sqa": "sqa"}
"""What each held-out set asks for; speech asks for st too."""


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")],
    heldout: Annotated[Path, typer.Option(help="Folder from heldout.")],
    limit: Annotated[
        int | None, typer.Option(help="Recordings per set, evenly spaced; none: all.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Recordings per batch.", min=1)] = 16,
    threads: Annotated[int, typer.Option(help="Threads of torch.", min=1)] = 1,
    hypotheses: Annotated[Path | None, typer.Option(help="JSONL file for the outputs.")] = None,
) -> None:
    """Evaluate every set on its task, speech on asr and st."""
    torch.set_num_threads(threads)
    decoder = Decoder(model, batch_size)
    outputs: list[Row] = []
    for folder in sorted(path.parent for path in heldout.glob("*/manifest.jsonl")):
        rows = read_manifest(folder, limit)
        for task in (TASK_OF[folder.name], *(("st",) if folder.name == "speech" else ())):
            for row, text in zip(rows, decoder(rows, task), strict=True):
                row[task] = text
            scores = SCORES[task](rows)
            typer.echo(json.dumps({"set": folder.name, "recordings": len(rows), **scores}))
        outputs += rows
    if hypotheses:
        lines = (json.dumps(row, ensure_ascii=False, default=str) for row in outputs)
        hypotheses.write_text("\n".join(lines) + "\n", encoding="utf-8")


class Decoder:
    """A model and its processor, greedy, in single precision on the CPU."""

    def __init__(self, folder: Path, batch_size: int) -> None:
        """Load the model folder; nothing is downloaded."""
        self._processor: Any = AutoProcessor.from_pretrained(folder)
        loaded: Any = Qwen2AudioForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32
        )
        self._model = loaded.eval()
        self._batch_size = batch_size

    def __call__(self, rows: list[Row], task: str) -> list[str]:
        """Return one text per row for a task of `TASKS`."""
        texts: list[str] = []
        for start in tqdm(range(0, len(rows), self._batch_size), desc=task):
            texts += self._batch(rows[start : start + self._batch_size], task)
        return texts

    def _batch(self, rows: list[Row], task: str) -> list[str]:
        prompts = [TASKS[task].prompt if task in TASKS else row["question"] for row in rows]
        inputs = self._processor(
            text=[chat_text(self._processor, prompt) for prompt in prompts],
            audio=[soundfile.read(row["path"], dtype="float32")[0] for row in rows],
            sampling_rate=SAMPLE_RATE,
            return_tensors="pt",
            padding=True,
        )
        longest = max(row["duration"] for row in rows)
        ids = self._model.generate(**inputs, max_new_tokens=round(8 + 6 * longest), do_sample=False)
        new = ids[:, inputs["input_ids"].shape[1] :]
        decoded: list[str] = self._processor.batch_decode(new, skip_special_tokens=True)
        return [text.strip() for text in decoded]


def read_manifest(folder: Path, limit: int | None = None) -> list[Row]:
    """Read a manifest; `path` of each row is the recording's."""
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows: list[Row] = [json.loads(line) for line in lines]
    step = 1 if limit is None else max(1, len(rows) // limit)
    chosen = rows[::step][:limit]
    return [{**row, "path": folder / row["audio_filepath"]} for row in chosen]


def word_errors(rows: list[Row]) -> Row:
    """Return the word error rate in percent of `asr` against `text`, overall and per kind."""
    groups = {"wer": rows}
    for row in rows:
        groups.setdefault(f"wer_{row['kind']}", []).append(row)
    return {
        name: round(100 * jiwer.wer([r["text"] for r in group], [r["asr"] for r in group]), 2)
        for name, group in groups.items()
    }


def accuracy(task: str, key: str) -> Callable[[list[Row]], Row]:
    """Return a function that scores a task in percent of answers equal to `key` of the row."""

    def score(rows: list[Row]) -> Row:
        wanted = [str(SPEAKERS.get(row[key], row[key])) for row in rows]
        right = sum(row[task] == answer for row, answer in zip(rows, wanted, strict=True))
        return {f"{task}_accuracy": round(100 * right / len(rows), 2)}

    return score


def bleu(rows: list[Row]) -> Row:
    """Return the corpus BLEU of `st` against `translation`, sacrebleu's default."""
    score = sacrebleu.corpus_bleu([r["st"] for r in rows], [[r["translation"] for r in rows]])
    return {"bleu": round(score.score, 2)}


SCORES: dict[str, Callable[[list[Row]], Row]] = {
    "asr": word_errors,
    "st": bleu,
    "er": accuracy("er", "emotion"),
    "sv": accuracy("sv", "speakers"),
    "sqa": accuracy("sqa", "answer"),
}


if __name__ == "__main__":
    typer.run(main)
