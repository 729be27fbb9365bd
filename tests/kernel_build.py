"""Builds the Triton kernel for a GPU that need not be there, and names its matrix instructions.

`python -m tests.kernel_build DTYPE BIASED CAPABILITY...`, say `bf16 1 80 90`; a line for each
capability. A process of its own, for Triton decides on import whether it compiles or interprets.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from core.reduction.kernels import _received, launch_options

WIDTH = 128


def source(dtype: str, biased: bool) -> Any:
    """The kernel for inputs of this kind: dense heads, everything else unknown."""
    options = launch_options(2 if dtype == "bf16" else 4, WIDTH)
    known = {name: options[name] for name in options if name.isupper()}
    known |= dict.fromkeys(("query_dim", "key_dim", "lse_token"), 1)
    if not biased:
        known["bias"] = None
    types = dict.fromkeys(_received.arg_names, "i32")
    types |= dict.fromkeys(("query", "key"), f"*{dtype}") | dict.fromkeys(known, "constexpr")
    types |= dict.fromkeys(("lse", "received"), "*fp32") | {"place": "*i32", "scale": "fp32"}
    if biased:
        types["bias"] = "*fp32"
    place = _received.arg_names.index
    aligned = ("query", "key", "lse", "place", "received", "query_token", "key_token")
    return ASTSource(
        fn=_received,
        signature=types,
        constexprs={(place(name),): value for name, value in known.items()},
        attrs={(place(name),): [["tt.divisibility", 16]] for name in aligned},
    )


def main(dtype: str, biased: str, *capabilities: str) -> None:
    """Build and print."""
    for capability in capabilities:
        options = launch_options(2 if dtype == "bf16" else 4, WIDTH)
        options = {name: value for name, value in options.items() if not name.isupper()}
        target = GPUTarget("cuda", int(capability), 32)
        code = compile(source(dtype, biased == "1"), target=target, options=options).asm["ptx"]
        found = sorted(set(re.findall(r"\w*mma\w*\.\w+", code)))
        sys.stdout.write(f"{capability} {' '.join(found)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
