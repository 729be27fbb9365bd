"""Work on a GPU that is recorded once and played back, by CUDA graphs. Torch only.

A decode step of one row moves every weight, which takes some milliseconds, and asks the host to
launch hundreds of kernels, which takes longer. Played back, they are launched as one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import first_line
from ..reduction import give_up

Work = Callable[[], Tensor]


class Recorder:
    """Records one decoder's steps, and no more once that has failed.

    Attributes:
        works: whether anything can still be recorded.
    """

    def __init__(self) -> None:
        self.works = True

    def record(self, work: Work) -> Work | None:
        """What plays `work` back, with its result always in the same place.

        Args:
            work: launches kernels on the current CUDA device and waits for none; it is called once
                and its kernels do not run.

        Returns:
            None where it cannot be recorded; the log says why, once.
        """
        try:
            return _captured(work)
        except torch.OutOfMemoryError:
            raise
        # a layer that waits for the device, a driver that knows no graphs: steps work without
        except Exception as error:
            self.give_up(first_line(error))
            return None

    def give_up(self, reason: str) -> None:
        """Record nothing from now on."""
        self.works = False
        give_up(f"decode steps cannot be recorded, so they are launched kernel by kernel: {reason}")


def _captured(work: Work) -> Work:
    graph = torch.cuda.CUDAGraph()
    # other threads may go on using the device meanwhile
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        out = work()

    def play() -> Tensor:
        graph.replay()
        return out

    return play
