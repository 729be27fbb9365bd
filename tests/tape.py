"""A tape in place of a CUDA graph: what was done to tensors, done again to the same tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tape(TorchDispatchMode):
    """Notes every operator with its arguments as they are: numbers stay what they were.

    What it changes while it records is put back at the end, for a graph runs nothing then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self._before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run it, and remember."""
        kwargs = kwargs or {}
        if func._schema.is_mutable:
            self._before.append((args[0], args[0].clone()))
        out = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, out))
        return out

    def undo(self) -> None:
        """Put back what was changed, latest first."""
        for changed, before in reversed(self._before):
            changed.copy_(before)

    def play(self) -> None:
        """Do it all again, with results where they were."""
        for func, args, kwargs, out in self.calls:
            if func._schema.is_mutable:
                func(*args, **kwargs)
            elif not _shares(out, (args, kwargs)):
                again = func(*args, **kwargs)
                for place, value in zip(_tensors(out), _tensors(again), strict=True):
                    place.copy_(value)


def captured(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """As `core.engine.recorder._captured`."""
    tape = Tape()
    with tape:
        out = work()
    tape.undo()

    def play() -> Tensor:
        tape.play()
        return out

    return play


def _tensors(found: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor))


def _shares(out: Any, given: Any) -> bool:
    """Whether a result is a view of an argument."""
    places = {one.untyped_storage().data_ptr() for one in _tensors(given) if one.numel()}
    return any(one.untyped_storage().data_ptr() in places for one in _tensors(out))
