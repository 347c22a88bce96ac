"""A compiled graph: what runs it, what reports tell of it, and the plain parts that it is kept as.

Nothing here traces, imports or runs passes, so that a program that is kept starts without the code for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

from tilewright.codegen import native
from tilewright.codegen.cpp import print_kernel
from tilewright.codegen.frozen import FrozenProgram, is_frozen
from tilewright.codegen.host import HostProgram
from tilewright.codegen.native_host import NativeProgram, host_names, unavailable
from tilewright.ir import tile
from tilewright.ir.cost import kernel_cost, predicted_seconds
from tilewright.ir.plain import from_plain, to_plain
from tilewright.ir.target import Target
from tilewright.ir.target import target as find_target
from tilewright.ir.text import file_lines, print_ir

if TYPE_CHECKING:
    from tilewright.passes.base import Remark
    from tilewright.passes.manager import PassManager, PassRecord

    from .fallback import AnyCompilation


@dataclass(frozen=True)
class History:
    """How a program was made: the passes with what they decided, and a record of each."""

    manager: PassManager
    records: Sequence[PassRecord]


@dataclass(frozen=True)
class KernelInfo:
    """A kernel for people: where it comes from, what it moves and computes for its traced sizes, its source."""

    name: str
    kind: str
    lines: list[str]
    schedule: dict[str, Any]
    bytes: int
    flops: int
    predicted_s: float
    source: str


@dataclass
class Compilation:
    """A compiled graph. Calling it runs the program on the graph's inputs (tensors and ints) and gives its outputs."""

    host: HostProgram | NativeProgram | FrozenProgram
    module: ModuleOp
    constants: list[torch.Tensor]
    sources: list[str]
    libraries: list[Path]
    target: Target
    weights: Sequence[int]  # positions of inputs that are the same tensors in every call
    fallbacks: list[dict[str, Any]]
    seconds: dict[str, float]  # by phase
    history: Callable[[], History]  # what reports need and running does not; of a kept program, the passes run for it
    parts: Mapping[str, AnyCompilation] = field(default_factory=dict)  # none: it is one program

    def __call__(self, *args: Any) -> list[Any]:
        return self.host(*args, *self.constants)

    def as_parts(self) -> dict[str, Any]:
        """What `load_compilation` needs, as plain data and tensors. Raises TypeError for what has no such form."""
        manager = self.made.manager
        return {
            "program": to_plain(self.module), "imported": to_plain(manager.original), "sources": self.sources,
            "constants": self.constants, "weights": list(self.weights), "fallbacks": self.fallbacks,
            "options": dict(manager.context.options),
        }

    @cached_property
    def made(self) -> History:
        """The history, when it is asked for."""
        return self.history()

    @cached_property
    def stages(self) -> dict[str, str]:
        """The IR after the import and after each pass; the last is also known as ``prog``. Made when asked for."""
        texts: dict[str, str] = {}
        for position, name, module in self.made.manager.replay():
            texts[name if name not in texts else f"{name} ({position})"] = print_ir(module)
        return {**texts, "prog": self.prog_text}

    @property
    def prog_text(self) -> str:
        return print_ir(self.module)

    @property
    def host_source(self) -> str:
        """The host program as Python, whichever of the two hosts runs."""
        return self.host.source

    @property
    def host_cpp(self) -> str:
        """The host program as C++; empty where Python runs it."""
        return self.host.text if isinstance(self.host, NativeProgram) else ""

    @cached_property
    def remarks(self) -> list[Remark]:
        """The decisions that passes took."""
        return self.made.manager.context.remarks

    @cached_property
    def kernels(self) -> list[KernelInfo]:
        kernels = [op for op in self.module.body.block.ops if isinstance(op, tile.KernelOp)]
        return kernel_infos(kernels, self.target)

    @cached_property
    def stats(self) -> dict[str, Any]:
        """What the compilation did, as plain data. Made when asked for: running the model needs nothing of it."""
        return {
            "kernels": [vars(kernel) for kernel in self.kernels], "fallbacks": self.fallbacks,
            "passes": [record.as_dict() for record in self.made.records], "peak_bytes": peak(self.made.records),
            "compile_seconds": self.seconds, "statistics": self.made.manager.context.statistics,
        }


def load_compilation(parts: Mapping[str, Any]) -> Compilation:
    """A compilation of `Compilation.as_parts`: nothing is traced or imported again, and no pass runs.

    `libraries` are the built kernels; without them they are looked up in the cache, or built.
    """
    module, sources, constants = from_plain(parts["program"]), list(parts["sources"]), list(parts["constants"])
    target = find_target(parts["options"].get("target"))
    libraries = parts["libraries"] if "libraries" in parts else native.build_all(sources, target)
    functions = load_functions(libraries, sources, target)

    def history() -> History:
        from tilewright.passes.base import PassContext
        from tilewright.passes.manager import PassManager
        from tilewright.passes.pipelines import parse_pipeline

        options = parts["options"]
        manager = PassManager(parse_pipeline(options["passes"]), PassContext(target, options, sizes={}))
        return History(manager, manager.run(from_plain(parts["imported"])))

    static = static_positions(module, parts["weights"], constants)
    return Compilation(
        host=load_host(module, functions, libraries, sources, static), module=module, constants=constants,
        sources=sources, libraries=list(libraries), target=target, weights=parts["weights"],
        fallbacks=parts["fallbacks"], seconds={}, history=history,
    )


def load_functions(libraries: Sequence[Path], sources: Sequence[str], target: Target) -> dict[str, Any]:
    """Every kernel of the libraries, by name; `sources` are their texts, in the same order."""
    functions: dict[str, Any] = {}
    for library, source in zip(libraries, sources):
        functions |= native.load_library(library, source, target)
    return functions


def load_host(
    module: ModuleOp, functions: Mapping[str, Any], libraries: Sequence[Path], sources: Sequence[str],
    static: Sequence[int],
) -> HostProgram | NativeProgram | FrozenProgram:
    """The host program that is in a library, or else the one in Python."""
    if is_frozen(module):
        return FrozenProgram(module, functions, static)
    for library, source in zip(libraries, sources):
        if host_names(source) and not unavailable():
            return NativeProgram(module, functions, library, source, static=static)
    return HostProgram(module, functions, static)


def argument_types(module: ModuleOp) -> list[Any]:
    """The types of the function's arguments."""
    function = next(op for op in module.body.block.ops if isinstance(op, FuncOp))
    return [arg.type for arg in function.body.block.args]


def static_positions(module: ModuleOp, weights: Sequence[int], constants: Sequence[Any]) -> list[int]:
    """The positions of arguments that are the same tensors in every call: weights, and the constants at the end."""
    count = len(argument_types(module))
    return [*weights, *range(count - len(constants), count)]


def kernel_infos(kernels: Sequence[tile.KernelOp], target: Target) -> list[KernelInfo]:
    infos = []
    for kernel in kernels:
        cost = kernel_cost(kernel)
        infos.append(
            KernelInfo(
                kernel.sym_name.data, kernel.kind.data, file_lines(kernel.location), kernel.knobs, cost.bytes_moved,
                cost.flops, predicted_seconds(cost, target), print_kernel(kernel),
            )
        )
    return infos


def peak(records: Sequence[PassRecord]) -> int | None:
    return records[-1].after.peak_bytes if records else None
