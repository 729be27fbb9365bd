"""Options that commands share, each with its help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from core.errors import UsageError

Number = TypeVar("Number", int, float)

WHAT = "What to do"
HOW = "How much to reduce"
MACHINE = "Model and machine"
OUTPUT = "Output"

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="Files, folders (recursive), globs, manifests (.jsonl .txt), or - for paths on stdin.",
        show_default=False,
    ),
]
Task = Annotated[
    str,
    typer.Option(
        "--task",
        "-t",
        help="asr | st | er | sv | sqa | ac | chat (transcribe = asr, translate = st).",
        rich_help_panel=WHAT,
    ),
]
Tasks = Annotated[
    str,
    typer.Option(
        "--task",
        "-t",
        metavar="LIST",
        help="asr | st | er | sv | sqa | ac | chat (transcribe = asr, translate = st); several with"
        " commas share decoding and encoding.",
        rich_help_panel=WHAT,
    ),
]
Lang = Annotated[
    str | None,
    typer.Option(
        "--lang",
        "--target-lang",
        metavar="LANGUAGE",
        help="Language to translate into (st): German, de, deu or de-DE.",
        rich_help_panel=WHAT,
    ),
]
Language = Annotated[
    str | None,
    typer.Option(
        "--source-lang",
        "--language",
        "-l",
        metavar="LANGUAGE",
        help="Spoken language, by name, code or tag; detected when left out.",
        rich_help_panel=WHAT,
    ),
]
Question = Annotated[
    str | None,
    typer.Option(
        "--question", help="What to ask (sqa); wins over a manifest's.", rich_help_panel=WHAT
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option("--prompt", help="Replaces the task's own prompt.", rich_help_panel=WHAT),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME|FILE",
        help="Settings of the reduction; see `fastadasp presets`. Default: by task. A file from a"
        " stranger is code: its method may be a FILE.py:Name, which is run.",
        rich_help_panel=HOW,
    ),
]
Reduce = Annotated[
    float | None,
    typer.Option(
        "--reduce",
        metavar="0..0.9",
        help="Share of the language model's prefill FLOPs to cut; of its KV cache with h2o and"
        " streaming-llm.",
        rich_help_panel=HOW,
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="Reduction method, or FILE.py:Name, which is code and is run.",
        rich_help_panel=HOW,
    ),
]
Schedule = Annotated[
    str | None,
    typer.Option(
        "--schedule",
        help="once | constant | decay | input, or shares of input and layers: 2-0-0-1.",
        rich_help_panel=HOW,
    ),
]
StartLayer = Annotated[
    int | None,
    typer.Option("--start-layer", metavar="N", help="First reduced layer.", rich_help_panel=HOW),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        metavar="COSINE",
        help="Let affinity decide how much goes, in place of --reduce.",
        rich_help_panel=HOW,
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="ID|PATH",
        help="See `fastadasp models`.",
        rich_help_panel=MACHINE,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="auto | cpu | cuda | cuda:N | mps | split (over all GPUs, then main memory).",
        rich_help_panel=MACHINE,
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        help="auto (bfloat16 where that is faster) | float32 | bfloat16 | float16.",
        rich_help_panel=MACHINE,
    ),
]
Quantize = Annotated[
    str | None,
    typer.Option(
        "--quantize",
        metavar="8bit|4bit",
        help="Hold the language model's weights in fewer bits (bitsandbytes).",
        rich_help_panel=MACHINE,
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Never ask the network.", rich_help_panel=MACHINE)
]
BatchSize = Annotated[
    str,
    typer.Option(
        "--batch-size",
        metavar="auto|N",
        help="Most segments that go through the model together; auto: what the memory holds.",
        rich_help_panel=MACHINE,
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="Stay under this, as in 8G: memory of the GPU, or of the process on a CPU.",
        rich_help_panel=MACHINE,
    ),
]
NumBeams = Annotated[
    int,
    typer.Option("--num-beams", metavar="N", help="Beams of the search.", rich_help_panel=MACHINE),
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        "--max-new-tokens",
        metavar="N",
        help="Most tokens of one segment; by its length when left out.",
        rich_help_panel=MACHINE,
    ),
]
Segment = Annotated[
    str | None,
    typer.Option(
        "--segment",
        help="vad (at silences) | fixed | whole. Default: vad for asr and st, else fixed.",
        rich_help_panel=WHAT,
    ),
]
ChunkLength = Annotated[
    float | None,
    typer.Option(
        "--chunk-length",
        metavar="SECONDS",
        help="Longest segment; by the model when left out.",
        rich_help_panel=WHAT,
    ),
]
AudioTrack = Annotated[
    str,
    typer.Option(
        "--audio-track",
        metavar="auto|all|N",
        help="Of files with several: auto (the default one; when that is silent, the one with"
        " speech) | all (mixed) | its number from 1.",
        rich_help_panel=WHAT,
    ),
]
Channels = Annotated[
    str,
    typer.Option(
        "--channels",
        metavar="mix|best|split|N",
        help="mix (their mean) | best (the one with most speech) | split (each a recording of its"
        " own) | its number from 1.",
        rich_help_panel=WHAT,
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        help="local (this process) | ray (workers on this or many machines).",
        rich_help_panel=MACHINE,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="A",
        help="Ray cluster, as in auto or ray://head:10001. Default: start one here.",
        rich_help_panel=MACHINE,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", help="Models of --engine ray.", rich_help_panel=MACHINE),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-worker",
        metavar="G",
        help="GPUs of each, may be a fraction. Default: 1 if the cluster has any.",
        rich_help_panel=MACHINE,
    ),
]
OutputDir = Annotated[
    Path | None,
    typer.Option(
        "--output-dir",
        "-o",
        metavar="DIR",
        help="Write DIR/results.jsonl, and go on from there when repeated. Default: stdout.",
        rich_help_panel=OUTPUT,
    ),
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        "--output-format",
        "-f",
        metavar="LIST",
        help="jsonl, srt, vtt, txt, tsv, json; several with commas; files need -o.",
        rich_help_panel=OUTPUT,
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="N/M",
        help="Do only part N of M, the same on every machine; DIR may be one for all parts.",
        rich_help_panel=OUTPUT,
    ),
]
Hash = Annotated[
    bool,
    typer.Option(
        "--hash",
        help="Know finished recordings by content, not by time of change; reads every file.",
        rich_help_panel=OUTPUT,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Redo what is done, and replace results of other settings and files of your own.",
        rich_help_panel=OUTPUT,
    ),
]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        help="Leave out recordings with subtitles or a text beside them or in DIR, whoever's.",
        rich_help_panel=OUTPUT,
    ),
]
FailFast = Annotated[
    bool,
    typer.Option(
        "--fail-fast", help="End at the first recording that is not ok.", rich_help_panel=OUTPUT
    ),
]
Null = Annotated[
    bool,
    typer.Option(
        "--null", help="Paths on stdin end with NUL (find -print0).", rich_help_panel=OUTPUT
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Only errors on stderr.", rich_help_panel=OUTPUT)
]
NoProgress = Annotated[
    bool, typer.Option("--no-progress", help="No progress bar.", rich_help_panel=OUTPUT)
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Also what the libraries log.", rich_help_panel=OUTPUT),
]
Recording = Annotated[str, typer.Argument(metavar="FILE", help="One recording.")]
Levels = Annotated[
    str,
    typer.Option("--reduce", metavar="LIST", help="Cuts to compare, with commas; 0 is full."),
]
Seconds = Annotated[
    str | None,
    typer.Option(
        "--seconds",
        metavar="LIST",
        help="Lengths, as in 30,120,240: one prompt each, of the recording again and again.",
        show_default=False,
    ),
]
Beams = Annotated[
    str, typer.Option("--num-beams", metavar="LIST", help="Numbers of beams, with commas.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")]


def words(text: str | None) -> tuple[str, ...]:
    """The names of a list with commas, each once."""
    found = (word.strip() for word in (text or "").split(","))
    return tuple(dict.fromkeys(word for word in found if word))


def numbers(flag: str, text: str | None, kind: Callable[[str], Number]) -> tuple[Number, ...]:
    """The numbers of a list with commas, each once.

    Raises:
        UsageError: something else is among them.
    """
    try:
        found = tuple(dict.fromkeys(kind(word) for word in words(text)))
    except ValueError:
        found = ()
    if text is not None and not found:
        raise UsageError(f"{flag} {text}: give numbers with commas between them")
    return found
