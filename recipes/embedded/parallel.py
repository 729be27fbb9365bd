"""Data-parallel training on the cores of one machine: one process per core, gradients averaged.

One thread per process and one exchange per step keep their speed on a busy machine, where a pool
of threads would wait for its slowest member after every operation.
"""

import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn


def launch(function: Callable[..., None], workers: int, *arguments: Any) -> None:
    """Run `function(rank, *arguments)` in `workers` processes that can exchange tensors."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn(  # type: ignore[no-untyped-call]
        _enter, args=(function, workers, port, arguments), nprocs=workers
    )


def _enter(
    rank: int, function: Callable[..., None], workers: int, port: int, arguments: tuple[Any, ...]
) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=workers)
    try:
        function(rank, *arguments)
    finally:
        dist.destroy_process_group()


def average(parameters: Iterable[Tensor], numbers: list[float]) -> list[float]:
    """Average gradients and a few numbers over all processes, in one exchange.

    Writes the gradients in place and returns the numbers. A parameter without a gradient counts
    as zero, so that every process sends the same vector.
    """
    tensors = list(parameters)
    for tensor in tensors:
        if tensor.grad is None:
            tensor.grad = torch.zeros_like(tensor)
    gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
    flat = torch.cat([torch.tensor(numbers), *(gradient.flatten() for gradient in gradients)])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    sizes = [gradient.numel() for gradient in gradients]
    pieces = torch.split(flat[len(numbers) :], sizes)
    for gradient, piece in zip(gradients, pieces, strict=True):
        gradient.copy_(piece.view_as(gradient))
    averaged: list[float] = flat[: len(numbers)].tolist()
    return averaged
