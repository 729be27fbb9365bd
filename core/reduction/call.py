"""One call of a decoder layer by its model, whatever the names that it came under."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import ReductionError


@dataclass(slots=True)
class LayerCall:
    """What a decoder hands to one of its layers.

    Attributes:
        layer: called by the decoder.
        forward: its own.
        index: its number.
        hidden: states that enter it, (rows, tokens, hidden).
        args, kwargs: what else came; what is changed here reaches `forward`.
    """

    layer: Any
    forward: Callable[..., Tensor]
    index: int
    hidden: Tensor
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def plain(self, **more: Any) -> Tensor:
        """Run the layer's own forward."""
        return self.forward(self.hidden, *self.args, **self.kwargs, **more)

    def take(self, name: str) -> Any:
        """One of the keywords.

        Raises:
            ReductionError: the model does not use it, so its layers are not what they were.
        """
        if name not in self.kwargs:
            raise ReductionError(
                f"layer {self.index} of {type(self.layer).__name__} is called without {name}, so"
                " its prompts cannot be reduced here; install the transformers that fastadasp asks"
                " for (fastadasp doctor)"
            )
        return self.kwargs[name]

    def hand(self, name: str, value: Any) -> None:
        """Give a keyword another value; raises as `take`."""
        self.take(name)
        self.kwargs[name] = value
