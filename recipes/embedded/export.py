"""Turn a training checkpoint into a model folder that `from_pretrained` loads.

    python -m recipes.embedded.export --run RUN --out FOLDER

Writes half-precision weights, the config and the processor; the auxiliary heads stay behind.
"""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from .model import build_model
from .tasks import QUESTION, TASKS
from .tokens import build_processor
from .train import CHECKPOINT

CARD = {
    "tasks": [*TASKS, "sqa", "chat"],
    "prompts": {
        **{name: task.prompt for name, task in TASKS.items()},
        "sqa": QUESTION,
        "chat": QUESTION,
    },
    "source_languages": ["en"],
    "target_languages": ["de"],
    "chunk_seconds": 5,
}
"""What the model can do, for whoever loads the folder; pieces about as long as its sentences."""


def main(
    run: Annotated[Path, typer.Option(help="Folder of a training run.")],
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    averaged: Annotated[
        bool, typer.Option(help="The running mean of the weights, not the last ones.")
    ] = True,
) -> None:
    """Export the checkpoint of a run."""
    state = torch.load(run / CHECKPOINT, weights_only=True)
    processor = build_processor()
    model = build_model(processor)
    model.load_state_dict(state["model"])
    if averaged:
        trainable = [tensor for tensor in model.parameters() if tensor.requires_grad]
        with torch.no_grad():
            for tensor, mean in zip(trainable, state["averaged"], strict=True):
                tensor.copy_(mean)
    model.half().save_pretrained(out)
    processor.save_pretrained(out)
    (out / "fastadasp.json").write_text(json.dumps(CARD, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
