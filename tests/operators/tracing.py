"""A sample's ATen graphs, as AOTAutograd makes them for a model, imported and run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch._functorch.aot_autograd import aot_function
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import _disable_current_modes
from xdsl.dialects.builtin import ModuleOp

from tilewright.decompositions import backend_table
from tilewright.importer import import_graph
from tilewright.ir.errors import UnsupportedGraphError
from tilewright.ir.interpreter import find_function, run
from tilewright.ir.interpreter.memory import same_bits
from tilewright.ir.types import DimsAttr
from tilewright.pipeline import count_fallbacks
from tilewright.randomness import counter_based, partition

from .samples import Sample

Program = Callable[..., Sequence[Any]]


class WrongViewError(Exception):
    """A result that is a view of an argument holds other numbers than in ATen. (AOTAutograd makes such results from
    the argument itself, so that nobody would see them.)"""


@dataclass
class Graph:
    """An ATen graph and what the importer made of it.

    A call runs `program` where there is one, else the interpreter; a graph that cannot be imported runs in ATen.
    `reasons` are what stands in the way of running natively, ``(overload, reason)``; the overload is "graph" where the
    graph as a whole is left to ATen.
    """

    graph_module: torch.fx.GraphModule
    is_backward: bool
    module: ModuleOp | None = None
    constants: list[torch.Tensor] = field(default_factory=list)
    reasons: list[tuple[str, str]] = field(default_factory=list)
    views: list[int] = field(default_factory=list)
    program: Program | None = None

    @staticmethod
    def of(graph_module: torch.fx.GraphModule, is_backward: bool) -> Graph:
        graph_module = counter_based(graph_module)
        graph = Graph(graph_module, is_backward)
        try:
            imported = import_graph(graph_module)
        except UnsupportedGraphError as error:
            graph.reasons.append(("graph", str(error)))
            return graph
        graph.module, graph.constants = imported.module, imported.constants
        graph.reasons += [(row["op"], row["reason"]) for row in count_fallbacks(imported.module)]
        function = find_function(imported.module)
        owners = function.attributes["result_owners"]
        assert isinstance(owners, DimsAttr)
        graph.views = [i for i, owner in enumerate(owners.ints()) if owner < len(function.body.block.args)]
        return graph

    def __call__(self, args: Sequence[Any]) -> list[Any]:
        with torch.no_grad():
            if self.module is None:
                return list(torch.fx.Interpreter(self.graph_module).run(*args))
            if self.program is None:
                results = run(self.module, [*args, *self.constants])
            else:
                results = list(self.program(*args, *self.constants))
            if self.views:
                self.check_views(args, results)
            return results

    def check_views(self, args: Sequence[Any], results: Sequence[Any]) -> None:
        """Views only move numbers, so nothing less than the same bits will do."""
        expected = torch.fx.Interpreter(self.graph_module).run(*args)
        for index in self.views:
            actual, wanted = results[index], expected[index]
            if isinstance(wanted, torch.Tensor) and not (
                actual.shape == wanted.shape and actual.dtype == wanted.dtype and same_bits(actual, wanted)
            ):
                raise WrongViewError(f"result {index} of the graph is {actual}, in ATen {wanted}")


@dataclass
class Traced:
    """A sample that can be called as the sample itself; `graphs` are made by the first call, and by its backward."""

    function: Callable[..., list[torch.Tensor]]
    graphs: list[Graph]
    context: TracingContext

    def __call__(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        with tracing(self.context):
            return self.function(*tensors)


# What tracing with unknown sizes may help.
_SIZES_FROM_DATA = (DataDependentOutputException, DynamicOutputShapeException)


def trace(sample: Sample, *, unbacked: bool = False) -> Traced:
    """The sample behind AOTAutograd with the compiler's decompositions, sizes known.

    With `unbacked`, sizes and numbers that depend on data are symbols.
    """
    graphs: list[Graph] = []

    def compiler(is_backward: bool) -> Callable[[torch.fx.GraphModule, Any], Callable[[list[Any]], list[Any]]]:
        def compile(graph_module: torch.fx.GraphModule, inputs: Any) -> Callable[[list[Any]], list[Any]]:
            with _disable_current_modes():
                graph = Graph.of(graph_module, is_backward)
            graphs.append(graph)

            def call(args: list[Any]) -> list[Any]:
                results = graph(args)
                args.clear()
                return results

            call._boxed_call = True  # type: ignore[attr-defined]
            return call

        return compile

    modes: dict[str, Any] = {"shape_env": ShapeEnv(), "static_shapes": True} if unbacked else {}
    forward, backward = compiler(False), compiler(True)
    function = aot_function(
        sample, fw_compiler=forward, bw_compiler=backward, inference_compiler=forward, decompositions=backend_table(),
        partition_fn=partial(partition, counter=True),
    )
    return Traced(function, graphs, TracingContext(FakeTensorMode(**modes)))


def call_in_aten(sample: Sample, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The sample behind AOTAutograd alone, whose graphs run in ATen: what torch itself makes of it when it traces."""

    def compile(graph_module: torch.fx.GraphModule, inputs: Any) -> Callable[[list[Any]], Any]:
        def call(args: list[Any]) -> Any:
            return torch.fx.Interpreter(graph_module).run(*args)

        call._boxed_call = True  # type: ignore[attr-defined]
        return call

    with tracing(TracingContext(FakeTensorMode())):
        return aot_function(sample, fw_compiler=compile)(*tensors)


def call_traced(sample: Sample, tensors: Sequence[torch.Tensor]) -> tuple[Traced, list[torch.Tensor]]:
    """The traced sample and its results on the tensors, with sizes from data where it has such."""
    traced = trace(sample)
    try:
        return traced, traced(*tensors)
    except _SIZES_FROM_DATA:
        traced = trace(sample, unbacked=True)
        return traced, traced(*tensors)
