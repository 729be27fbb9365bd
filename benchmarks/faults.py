"""What an overnight run meets, really done to it: kills, a full disk, signals, files that vanish.

`python -m benchmarks.faults [--kills 50] [--files 60] [--seed 0]` runs the command line as
processes of its own, with a model that echoes text files (so that a start costs little) and all
the rest real: discovery, threads, lock, store, side files. Only for files that vanish are sounds
decoded, in this process. Ends in one JSON line; the exit code is 1 if anything was lost.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from core.flags import resolve
from core.media.discover import discover
from core.pipeline import Event, run
from core.results.store import MemorySink
from tests.hearing import Hearing
from tests.media.sounds import tone, write

ROOT = Path(__file__).parents[1]
FORMATS = ("srt", "json")
PATIENCE_S = 300.0


class Folder:
    """Recordings made of words, and where the results of a run over them go."""

    def __init__(self, place: Path, number: int, lines: Sequence[str]) -> None:
        """Write `number` recordings that say `lines` each."""
        self.input, self.output = place / "in", place / "out"
        self.names = [f"day{index % 4}/{index:03d}.wav" for index in range(number)]
        for name in self.names:
            path = self.input / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join((*lines, name)))

    def start(self, **more: Any) -> subprocess.Popen[bytes]:
        """Begin or go on with the run, as a process of its own."""
        words = ["run", self.input, "-o", self.output, "-f", ",".join(FORMATS), "-q"]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.cli.fake_main", *map(str, words)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            **more,
        )

    def finish(self, **more: Any) -> tuple[int, str]:
        """Run to the end: exit code and the last words."""
        process = self.start(**more)
        _, said = process.communicate(timeout=PATIENCE_S)
        return process.returncode, said.decode()

    def lines(self) -> list[bytes]:
        """The whole lines of the results so far."""
        path = self.output / "results.jsonl"
        found = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        return [line for line in found if line.endswith(b"\n")]

    def done(self) -> set[str]:
        """Names with an ok record; a line that is no JSON ends the measurement."""
        records = map(json.loads, self.lines())
        return {record["id"] for record in records if record["status"] == "ok"}

    def wait_for(self, process: subprocess.Popen[bytes], more: int) -> None:
        """Until so many more lines are there, or the process has ended."""
        wanted = len(self.lines()) + more
        deadline = time.monotonic() + PATIENCE_S
        while len(self.lines()) < wanted and process.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError("the run writes nothing")
            time.sleep(0.002)

    def verdict(self) -> dict[str, Any]:
        """Whether all is there, each once and whole."""
        records = [json.loads(line) for line in self.lines()]
        found = Counter(record["id"] for record in records)
        texts = all(record["pred_text"].endswith(record["id"]) for record in records)
        stems = {name: self.output / name.removesuffix(".wav") for name in self.names}
        side = [stem.with_suffix(f".{kind}") for stem in stems.values() for kind in FORMATS]
        said = {
            name: json.loads(stem.with_suffix(".json").read_text()) for name, stem in stems.items()
        }
        return {
            "complete": set(found) == set(self.names) and texts,
            "each_once": set(found.values()) == {1},
            "side_files_whole": all(path.exists() and path.stat().st_size for path in side)
            and all(said[record["id"]]["text"] == record["pred_text"] for record in records),
            "left_alone": sum(len(record["warnings"]) for record in records),
            "left_behind": len(list(self.output.rglob("*.tmp"))),
        }


def killed(place: Path, kills: int, files: int, seed: int) -> dict[str, Any]:
    """`kill -9` at random moments, then go on; when all is done, some files change."""
    rng, folder = Random(seed), Folder(place, files, ["!sleep 0.02"])
    lost, refreshed, while_starting = 0, 0, 0
    for number in range(kills):
        if len(folder.done()) == files:
            refreshed += 1
            for name in rng.sample(folder.names, files // 4):
                (folder.input / name).write_text(f"!sleep 0.02\nround {number}\n{name}")
        before = folder.done()
        process = folder.start()
        if rng.random() < 0.25:
            time.sleep(rng.uniform(0.0, 1.0))
        else:
            folder.wait_for(process, rng.choice((1, 1, 2)))
            time.sleep(rng.uniform(0.0, 0.1))
        process.kill()
        process.communicate()
        lost += len(before - folder.done())
        while_starting += before == folder.done()
        if (number + 1) % 10 == 0:
            typer.echo(f"{number + 1} of {kills} kills", err=True)
    code, _ = folder.finish()
    return {
        "files": files,
        "kills": kills,
        "kills_before_a_record": while_starting,
        "times_all_was_done_and_a_quarter_changed": refreshed,
        "lost": lost,
        "exit_code": code,
        **folder.verdict(),
    }


def full_disk(place: Path, files: int) -> dict[str, Any]:
    """A disk that fills up in mid-run, then has room again."""
    folder = Folder(place, files, ["word " * 100])
    folder.output.mkdir()
    mounted = _mount(folder.output, "size=96k")
    room = None if mounted else _small_files(20_000)
    code, said = folder.finish(preexec_fn=room)
    kept = len(folder.done())
    torn = (folder.output / "results.jsonl").stat().st_size - sum(map(len, folder.lines()))
    if mounted:
        _mount(folder.output, "remount,size=16m")
    again, _ = folder.finish()
    found = {
        "disk": "tmpfs of 96 KiB" if mounted else "files of 20 kB at most",
        "exit_code": code,
        "said": said.strip().splitlines()[-1].replace(str(place), "DIR"),
        "kept": kept,
        "torn_bytes": torn,
        "exit_code_with_room": again,
        **folder.verdict(),
    }
    if mounted:
        subprocess.run(["umount", folder.output], check=False)
    return found


def interrupted(place: Path, number: signal.Signals) -> dict[str, Any]:
    """A signal in the middle of a recording: it is finished, then the run ends."""
    folder = Folder(place, 12, ["!sleep 0.25"] * 3)
    process = folder.start(preexec_fn=_hearing_signals)
    folder.wait_for(process, 2)
    time.sleep(0.3)  # well into the next one
    before = folder.done()
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_S)
    after = folder.done()
    again, _ = folder.finish()
    return {
        "exit_code": process.returncode,
        "done_at_the_signal": len(before),
        "done_at_the_end": len(after),
        "in_hand_finished": len(before) < len(after) < len(folder.names)
        and sorted(after) == sorted(folder.names)[: len(after)],
        "exit_code_again": again,
        **folder.verdict(),
    }


def vanished(place: Path) -> dict[str, Any]:
    """Recordings deleted after they were found and before they were decoded."""
    place.mkdir()
    paths = [write(place / f"{index:02d}.wav", tone(1)) for index in range(24)]
    gone = {path.name for path in paths[-4:]}

    def delete(event: Event) -> None:
        if event.kind == "started":
            for path in paths[-4:]:
                path.unlink()

    sink = MemorySink()
    found = list(discover([str(place)]))
    report = run(resolve(segment="fixed"), found, sink, on_event=delete, stages=Hearing())
    failed = {name: one for name, one in sink.records.items() if one.status == "failed"}
    messages = {one.error.message for one in failed.values() if one.error is not None}
    return {
        "ok": report.ok,
        "failed": report.failed,
        "complete": set(failed) == gone and len(sink.records) == 24,
        "said": sorted(messages),
    }


def all_faults(place: Path, kills: int, files: int, seed: int) -> dict[str, Any]:
    """Every fault once, and whether nothing was lost."""
    steps: dict[str, Callable[[Path], dict[str, Any]]] = {
        "killed": lambda path: killed(path, kills, files, seed),
        "full_disk": lambda path: full_disk(path, files),
        "sigint": lambda path: interrupted(path, signal.SIGINT),
        "sigterm": lambda path: interrupted(path, signal.SIGTERM),
        "vanished": vanished,
    }
    found: dict[str, Any] = {"model": "an echo; vanished: none, every piece is answered alike"}
    for name, step in steps.items():
        typer.echo(name, err=True)
        begun = time.monotonic()
        found[name] = step(place / name)
        found[name]["wall_s"] = round(time.monotonic() - begun, 1)
    found["nothing_lost"] = all(
        one["complete"]
        and one.get("each_once", True)
        and one.get("side_files_whole", True)
        and not (one.get("lost") or one.get("left_alone"))
        for one in (found[name] for name in steps)
    )
    return found


def _hearing_signals() -> None:
    # started in the background, a shell hands on an ignored SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _small_files(size: int) -> Callable[[], None]:
    """No file of the process may grow beyond `size` bytes: the write in which it would is cut."""

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def _mount(folder: Path, options: str) -> bool:
    """Whether a file system in memory could be mounted, for which one must be root."""
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def main(
    kills: Annotated[int, typer.Option(help="Times the run is killed.")] = 50,
    files: Annotated[int, typer.Option(help="Recordings in the folder.")] = 60,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
) -> None:
    """Do all of it, and tell what was lost."""
    with TemporaryDirectory() as place:
        found = all_faults(Path(place), kills, files, seed)
    typer.echo(json.dumps(found))
    if not found["nothing_lost"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
