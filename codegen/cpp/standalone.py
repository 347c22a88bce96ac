"""Kernels that stand alone: a folder with the tile program, the C++, and a Python file that checks and times it.

`python kernel.py` builds `kernel.cpp` (so that it may be edited), fills inputs of the recorded shapes at random,
compares the outputs with the interpreter's for `kernel.mlir`, and prints the time of a call and the bytes a second.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xdsl.dialects.builtin import ModuleOp

from tilewright.ir.cost import kernel_cost
from tilewright.ir.dtypes import DTYPES, itemsize
from tilewright.ir.errors import NumericMismatchError
from tilewright.ir.target import Target, host_cpu
from tilewright.ir.text import parse_ir, print_ir
from tilewright.ir.tile import IndexOp, KernelOp, value_dtype

from ..writer import model_lines
from .printer import FAILURES, print_file

if TYPE_CHECKING:
    import torch

# Time spent on measuring, and a bound for the comparison: relative to the largest magnitude, by itemsize of the output.
MEASURE_SECONDS = 0.5
TOLERANCE = {8: 1e-9, 4: 1e-4, 2: 2e-2, 1: 0.13}

_SCRIPT = '''\
"""Checks and times the kernel `{name}` ({kind}){lines}.

Beside it: kernel.cpp (what runs; edit it and run this file again) and kernel.mlir (the program it must compute).
"""

from pathlib import Path

from tilewright.codegen.cpp.standalone import main

# (elements, dtype) of each pointer, and the sizes, as they were in the model's call.
SHAPES = {shapes}
SIZES = {sizes}

if __name__ == "__main__":
    main(Path(__file__).parent, SHAPES, SIZES)
'''


def standalone(kernel: KernelOp, shapes: Sequence[tuple[int, str]], sizes: Mapping[str, int]) -> str:
    """The text of `kernel.py`. `shapes`: elements and dtype of each pointer; `sizes`: the value of each size."""
    lines = model_lines([kernel])
    return _SCRIPT.format(
        name=kernel.sym_name.data, kind=kernel.kind.data, lines=f", from {', '.join(lines)}" if lines else "",
        shapes=repr([tuple(s) for s in shapes]), sizes=repr(dict(sizes)),
    )


def write_standalone(
    kernel: KernelOp, shapes: Sequence[tuple[int, str]], sizes: Mapping[str, int], directory: str | Path,
    target: Target | None = None,
) -> Path:
    """Write `kernel.py`, `kernel.cpp` and `kernel.mlir` to `directory`; the path of the first."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "kernel.mlir").write_text(print_ir(ModuleOp([kernel.clone()])))
    (directory / "kernel.cpp").write_text(print_file([kernel], target or host_cpu()))
    path = directory / "kernel.py"
    path.write_text(standalone(kernel, shapes, sizes))
    return path


def make_inputs(kernel: KernelOp, shapes: Sequence[tuple[int, str]], sizes: Mapping[str, int]) -> list[torch.Tensor]:
    """Random buffers for the kernel's pointers; integers are positions that its `tile.index` ops accept."""
    import torch

    from tilewright.ir.expr import evaluate

    extents = [evaluate(op.extent.data[0], sizes) for op in kernel.walk() if isinstance(op, IndexOp)]
    limit = max(1, min(extents, default=100))
    generator = torch.Generator().manual_seed(0)
    buffers = []
    for count, name in shapes:
        dtype = getattr(torch, DTYPES[name].torch_name)
        if DTYPES[name].is_float:
            buffers.append(torch.randn(count, generator=generator).to(dtype))
        else:
            high = 2 if name == "bool" else min(limit, 100 if itemsize(name) == 1 else limit)
            buffers.append(torch.randint(0, high, (count,), generator=generator).to(dtype))
    return buffers


def compare(kernel: KernelOp, ours: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """The largest error, relative to the largest magnitude. Raises NumericMismatchError where it is too large."""
    import torch

    worst = 0.0
    for position in kernel.outputs.ints():
        name = value_dtype(kernel.args[position])
        a, b = ours[position].double(), expected[position].double()
        same_specials = torch.equal(a.isfinite(), b.isfinite()) and torch.equal(a.isnan(), b.isnan())
        finite = a.isfinite() & b.isfinite()
        error = float((a[finite] - b[finite]).abs().max()) if finite.any() else 0.0
        error /= max(1.0, float(b[finite].abs().max()) if finite.any() else 1.0)
        limit = TOLERANCE[itemsize(name)] if DTYPES[name].is_float else 0.0
        if not same_specials or error > limit:
            raise NumericMismatchError(
                f"kernel {kernel.sym_name.data}: pointer {position} differs from the interpreter by {error:.3g} "
                f"(relative to its largest element; {limit:g} is allowed)"
            )
        worst = max(worst, error)
    return worst


def check_kernel(
    kernel: KernelOp, function: Callable[..., int], shapes: Sequence[tuple[int, str]], sizes: Mapping[str, int]
) -> tuple[float, Callable[[], int]]:
    """Call the compiled kernel and the interpreter on the same random inputs; the error (see `compare`), and the call.

    Raises NumericMismatchError where they differ, or where the kernel reports a failure.
    """
    from tilewright.ir.interpreter import run_kernel

    inputs = make_inputs(kernel, shapes, sizes)
    ours, expected = [t.clone() for t in inputs], [t.clone() for t in inputs]
    numbers = [*(t.data_ptr() for t in ours), *(sizes[s] for s in kernel.size_names)]
    status = function(*numbers)
    if status:
        failures = ", ".join(text for bit, text in FAILURES.items() if status & bit)
        raise NumericMismatchError(f"kernel {kernel.sym_name.data}: {failures}")
    run_kernel(kernel, expected, sizes)
    error = compare(kernel, ours, expected)
    # The buffers are kept alive by whoever can call again.
    return error, lambda: function(*numbers) if ours else 0


def measure(call: Callable[[], object], seconds: float = MEASURE_SECONDS) -> float:
    """The median time of `call`, in seconds."""
    call()
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        samples.append(time.perf_counter() - start)
    return sorted(samples)[len(samples) // 2]


def main(directory: Path, shapes: Sequence[tuple[int, str]], sizes: Mapping[str, int]) -> None:
    """Build, check and time the kernel in `directory`, and print what came out."""
    import torch

    from tilewright.codegen.native import load_kernels

    parser = argparse.ArgumentParser(description="Check a kernel against the interpreter, and time it.")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=MEASURE_SECONDS, help="how long to measure")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    [kernel] = parse_ir((directory / "kernel.mlir").read_text(), "kernel.mlir").ops
    assert isinstance(kernel, KernelOp)
    name = kernel.sym_name.data
    function = load_kernels((directory / "kernel.cpp").read_text(), [name], host_cpu())[name]
    error, call = check_kernel(kernel, function, shapes, sizes)
    seconds = measure(call, arguments.seconds)
    moved = kernel_cost(kernel, sizes).bytes_moved
    print(
        f"{name}: agrees with the interpreter (error {error:.1e}); {seconds * 1e6:.1f} µs a call on "
        f"{arguments.threads} threads, {moved / seconds / 1e9:.1f} GB/s"
    )
