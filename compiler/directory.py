"""A compiled model as a directory for reading: numbered IR, kernels, host program, report, statistics, artifact."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xdsl.dialects.builtin import ModuleOp

from tilewright.codegen.cpp.standalone import write_standalone
from tilewright.ir import prog, tile
from tilewright.ir.expr import hint, symbol
from tilewright.ir.text import parse_ir
from tilewright.ir.types import BufferType
from tilewright.passes.manager import write_dump

from .fallback import AtenGraph

if TYPE_CHECKING:
    from .api import CompiledModel

LAST = "prog"  # another name for the stage after the last pass


def write_directory(model: CompiledModel, directory: Path, name: str) -> list[Path]:
    """Write everything about `model` into `directory`; gives the paths.

    ::

        00_import.mlir …         the IR after each stage, with its provenance on line 1
        kernels/                 one folder a kernel: kernel.cpp, kernel.mlir, kernel.py (checks and times it)
        host.py                  the host program
        report.html, stats.json  what was decided, and the same as data
        NAME.tw                  the artifact
    """
    directory.mkdir(parents=True, exist_ok=True)
    compilation = model.compilation
    texts = [text for stage, text in compilation.stages.items() if stage != LAST]
    entries = [row["entry"] for row in model.stats["passes"]]
    files = {"host.py": compilation.host_source, "stats.json": json.dumps(model.stats, indent=1, default=str) + "\n"}
    written = [] if isinstance(compilation, AtenGraph) else [
        write_dump(directory, position, entries, compilation.target, text) for position, text in enumerate(texts)
    ]
    for file, text in files.items():
        if text:
            (directory / file).write_text(text)
            written.append(directory / file)
    written += write_kernels(compilation.prog_text, directory / "kernels")
    written.append(model.report(directory / "report.html"))
    if compilation.prog_text:
        written.append(model.save(directory / f"{name}.tw"))
    return written


def write_kernels(prog_text: str, directory: Path) -> list[Path]:
    """Each kernel of a program as a folder of its own."""
    if not prog_text:
        return []
    return [
        write_standalone(kernel, shapes, sizes, directory / kernel.sym_name.data)
        for kernel, shapes, sizes in launched_kernels(parse_ir(prog_text, "prog.mlir"))
    ]


def launched_kernels(module: ModuleOp) -> Iterator[tuple[tile.KernelOp, list[tuple[int, str]], dict[str, int]]]:
    """Each kernel of a program, with elements and dtype of the buffers that its first launch takes, and its sizes.

    Symbolic sizes are given a plausible value, as in the cost estimates.
    """
    launches: dict[str, prog.LaunchOp] = {}
    for op in module.walk():
        if isinstance(op, prog.LaunchOp):
            launches.setdefault(op.kernel.root_reference.data, op)
    for kernel in module.body.block.ops:
        if isinstance(kernel, tile.KernelOp) and (launch := launches.get(kernel.sym_name.data)) is not None:
            shapes = [(_reach(prog.buffer_type(arg)), prog.buffer_type(arg).dtype) for arg in launch.args]
            sizes = {name: hint(symbol(name)) for name in kernel.size_names}
            yield kernel, shapes, sizes


def _reach(type: BufferType) -> int:
    """Elements from a buffer's first to its last, both included; symbolic sizes as `hint` has them."""
    sizes, strides = [hint(size) for size in type.shape], [hint(stride) for stride in type.strides]
    return 0 if 0 in sizes else 1 + sum((size - 1) * stride for size, stride in zip(sizes, strides))
