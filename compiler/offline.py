"""Compiling for a GPU that need not be there: a directory with the IR, and each kernel as source, PTX, machine code.

The way is that of `pipeline.py` up to the kernels, which Triton's printer prints and Triton builds. A host program that
launches them is not there yet, so that what is written is for reading, and for other launchers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import BlockArgument, SSAValue

from tilewright.codegen.triton import TritonKernel, print_kernel
from tilewright.codegen.triton.build import BuiltKernel, build_kernels
from tilewright.ir import prog, tile
from tilewright.ir.cost import kernel_cost, predicted_seconds
from tilewright.ir.dtypes import itemsize
from tilewright.ir.errors import CompilerNotFoundError, OptionValueError, UnsupportedTargetError
from tilewright.ir.expr import Expr, IntExpr
from tilewright.ir.target import Target
from tilewright.ir.target import target as find_target
from tilewright.ir.text import file_lines, print_ir
from tilewright.passes.base import PassContext
from tilewright.passes.manager import PassManager, write_dump
from tilewright.passes.pipelines import parse_pipeline

from .compilation import peak
from .importer import import_graph
from .options import Options
from .pipeline import Clock, collector_paused, count_fallbacks, import_verifier, unsupported
from .randomness import counter_based

ALIGNMENT = 16
"""Bytes that fresh memory is aligned to, and that a launcher must ask of arguments: vector loads need them."""


@dataclass(frozen=True)
class GpuKernel:
    """A kernel of the program: `printed` is None where it cannot be said in Triton, `built` where it was not built;
    then `reason` says why."""

    tile: tile.KernelOp
    printed: TritonKernel | None
    built: BuiltKernel | None
    reason: str


@dataclass(frozen=True)
class OfflineProgram:
    """A model compiled for `target`. The module's arguments are the graph's inputs, then `constants`. `stats` is plain
    data, of which ``kernels`` is the table of kernels."""

    target: Target
    module: ModuleOp
    constants: list[torch.Tensor]
    kernels: list[GpuKernel]
    manager: PassManager
    stats: dict[str, Any]

    def write(self, directory: Path) -> list[Path]:
        """Write everything into `directory`; gives the paths.

        ::

            00_import.mlir …         the IR after each stage, with its provenance on line 1
            kernels/NAME/            kernel.py (Triton), kernel.mlir, kernel.ptx, kernel.cubin
            stats.json               the table of kernels, what is left to ATen, times
        """
        directory.mkdir(parents=True, exist_ok=True)
        entries = [row["entry"] for row in self.stats["passes"]]
        written = [
            write_dump(directory, position, entries, self.target, print_ir(module))
            for position, (_, _, module) in enumerate(self.manager.replay())
        ]
        for kernel in self.kernels:
            place = directory / "kernels" / kernel.tile.sym_name.data
            place.mkdir(parents=True, exist_ok=True)
            (place / "kernel.mlir").write_text(print_ir(ModuleOp([kernel.tile.clone()])))
            if kernel.printed is not None:
                (place / "kernel.py").write_text(kernel.printed.source)
            if kernel.built is not None:
                shutil.copyfile(kernel.built.ptx, place / "kernel.ptx")
                shutil.copyfile(kernel.built.cubin, place / "kernel.cubin")
            written.append(place)
        (directory / "stats.json").write_text(json.dumps(self.stats, indent=1, default=str) + "\n")
        return [*written, directory / "stats.json"]


def compile_offline(graph_module: torch.fx.GraphModule, options: Options, name: str) -> OfflineProgram:
    """Compile an exported ATen graph for the GPU called `name`. A kernel that fails says why in its row of the table.

    Raises UnsupportedGraphError for a graph that the IR cannot express as a whole, UnsupportedOpError for ops left to
    ATen when ``fallback="error"``, PassError, NumericMismatchError, and OptionValueError where tuning is asked for.
    """
    if options.autotune != "off" or options.lockfile is not None or options.locked:
        raise OptionValueError(f"schedules of kernels for {name} are not tuned in this version: leave autotune, "
                               "lockfile and locked at their defaults")
    with collector_paused():
        clock, target = Clock(), find_target(name)
        with clock.phase("import"):
            if options.rng == "counter":
                graph_module = counter_based(graph_module)
            imported = import_graph(graph_module)
            module = imported.module
            fallbacks = count_fallbacks(module)
            if fallbacks and options.fallback == "error":
                raise unsupported(fallbacks)
        context = PassContext(target, {**options.as_dict(), "target": name}, sizes={})
        verifier = None
        if options.verify == "numeric":
            verifier = import_verifier(graph_module, module, None, imported.constants)
        manager = PassManager(
            parse_pipeline(options.passes.replace("default", "gpu")), context, verify=options.verify,
            dump_dir=options.dump_ir, verifier=verifier,
        )
        with clock.phase("passes"):
            records = manager.run(module)
        with clock.phase("print"):
            kernels = [_printed(op, target) for op in module.body.block.ops if isinstance(op, tile.KernelOp)]
        with clock.phase("build"):
            kernels = build(kernels, module, target)
    stats = {
        "target": target.facts(), "kernels": [row(kernel, target) for kernel in kernels], "fallbacks": fallbacks,
        "passes": [record.as_dict() for record in records], "peak_bytes": peak(records),
        "compile_seconds": clock.seconds, "statistics": context.statistics,
    }
    return OfflineProgram(target, module, imported.constants, kernels, manager, stats)


def _printed(kernel: tile.KernelOp, target: Target) -> GpuKernel:
    try:
        return GpuKernel(kernel, print_kernel(kernel, target), None, "")
    except UnsupportedTargetError as error:
        return GpuKernel(kernel, None, None, str(error))


def build(kernels: Sequence[GpuKernel], module: ModuleOp, target: Target) -> list[GpuKernel]:
    """The kernels with their machine code, or with the reason why there is none."""
    aligned = aligned_pointers(module)
    wanted = [k for k in kernels if k.printed is not None]
    printed = [k.printed for k in wanted if k.printed is not None]
    names = [
        [name for name, ok in zip(p.signature, aligned.get(p.name, ())) if ok] for p in printed
    ]
    results: list[BuiltKernel | str]
    try:
        results = build_kernels(printed, names, target)
    except CompilerNotFoundError as error:
        results = [str(error)] * len(printed)
    found: dict[str, BuiltKernel | str] = {k.tile.sym_name.data: result for k, result in zip(wanted, results)}
    made = []
    for kernel in kernels:
        result = found.get(kernel.tile.sym_name.data, kernel.reason)
        is_built = isinstance(result, BuiltKernel)
        made.append(GpuKernel(
            kernel.tile, kernel.printed, result if isinstance(result, BuiltKernel) else None,
            "" if is_built else str(result),
        ))
    return made


def aligned_pointers(module: ModuleOp) -> dict[str, list[bool]]:
    """For each kernel which of its pointers are multiples of `ALIGNMENT` bytes in all launches, if arguments are."""
    found: dict[str, list[bool]] = {}
    for op in module.walk():
        if isinstance(op, prog.LaunchOp):
            flags = [_is_aligned(arg) for arg in op.args]
            name = op.kernel.root_reference.data
            found[name] = [a and b for a, b in zip(found.get(name, flags), flags)]
    return found


def _is_aligned(buffer: SSAValue) -> bool:
    if isinstance(buffer, BlockArgument):
        return True
    owner = buffer.owner
    if isinstance(owner, prog.ViewOp):
        size = itemsize(prog.buffer_type(buffer).dtype)
        return _is_aligned(owner.operands[0]) and _divides(ALIGNMENT, owner.offset.data[0], size)
    if isinstance(owner, prog.BufferOp):
        return _divides(ALIGNMENT, owner.offset.data[0], 1)
    return isinstance(owner, (prog.OutputOp, prog.AllocOp))  # what libraries return may be a view


def _divides(alignment: int, offset: IntExpr, size: int) -> bool:
    """Whether ``offset * size`` is a multiple, whatever the sizes in it are."""
    if isinstance(offset, int):
        return offset * size % alignment == 0
    assert isinstance(offset, Expr)
    return all(coefficient * size % alignment == 0 for _, coefficient in offset.terms)


def row(kernel: GpuKernel, target: Target) -> dict[str, Any]:
    """A kernel's row of the table, as plain data."""
    cost, op, built = kernel_cost(kernel.tile), kernel.tile, kernel.built
    facts: Mapping[str, Any] = {
        "registers": built.registers, "spill_bytes": built.spill_bytes, "shared_bytes": built.shared_bytes,
        "occupancy": built.occupancy,
    } if built is not None else {"error": kernel.reason}
    return {
        "name": op.sym_name.data, "kind": op.kind.data, "lines": file_lines(op.location), "schedule": op.knobs,
        "grid": kernel.printed.grid if kernel.printed else "", "bytes": cost.bytes_moved, "flops": cost.flops,
        "predicted_s": predicted_seconds(cost, target), **facts,
        "source": kernel.printed.source if kernel.printed else "",
    }


__all__ = ["GpuKernel", "OfflineProgram", "aligned_pointers", "compile_offline"]
