"""Programs lowered for a GPU, their kernels printed and run, and compared with the interpreter's."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from xdsl.dialects.builtin import ModuleOp

from tilewright.codegen.triton import TritonKernel, print_kernel
from tilewright.ir.interpreter import prog as prog_interpreter
from tilewright.ir.interpreter import run
from tilewright.ir.interpreter.memory import flat_view
from tilewright.ir.interpreter.tile import run_kernel
from tilewright.ir.target import target
from tilewright.ir.tile import KernelOp
from tilewright.passes.base import PassContext
from tilewright.passes.pipelines import parse_pipeline

RUNNER = Path(__file__).parent / "triton_runner.py"


@dataclass
class Launch:
    """A kernel's launch in a run of the interpreter: its buffers before, and after; `exact` in float64."""

    kernel: KernelOp
    printed: TritonKernel
    sizes: dict[str, int]
    before: list[torch.Tensor]
    after: list[torch.Tensor]
    exact: list[torch.Tensor] = field(default_factory=list)

    def grid(self) -> int:
        cdiv = type("triton", (), {"cdiv": staticmethod(lambda a, b: -(-a // b))})
        return int(eval(self.printed.grid, {"triton": cdiv}, {**self.sizes, **self.printed.constants}))

    def arguments(self) -> list[Any]:
        sizes = [self.sizes[name] for name in self.kernel.size_names]
        flags = [torch.zeros(2, dtype=torch.int32)] if self.printed.fails else []
        return [*(b.clone() for b in self.before), *sizes, *flags]


def lower_for_gpu(module: ModuleOp, pipeline: str = "fuse,lower", name: str = "sm_90") -> ModuleOp:
    """Lowered in place, with an IR verification at the end."""
    context = PassContext(target(name))
    for item in parse_pipeline(pipeline):
        item.run(module, context)
    module.verify()
    return module


def launches(module: ModuleOp, inputs: Sequence[Any], name: str = "sm_90") -> tuple[list[Any], list[Launch]]:
    """The results of a lowered module, and what its kernels did."""
    found: list[Launch] = []

    def record(
        kernel: KernelOp, buffers: Sequence[torch.Tensor], sizes: Mapping[str, int], precision: str = "native"
    ) -> None:
        before = [flat_view(b).clone() for b in buffers]
        wide = [b.to(torch.float64, copy=True) if b.is_floating_point() else b.clone() for b in before]
        run_kernel(kernel, buffers, sizes, precision)
        run_kernel(kernel, wide, sizes, "f64")
        after = [flat_view(b).clone() for b in buffers]
        needed = {size: sizes[size] for size in kernel.size_names}
        found.append(Launch(kernel, print_kernel(kernel, target(name)), needed, before, after, wide))

    original = prog_interpreter.run_kernel
    prog_interpreter.run_kernel = record
    try:
        results = run(module, list(inputs))
    finally:
        prog_interpreter.run_kernel = original
    return results, found


def execute(found: Iterable[Launch], *flags: str) -> list[Any]:
    """The buffers after each launch of the printed kernels (and their flags), or a message: from Triton's interpreter
    where Triton is installed, with the flag ``--stand-in`` and elsewhere from `triton_stand_in`."""
    cases = [
        (one.printed.source, one.printed.name, one.grid(), one.arguments(),
         {**one.printed.constants, "num_warps": one.printed.num_warps})
        for one in found
    ]
    with tempfile.TemporaryDirectory() as directory:
        given, results = f"{directory}/cases.pt", f"{directory}/results.pt"
        torch.save(cases, given)
        subprocess.run([sys.executable, str(RUNNER), given, results, *flags], check=True, timeout=600)
        return torch.load(results, weights_only=False)


def difference(launch: Launch, ours: Any) -> str | None:
    """What is wrong with the buffers of a launch: the interpreter's error in float64 may be exceeded a little."""
    if isinstance(ours, str):
        return ours
    if launch.printed.fails and ours[-1].any():
        return f"flags {ours[-1].tolist()}"
    for place in launch.kernel.outputs.ints():
        got, expected, exact = ours[place], launch.after[place], launch.exact[place]
        if not expected.is_floating_point():
            if not torch.equal(got, expected):
                return f"pointer {place}: {got} instead of {expected}"
            continue
        same = torch.equal(got.isnan(), expected.isnan())
        finite = expected.isfinite() & exact.isfinite()
        if not same or not torch.equal(got[~finite & ~got.isnan()], expected[~finite & ~got.isnan()]):
            return f"pointer {place}: other values that are not finite: {got} instead of {expected}"
        a, b, c = got[finite].double(), expected[finite].double(), exact[finite].double()
        scale = torch.finfo(expected.dtype).eps * torch.maximum(c.abs(), torch.full_like(c, 1e-30))
        allowed = 2 * (b - c).abs().max() + 4 * scale if len(c) else scale
        if ((a - c).abs() > allowed).any():
            return f"pointer {place}: off by {float((a - c).abs().max()):.3g}, the interpreter by " \
                f"{float((b - c).abs().max()):.3g}"
    return None
