"""`fastadasp doctor`: what is here, what is missing, what to do about it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from core import __version__

from . import console
from . import options as opt

if TYPE_CHECKING:
    from packaging.requirements import Requirement

State = Literal["ok", "note", "bad"]
_OURS = "fastadasp"
_EXTRAS = ("eval", "plots", "quantize", "ray", "voxtral")
_TORCHAUDIO = (
    "does not fit this torch, and transformers fails with it (OSError): pip uninstall torchaudio, "
    "or install the build for your torch from download.pytorch.org/whl"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis."""

    what: str
    state: State
    text: str


def doctor(as_json: opt.AsJson = False) -> None:
    """Versions, devices, and what is missing; exit code 1 when something must be mended."""
    console.hush_libraries()
    findings = [finding for check in _CHECKS for finding in check()]
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False))
    else:
        rows = [(finding.what, finding.state, finding.text) for finding in findings]
        console.table("", ("what", "state", ""), rows)
    raise typer.Exit(int(any(finding.state == "bad" for finding in findings)))


def _versions() -> Iterator[Finding]:
    yield Finding("fastadasp", "ok", __version__)
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    needs = _needs("")
    if not needs:
        yield Finding("versions", "note", "not compared: this copy was not installed by pip")
    for need in needs:
        yield _installed(need, f"pip install '{need.name}{need.specifier}'", "bad")


def _needs(extra: str) -> list[Requirement]:
    """What the installed package says that it needs: always, or for one of its extras alone."""
    from packaging.requirements import Requirement

    def wanted(need: Requirement, extra: str) -> bool:
        return need.marker is None or need.marker.evaluate({"extra": extra})

    with suppress(metadata.PackageNotFoundError):
        found = [Requirement(text) for text in metadata.requires(_OURS) or ()]
        return [need for need in found if wanted(need, extra) and not (extra and wanted(need, ""))]
    return []


def _installed(need: Requirement, way_out: str, without: State) -> Finding:
    """The version that is there, held against the range that the package asks for."""
    version = _version(need.name)
    if version is None:
        return Finding(need.name, without, f"not installed: {way_out}")
    if not need.specifier.contains(version, prereleases=True):
        return Finding(need.name, "bad", f"{version}, but it needs {need.specifier}: {way_out}")
    return Finding(need.name, "ok", version)


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("torch import", "bad", _one_line(error))
        return
    yield Finding("threads", "ok", f"{torch.get_num_threads()} of torch")
    if not torch.cuda.is_available():
        built = torch.version.cuda or torch.version.hip
        why = "no usable GPU or driver" if built else "this torch is built for the CPU only"
        yield Finding("cuda", "note", f"none: {why}")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = f"{properties.total_memory / 2**30:.0f} GiB"
        yield Finding(f"cuda:{index}", "ok", f"{properties.name}, {memory}")
    if torch.backends.mps.is_available():
        yield Finding("mps", "ok", "Apple GPU")


def _dtype() -> Iterator[Finding]:
    """What `--dtype auto` comes to on each device."""
    try:
        import torch

        from core.models.precision import kept, sure_race
    except (ImportError, OSError):
        return
    devices = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    for device in devices:
        where = torch.device(device)
        yield _auto(device, sure_race(where), kept(where))


def _auto(device: str, now: float, known: tuple[float, Path] | None) -> Finding:
    """What was measured just now, beside what earlier runs have gone by."""
    from core.models.precision import MARGIN, SMALL

    ratio, place = known or (now, None)
    chosen, other = "float32", "bfloat16"
    if ratio >= MARGIN:
        chosen, other = other, chosen
    text = (
        f"auto is {chosen} from {SMALL // 10**6} M parameters up, float32 below:"
        f" bfloat16 is {now:.1f} times as fast"
    )
    if (ratio >= MARGIN) == (now >= MARGIN):
        return Finding(f"dtype on {device}", "ok", text)
    text += f" now, and was {ratio:.1f} times by {place}: delete that file for {other}"
    return Finding(f"dtype on {device}", "note", text)


def _torchaudio() -> Iterator[Finding]:
    """Merely installed beside another torch it breaks `import transformers`, so try it apart."""
    version = _version("torchaudio")
    if version is None:
        return
    error = _import_error("torchaudio")
    yield Finding("torchaudio", *(("bad", _TORCHAUDIO) if error else ("ok", version)))


def _transformers() -> Iterator[Finding]:
    error = _import_error("transformers", "AutoProcessor")
    if error:
        yield Finding("transformers import", "bad", error)


def _model() -> Iterator[Finding]:
    spec = util.find_spec("core.models")
    places = spec.submodule_search_locations if spec else None
    folder = Path(next(iter(places or ["."]))) / "embedded"
    wanted = ("config.json", "model.safetensors", "tokenizer.json")
    missing = [name for name in wanted if not (folder / name).is_file()]
    text = f"incomplete, lacks {', '.join(missing)}: reinstall" if missing else "complete"
    yield Finding("embedded model", "bad" if missing else "ok", text)


def _reduction() -> Iterator[Finding]:
    """Load the embedded model, let it hear a tone, and cut its prompt."""
    try:
        from core.engine.checkup import checkup
        from core.models import load_model

        found = checkup(load_model("embedded", device="cpu", offline=True))
    except Exception as error:
        yield Finding("reduction", "bad", f"tried on the embedded model: {_one_line(error)}")
        return
    if found.cut is None:
        yield Finding("reduction", "bad", f"the embedded model cannot be reduced: {found.reason}")
    else:
        text = f"tried on the embedded model: {found.cut:.0%} of its prefill FLOPs cut"
        yield Finding("reduction", "ok", text)


def _machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limits = {name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ}
    said = "".join(f", {name}={value}" for name, value in limits.items())
    yield Finding("cores", "ok", f"{cores} usable{said}")


def _hub() -> Iterator[Finding]:
    offline = os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")
    home = os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    yield Finding("model cache", "ok", f"{home}{', offline by HF_HUB_OFFLINE' if offline else ''}")


def _ffmpeg() -> Iterator[Finding]:
    """The decoder is in PyAV's wheel; a program called ffmpeg is not needed."""
    try:
        import av
    except (ImportError, OSError) as error:
        yield Finding("ffmpeg", "bad", f"PyAV cannot be imported: {_one_line(error)}")
        return
    library = ".".join(map(str, av.library_versions.get("libavcodec", ())))
    yield Finding("ffmpeg", "ok", f"libavcodec {library}, inside PyAV")


def _extras() -> Iterator[Finding]:
    for extra in _EXTRAS:
        for need in _needs(extra):
            yield _installed(need, f"pip install '{_OURS}[{extra}]'", "note")


_CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _versions,
    _torch,
    _dtype,
    _torchaudio,
    _transformers,
    _ffmpeg,
    _model,
    _reduction,
    _machine,
    _hub,
    _extras,
)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _import_error(module: str, name: str = "") -> str | None:
    """Why a module cannot be imported, tried in a process of its own; None if it can."""
    code = f"from {module} import {name}" if name else f"import {module}"
    # -P: what lies in the folder where this is called is no library
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
