"""Building many small modules at once: the C++ compiler runs a few times, not once for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from xdsl.dialects.builtin import ModuleOp, StringAttr

from tilewright.codegen.cpp import print_file, print_host
from tilewright.codegen.host import HostProgram, program_parts
from tilewright.codegen.native import build_all, load_library
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
    return [HostProgram(module, kernels) for module, kernels, _, _ in _build(modules)]


def native_programs(modules: Sequence[ModuleOp]) -> list[NativeProgram]:
    """A callable for each module, all of them programs (prog level), whose host programs are in C++."""
    hosts = [print_host(*program_parts(module), f"m{position}_host") for position, module in enumerate(modules)]
    return [
        NativeProgram(module, kernels, path, source, f"m{position}_host")
        for position, (module, kernels, path, source) in enumerate(_build(modules, hosts))
    ]


def _build(
    modules: Sequence[ModuleOp], hosts: Sequence[str] | None = None
) -> Iterator[tuple[ModuleOp, dict[str, Callable[..., int]], Path, str]]:
    """Each module with its loaded kernels, and with the library and the source that they and its host are in."""
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
        own = hosts[start : start + MODULES_PER_FILE] if hosts is not None else []
        sources.append(print_file(renamed, host_cpu(), "\n".join(own)))
    paths = build_all(sources, host_cpu())
    libraries = [load_library(path, source, host_cpu()) for path, source in zip(paths, sources)]
    for position, (module, table) in enumerate(zip(modules, names)):
        file = position // MODULES_PER_FILE
        yield module, {old: libraries[file][new] for old, new in table.items()}, paths[file], sources[file]
