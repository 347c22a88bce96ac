"""A graph that runs in ATen as a whole, because it cannot be imported or nothing can be compiled on this machine."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from tilewright.ir.errors import CompilerNotFoundError, UnsupportedGraphError

from .logs import log, log_compilation
from .options import Options

if TYPE_CHECKING:
    from .pipeline import Compilation


class AtenGraph:
    """Answers as a `Compilation` does: no kernels, and every op a fallback with the one reason."""

    def __init__(self, graph_module: torch.fx.GraphModule, reason: str, seconds: float):
        self._graph_module = graph_module
        calls = Counter(str(node.target) for node in graph_module.graph.nodes if node.op == "call_function")
        self.reason = reason
        self.calls = calls.total()
        self.stages: dict[str, str] = {}
        self.kernels: list[Any] = []
        self.fallbacks: list[dict[str, Any]] = [
            {"op": op, "count": count, "reason": reason} for op, count in sorted(calls.items())
        ]
        self.remarks: list[Any] = []
        self.constants: list[torch.Tensor] = []
        self.sources: list[str] = []
        self.libraries: list[Path] = []
        self.prog_text = self.host_source = ""
        self.stats: dict[str, Any] = {
            "kernels": [],
            "fallbacks": self.fallbacks,
            "passes": [],
            "peak_bytes": None,
            "compile_seconds": {"failed": seconds},
        }

    def __call__(self, *args: Any) -> list[Any]:
        return list(self._graph_module(*args))


AnyCompilation: TypeAlias = "Compilation | AtenGraph"


def compile_or_fall_back(
    graph_module: torch.fx.GraphModule, options: Options, *, inputs: list[Any] | None = None
) -> AnyCompilation:
    """The graph compiled, or in ATen as a whole with the reason logged once.

    With ``fallback="error"`` whatever stands in the way is raised: UnsupportedGraphError for a graph that cannot be
    imported, CompilerNotFoundError where there is no C++ compiler.
    """
    from .pipeline import compile_graph

    started = time.perf_counter()
    try:
        compilation: AnyCompilation = compile_graph(graph_module, options, inputs=inputs)
    except (UnsupportedGraphError, CompilerNotFoundError) as error:
        if options.fallback == "error":
            raise
        compilation = AtenGraph(graph_module, str(error), time.perf_counter() - started)
        log.warning("this graph runs in ATen as a whole (%d ops): %s", compilation.calls, error)
    log_compilation("graph", compilation)
    return compilation
