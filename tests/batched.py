"""Building many small modules at once: the C++ compiler runs a few times, not once for each."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import ModuleOp, StringAttr

from tilewright.codegen.cpp import print_file, print_host
from tilewright.codegen.host import HostProgram, program_parts
from tilewright.codegen.native import build_all, load_kernels, load_library
from tilewright.codegen.native_host import NativeProgram
from tilewright.ir.target import host_cpu
from tilewright.ir.tile import KernelOp
from tilewright.passes.base import PassContext
from tilewright.passes.pipelines import parse_pipeline

MODULES_PER_FILE = 12


def run_passes(module: ModuleOp, pipeline: str) -> PassContext:
    """Run a pipeline in place; the context with its remarks and statistics."""
    context = PassContext(host_cpu())
    for item in parse_pipeline(pipeline):
        item.run(module, context)
    module.verify()
    return context


def build_programs(modules: Sequence[ModuleOp]) -> list[HostProgram]:
    """A callable for each module, all of them programs (prog level)."""
    sources: list[str] = []
    names: list[dict[str, str]] = []
    for start in range(0, len(modules), MODULES_PER_FILE):
        renamed: list[KernelOp] = []
        for position, module in enumerate(modules[start : start + MODULES_PER_FILE], start):
            kernels = [op for op in module.ops if isinstance(op, KernelOp)]
            names.append({k.sym_name.data: f"m{position}_{k.sym_name.data}" for k in kernels})
            for kernel in kernels:
                copy = kernel.clone()
                copy.properties["sym_name"] = StringAttr(names[-1][kernel.sym_name.data])
                renamed.append(copy)
        sources.append(print_file(renamed, host_cpu()))
    functions = load_kernels(sources, [n for table in names for n in table.values()], host_cpu())
    return [
        HostProgram(module, {old: functions[new] for old, new in table.items()})
        for module, table in zip(modules, names)
    ]


def native_programs(modules: Sequence[ModuleOp]) -> list[NativeProgram]:
    """A callable for each module, all of them programs (prog level), whose host programs are in C++."""
    parts = [program_parts(module) for module in modules]
    sources = [
        print_file(kernels.values(), host_cpu(), print_host(function, kernels)) for function, kernels in parts
    ]
    return [
        NativeProgram(module, load_library(path, source, host_cpu()), path, source)
        for module, path, source in zip(modules, build_all(sources, host_cpu()), sources)
    ]
