"""How a graph is run: compiled as a whole, in parts, or in ATen where nothing can be compiled on this machine."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from tilewright.ir.errors import CompilerNotFoundError, KernelBuildError, UnsupportedGraphError

from .logs import log, log_compilation
from .options import Options

if TYPE_CHECKING:
    from .compilation import Compilation
    from .parts import PartedCompilation


class AtenGraph:
    """Answers as a `Compilation` does: no kernels, and every op a fallback with the one reason."""

    def __init__(self, graph_module: torch.fx.GraphModule, reason: str, seconds: float):
        self._graph_module = graph_module
        calls = Counter(str(node.target) for node in graph_module.graph.nodes if node.op == "call_function")
        self.reason = f"the model runs in ATen: {reason}"
        self.parts: dict[str, AnyCompilation] = {}
        self.calls = calls.total()
        self.stages: dict[str, str] = {}
        self.kernels: list[Any] = []
        self.fallbacks: list[dict[str, Any]] = [
            {"op": op, "count": count, "reason": reason, "lines": []} for op, count in sorted(calls.items())
        ]
        self.remarks: list[Any] = []
        self.constants: list[torch.Tensor] = []
        self.sources: list[str] = []
        self.libraries: list[Path] = []
        self.prog_text = self.host_source = ""
        self.seconds = {"failed": seconds}

    def __call__(self, *args: Any) -> list[Any]:
        return list(self._graph_module(*args))

    @cached_property
    def stats(self) -> dict[str, Any]:
        return {
            "kernels": [], "fallbacks": self.fallbacks, "passes": [], "peak_bytes": None,
            "compile_seconds": self.seconds,
        }


AnyCompilation: TypeAlias = "Compilation | PartedCompilation | AtenGraph"

# What a machine does to a compilation, or a C++ compiler that is not right.
BUILD_FAILURES: tuple[type[Exception], ...] = (KernelBuildError, MemoryError)
_OUT_OF_MEMORY = "out of memory while compiling; free some, or compile a smaller graph"


def compile_or_fall_back(
    graph_module: torch.fx.GraphModule,
    options: Options,
    *,
    inputs: Sequence[Any] | None = None,
    static: Sequence[int] | None = None,
) -> AnyCompilation:
    """The graph compiled: as a whole, in parts where the IR does not express all of it, or (no C++ compiler) in ATen.

    `inputs` are example inputs for ``verify="numeric"``. `static` are the positions of inputs that are weights; None
    asks the tracing context. With ``fallback="error"`` whatever stands in the way is raised: UnsupportedOpError with
    all that would run in ATen, CompilerNotFoundError where there is no C++ compiler, KernelBuildError where it fails,
    MemoryError.
    """
    from .parts import compile_parts
    from .pipeline import compile_graph, static_inputs

    started = time.perf_counter()
    static = static_inputs() if static is None else static
    compilation: AnyCompilation
    expected: tuple[type[Exception], ...] = (UnsupportedGraphError, CompilerNotFoundError, *BUILD_FAILURES)
    try:
        try:
            compilation = compile_graph(graph_module, options, inputs=inputs, static=static)
        except UnsupportedGraphError:
            parted = compile_parts(graph_module, options, inputs=inputs, static=static)
            if parted is None:
                raise
            compilation = parted
    except expected as error:
        if options.fallback == "error":
            raise
        reason = _OUT_OF_MEMORY if isinstance(error, MemoryError) else str(error)
        compilation = AtenGraph(graph_module, reason, time.perf_counter() - started)
        log.warning("this graph runs in ATen as a whole (%d ops): %s", compilation.calls, reason)
    log_compilation("graph", compilation)
    return compilation
