"""Builds a Triton kernel for a GPU that need not be there, and names its matrix instructions.

`python -m tests.kernel_build KERNEL DTYPE BIASED CAPABILITY...`, say `received bf16 1 80 90`; a
line for each capability. A process of its own, for Triton decides on import whether it compiles
or interprets.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from core.reduction import kernels, split_kernels

WIDTH = 128


def received(dtype: str, biased: bool) -> tuple[Any, dict[str, int]]:
    """The kernel of received attention for inputs of this kind: dense heads, the rest unknown."""
    options = kernels.launch_options(2 if dtype == "bf16" else 4, WIDTH)
    types = dict.fromkeys(("query", "key"), f"*{dtype}")
    types |= dict.fromkeys(("lse", "received", "bias"), "*fp32") | {"place": "*i32"}
    ones = ("query_dim", "key_dim", "lse_token")
    aligned = ("query", "key", "lse", "place", "received", "query_token", "key_token")
    return source(kernels._received, options, types, ones, aligned, biased), options


def split(dtype: str, biased: bool) -> tuple[Any, dict[str, int]]:
    """The kernel that reads a part of the keys, likewise."""
    options = split_kernels.launch_options(2 if dtype == "bf16" else 4, 5, WIDTH)
    held = ("query", "key", "value", "key_behind", "value_behind")
    types = dict.fromkeys((*held, "bias"), f"*{dtype}") | {"seen": "*u8", "filled": "*i32"}
    types |= dict.fromkeys(("mixed", "norms"), "*fp32")
    strides = [
        f"{one}_{of}" for one in ("key", "value", "behind") for of in ("row", "head", "token")
    ]
    aligned = (*held, "mixed", "query_row", "query_head", *strides)
    return source(split_kernels._read, options, types, ("bias_token",), aligned, biased), options


def source(
    kernel: Any,
    options: dict[str, int],
    pointers: dict[str, str],
    ones: tuple[str, ...],
    aligned: tuple[str, ...],
    biased: bool,
) -> Any:
    """A kernel with the types of its pointers; `ones` are strides of 1, other numbers unknown."""
    known: dict[str, Any] = {name: options[name] for name in options if name.isupper()}
    known |= dict.fromkeys(ones, 1)
    if not biased:
        known["bias"] = None
    types = dict.fromkeys(kernel.arg_names, "i32") | pointers | {"scale": "fp32"}
    types |= dict.fromkeys(known, "constexpr")
    place = kernel.arg_names.index
    return ASTSource(
        fn=kernel,
        signature=types,
        constexprs={(place(name),): value for name, value in known.items()},
        attrs={(place(name),): [["tt.divisibility", 16]] for name in aligned},
    )


def main(name: str, dtype: str, biased: str, *capabilities: str) -> None:
    """Build and print."""
    built, options = {"received": received, "split": split}[name](dtype, biased == "1")
    options = {option: value for option, value in options.items() if not option.isupper()}
    for capability in capabilities:
        target = GPUTarget("cuda", int(capability), 32)
        code = compile(built, target=target, options=options).asm["ptx"]
        found = sorted(set(re.findall(r"\w*mma\w*\.\w+", code)))
        sys.stdout.write(f"{capability} {' '.join(found)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
