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

if TYPE_CHECKING:
    from .api import CompiledModel
    from .fallback import AnyCompilation

LAST = "prog"  # another name for the stage after the last pass


def write_directory(model: CompiledModel, directory: Path, name: str) -> list[Path]:
    """Write everything about `model` into `directory`; gives the paths.

    ::

        00_import.mlir …         the IR after each stage, with its provenance on line 1
        kernels/                 one folder a kernel: kernel.cpp, kernel.mlir, kernel.py (checks and times it)
        host.py, host.cpp        the host program as Python and as the C++ that runs
        report.html, stats.json  what was decided, and the same as data
        NAME.tw                  the artifact

    A model that is compiled in parts has a folder for each, and no artifact.
    """
    directory.mkdir(parents=True, exist_ok=True)
    compilation = model.compilation
    written = _write_program(compilation, directory)
    (directory / "stats.json").write_text(json.dumps(model.stats, indent=1, default=str) + "\n")
    written += [directory / "stats.json", model.report(directory / "report.html")]
    if compilation.prog_text:
        written.append(model.save(directory / f"{name}.tw"))
    return written


def _write_program(compilation: AnyCompilation, directory: Path) -> list[Path]:
    """The IR, the kernels and the host program; those of the parts of a model in folders of their names."""
    from .compilation import Compilation

    directory.mkdir(exist_ok=True)
    written = [path for name, part in compilation.parts.items() for path in _write_program(part, directory / name)]
    if isinstance(compilation, Compilation):
        texts = [text for stage, text in compilation.stages.items() if stage != LAST]
        entries = [row["entry"] for row in compilation.stats["passes"]]
        written += [
            write_dump(directory, position, entries, compilation.target, text) for position, text in enumerate(texts)
        ]
        if compilation.host_cpp:
            (directory / "host.cpp").write_text(compilation.host_cpp)
            written.append(directory / "host.cpp")
    if compilation.host_source:
        (directory / "host.py").write_text(compilation.host_source)
        written.append(directory / "host.py")
    return written + write_kernels(compilation.prog_text, directory / "kernels")


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
