"""Train the embedded model from scratch within a time budget.

    python -m recipes.embedded.train --data DATA --out RUN --minutes 90 --workers 2

Writes `RUN/checkpoint.pt` every few minutes and `RUN/log.jsonl`. After an interruption the same
command with `--resume` goes on; the budget counts training time only.
"""

import json
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from .dataset import Collator, Item, Tables, load_items, tables_of
from .grammar import english_words
from .losses import Heads, Losses, losses
from .model import build_model
from .parallel import average, launch
from .schedule import Curriculum, loss_weights, rate_factor
from .tokens import build_processor

CHECKPOINT = "checkpoint.pt"

_PEAK_RATE = 1.5e-3
_AVERAGE_DECAY = 0.998  # of the running mean of the weights, per step
_LOG_STEPS = 25


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a training run depends on."""

    data: Path
    out: Path
    minutes: float
    batch_seconds: float
    checkpoint_minutes: float
    seed: int
    workers: int
    bfloat16: bool
    start: Path | None
    resume: bool


def main(
    data: Annotated[Path, typer.Option(help="Folder of shards from synthesise.")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint and the log.")],
    minutes: Annotated[float, typer.Option(help="Time budget of the whole training.")] = 90.0,
    batch_seconds: Annotated[float, typer.Option(help="Audio per step, all processes.")] = 72.0,
    checkpoint_minutes: Annotated[float, typer.Option(help="Between checkpoints.")] = 3.0,
    seed: Annotated[int, typer.Option(help="Seed of weights and order.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes, one core each.", min=1)] = 2,
    bfloat16: Annotated[
        bool | None,
        typer.Option(help="Low precision; none: where the processor has matrix units for it."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Exported model to start from; none: from nothing.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue from the last checkpoint.")] = False,
) -> None:
    """Train, or continue training, until the time budget is used."""
    out.mkdir(parents=True, exist_ok=True)
    if (out / CHECKPOINT).exists() and not resume:
        raise typer.BadParameter(f"{out} has a checkpoint: pass --resume or another --out")
    if bfloat16 is None:
        bfloat16 = torch.cpu._is_amx_tile_supported()
    settings = Settings(
        data,
        out,
        minutes,
        batch_seconds,
        checkpoint_minutes,
        seed,
        workers,
        bfloat16,
        start,
        resume,
    )
    launch(_run, workers, settings)


def _run(rank: int, settings: Settings) -> None:
    Trainer(rank, settings).run()


class Trainer:
    """One process of a training run. All processes hold the same weights at every step."""

    def __init__(self, rank: int, settings: Settings) -> None:
        """Load the data and start, or restore, the weights."""
        torch.manual_seed(settings.seed)
        self._rank, self._settings = rank, settings
        saved = _checkpoint(settings)
        items = load_items(settings.data)
        self._tables = Tables(**saved["tables"]) if saved else tables_of(items, english_words())
        processor = build_processor()
        self._collate = Collator(processor, self._tables, seed=settings.seed * 1000 + rank)
        self._model = build_model(processor)
        if settings.start:
            start_from(self._model, settings.start)
        self._heads = Heads(self._tables)
        self._curriculum = Curriculum(
            items, settings.batch_seconds, settings.seed, begun=settings.start is not None
        )
        self._parameters = _trainable(self._model) + _trainable(self._heads)
        self._averaged = [tensor.detach().clone() for tensor in _trainable(self._model)]
        self._optimiser = torch.optim.AdamW(
            self._parameters, lr=_PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.02, fused=True
        )
        self._step, self._elapsed, self._hours = 0, 0.0, 0.0
        self._clock = time.monotonic()
        if saved:
            self._restore(saved)
        self._working = self._model, self._heads
        if settings.bfloat16:
            self._working = _lowered(self._model), _lowered(self._heads)
            # the fused kernel's backward pass is several times slower than its two matmuls
            self._working[0].set_attn_implementation("eager")

    def run(self) -> None:
        """Train until the budget is used; the first process reports and saves."""
        budget = self._settings.minutes * 60
        bar = tqdm(total=round(budget), initial=int(self._elapsed), unit="s", mininterval=10)
        bar.disable = self._rank > 0
        last_saved = self._elapsed
        while self._elapsed < budget:
            parts = self._train_step(self._elapsed / budget)
            bar.update(int(self._elapsed) - bar.n)
            if self._rank == 0 and self._step % _LOG_STEPS == 0:
                self._log(parts)
            if self._elapsed - last_saved > self._settings.checkpoint_minutes * 60:
                last_saved = self._elapsed
                self._save()
        self._save()

    def _train_step(self, progress: float) -> dict[str, float]:
        items = self._curriculum.next_batch(progress)
        for group in self._optimiser.param_groups:
            group["lr"] = _PEAK_RATE * rate_factor(progress, self._step)
        numbers = self._backward(items[self._rank :: self._settings.workers], progress)
        now = time.monotonic()
        numbers.append(now - self._clock)
        self._clock = now
        # every process takes the same mean time, so that all agree when to stop
        *means, seconds = average(self._parameters, numbers)
        clip_grad_norm_(self._parameters, 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad()
        self._lower()
        self._step += 1
        self._average_weights()
        self._elapsed += seconds
        self._hours += sum(item.seconds for item in items) / 3600
        return dict(zip(Losses._fields, means, strict=True))

    def _backward(self, items: list[Item], progress: float) -> list[float]:
        if not items:  # the last batch of a round may be smaller than the number of processes
            return [0.0] * len(Losses._fields)
        batch = self._collate(items)
        parts = losses(*self._working, batch, loss_weights(progress))
        parts.total.backward()  # type: ignore[no-untyped-call]
        for full, low in self._pairs():
            if full is not low and low.grad is not None:
                full.grad, low.grad = low.grad.float(), None
        return [part.item() for part in parts]

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every trained tensor, in single precision and as the forward pass uses it."""
        return zip(self._parameters, chain(*map(_trainable, self._working)), strict=True)

    def _lower(self) -> None:
        """Bring the forward pass's weights up to date."""
        with torch.no_grad():
            for full, low in self._pairs():
                if full is not low:
                    low.copy_(full)

    def _average_weights(self) -> None:
        """Move the running mean of the weights; short at first, so that it starts useful."""
        decay = min(_AVERAGE_DECAY, (1 + self._step) / (10 + self._step))
        current = [tensor.detach() for tensor in _trainable(self._model)]
        torch._foreach_lerp_(self._averaged, current, 1 - decay)

    def _log(self, parts: dict[str, float]) -> None:
        entry: dict[str, Any] = {"step": self._step, "minutes": round(self._elapsed / 60, 2)}
        entry["hours"] = round(self._hours, 2)
        entry.update({name: round(value, 4) for name, value in parts.items()})
        with (self._settings.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(entry) + "\n")

    def _save(self) -> None:
        if self._rank:
            return
        state = {
            "model": self._model.state_dict(),
            "heads": self._heads.state_dict(),
            "averaged": self._averaged,
            "optimiser": self._optimiser.state_dict(),
            "uses": torch.from_numpy(self._curriculum.uses),
            "step": self._step,
            "elapsed": self._elapsed,
            "hours": self._hours,
            "tables": asdict(self._tables),
        }
        target = self._settings.out / CHECKPOINT
        partial = target.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(target)  # an interruption leaves the previous checkpoint whole

    def _restore(self, state: dict[str, Any]) -> None:
        self._model.load_state_dict(state["model"])
        self._heads.load_state_dict(state["heads"])
        self._averaged = state["averaged"]
        self._optimiser.load_state_dict(state["optimiser"])
        uses = state["uses"].numpy()  # shards may have been added since: theirs stay at zero
        self._curriculum.uses[: len(uses)] = uses
        self._step, self._elapsed = state["step"], state["elapsed"]
        self._hours = state["hours"]


def start_from(model: Any, folder: Path) -> None:
    """Take over the weights of an exported model; refuse those of another size.

    A grammar that has grown since has other tokens, and so another size.
    """
    exported = type(model).from_pretrained(folder, dtype=torch.float32)
    model.load_state_dict(exported.state_dict())


def _checkpoint(settings: Settings) -> dict[str, Any] | None:
    path = settings.out / CHECKPOINT
    if not (settings.resume and path.exists()):
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def _lowered(module: Any) -> Any:
    return deepcopy(module).bfloat16()


def _trainable(module: Any) -> list[Tensor]:
    return [tensor for tensor in module.parameters() if tensor.requires_grad]


if __name__ == "__main__":
    typer.run(main)
