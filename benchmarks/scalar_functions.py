"""Accuracy and speed of the kernels' scalar functions: `python benchmarks/scalar_functions.py [--all-floats] [names]`.

For each function of one operand, in f32: the largest error in units of the last place against float64, and the time of
an element (in the first-level cache, one thread) beside torch's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from tilewright.codegen.cpp import print_file
from tilewright.codegen.native import load_kernels
from tilewright.ir.scalars import SCALARS
from tilewright.ir.target import host_cpu
from tilewright.ir.text import parse_ir

CACHED_ELEMENTS = 4096
CHUNK = 1 << 24


def one_operand_functions() -> list[str]:
    return [
        row.name for row in SCALARS.values()
        if row.arity == 1 and "float" in row.accepts and row.result == "same" and row.name != "cast"
    ]


def build(names: list[str]) -> dict[str, Callable[..., int]]:
    text = "".join(
        f'tile.kernel @f_{name}(%x: !tile.ref<f32>, %y: !tile.ref<f32>) {{kind = "loop", outputs = #tw.dims<[1]>, '
        f'sizes = ["n"]}} {{ tile.for i in [n] vector {{ %a = tile.load %x[i] : f32\n'
        f'%b = tile.map "{name}" %a : f32\n tile.store %y[i], %b }} }}\n'
        for name in names
    )
    kernels = list(parse_ir(f"builtin.module {{ {text} }}").ops)
    functions = load_kernels(print_file(kernels, host_cpu()), [f"f_{name}" for name in names], host_cpu())
    return {name: functions[f"f_{name}"] for name in names}


def floats(step: int) -> Iterator[torch.Tensor]:
    """Every `step`-th float of all 2^32, in chunks."""
    for start in range(0, 1 << 32, CHUNK * step):
        bits = np.arange(start, min(start + CHUNK * step, 1 << 32), step, dtype=np.uint64).astype(np.uint32)
        yield torch.from_numpy(bits.view(np.float32))


def largest_error(name: str, function: Callable[..., int], step: int) -> tuple[float, float]:
    """The largest error in ulp, and where it is."""
    worst, place = 0.0, 0.0
    for x in floats(step):
        y = torch.empty_like(x)
        function(x.data_ptr(), y.data_ptr(), x.numel())
        exact = eval(SCALARS[name].reference, {"torch": torch}, {"a": x.double()})
        nearest = exact.float()
        same = (y == nearest) | (y.isnan() & nearest.isnan())
        size = np.maximum(np.abs(nearest.numpy()), np.finfo(np.float32).tiny)
        errors = (y.double() - exact).abs() / torch.from_numpy(np.spacing(size)).double()
        errors = torch.where(same, 0.0, errors.nan_to_num(nan=float("inf")))
        index = int(errors.argmax())
        if errors[index] > worst:
            worst, place = float(errors[index]), float(x[index])
    return worst, place


def nanoseconds(call: Callable[[], object]) -> float:
    """The least time of `call` for an element."""
    best = float("inf")
    for _ in range(200):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best / CACHED_ELEMENTS * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help="functions (default: all of one operand)")
    parser.add_argument("--all-floats", action="store_true", help="measure the error on all 2^32 floats (minutes each)")
    arguments = parser.parse_args()
    names = arguments.names or one_operand_functions()
    torch.set_num_threads(1)
    functions = build(names)
    x = torch.rand(CACHED_ELEMENTS) * 4 + 0.1
    y = torch.empty_like(x)
    print(f"{'function':12} {'ulp':>8} {'at':>14} {'ns':>8} {'torch ns':>9}")
    for name in names:
        error, place = largest_error(name, functions[name], 1 if arguments.all_floats else 1009)
        ours = nanoseconds(lambda name=name: functions[name](x.data_ptr(), y.data_ptr(), x.numel()))
        reference = compile(SCALARS[name].reference, name, "eval")
        theirs = nanoseconds(lambda reference=reference: eval(reference, {"torch": torch}, {"a": x}))
        print(f"{name:12} {error:8.2f} {place:14.6g} {ours:8.3f} {theirs:9.3f}")


if __name__ == "__main__":
    main()
