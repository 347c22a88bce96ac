"""What is to blame where numbers differ: the first node imported wrongly, the kernels that are not their program."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from xdsl.dialects.builtin import ModuleOp

from tilewright.codegen.cpp.standalone import check_kernel
from tilewright.ir.errors import NumericMismatchError, UnsupportedGraphError
from tilewright.ir.interpreter import run
from tilewright.ir.numerics import compare
from tilewright.ir.text import file_lines
from tilewright.passes.verify import IMPORT_FACTOR, fixed_random_numbers

from .directory import launched_kernels
from .importer import import_graph
from .importer.locations import location_of


@contextmanager
def blaming(find: Callable[[], list[str]]) -> Iterator[None]:
    """A NumericMismatchError raised inside is raised again with the lines that `find` gives."""
    try:
        yield
    except NumericMismatchError as error:
        raise NumericMismatchError("\n  ".join([str(error), *find()])) from None


def wrong_nodes(graph_module: torch.fx.GraphModule, inputs: Sequence[Any]) -> list[str]:
    """The first node of the graph that the imported module computes otherwise than ATen; empty where none is found.

    The graph is imported once more with every tensor as a result, so that what differs first is what is wrong.
    """
    graph = copy.deepcopy(graph_module.graph)
    for node in reversed(graph.find_nodes(op="call_function", target=torch.ops.aten.copy_.default)):
        graph.erase_node(node)  # a new value of an argument, which is a node of its own
    nodes = [n for n in graph.nodes if n.op == "call_function" and isinstance(n.meta.get("val"), torch.Tensor)]
    graph.output_node().args = (tuple(nodes),)
    widened = torch.fx.GraphModule(graph_module, graph)
    try:
        imported = import_graph(widened)
    except UnsupportedGraphError:  # what nobody reads may be beyond the IR, as long as it is no result
        return []
    given = [*inputs, *imported.constants]
    with fixed_random_numbers():
        ours = run(imported.module, given)
    with fixed_random_numbers():
        exact = run(imported.module, given, precision="f64")
    with torch.no_grad(), fixed_random_numbers():
        theirs = torch.fx.Interpreter(widened).run(*inputs)
    for node, a, e, oracle in zip(nodes, theirs, ours, exact):
        mismatch = compare(a, e, oracle, "reassociates", factor=IMPORT_FACTOR)
        if mismatch is not None:
            lines = file_lines(location_of(node))
            where = f" at {', '.join(lines)}" if lines else ""
            return [f"the first to differ is %{node.name}, {node.target}{where}: {mismatch}"]
    return []


def wrong_kernels(module: ModuleOp, functions: Mapping[str, Callable[..., int]]) -> list[str]:
    """A line for each kernel that, alone and on random numbers, computes otherwise than its tile program."""
    found = []
    for kernel, shapes, sizes in launched_kernels(module):
        try:
            check_kernel(kernel, functions[kernel.sym_name.data], shapes, sizes)
        except NumericMismatchError as error:
            found.append(str(error))
    return found
