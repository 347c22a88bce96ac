"""Graphs that the IR expresses only in parts: what it does not runs as it is, and what is between is compiled.

`plan` sorts the nodes into steps. Step `k` has a compiled part, then the nodes that run as they are; a node goes into
the first step in which all that it reads is there. So the parts are as few and as large as data and effects allow:
random numbers are drawn in the model's order, and nothing passes a call that changes memory. The steps become one
outer FX graph whose modules are the parts, and whose other nodes are the graph's own.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._ops import HigherOrderOperator, OpOverload
from torch.fx import Graph, GraphModule, Node

aten = torch.ops.aten

# Checks of numbers that are known when they run. They are no work left to ATen.
CHECKS = frozenset({
    aten._assert_scalar.default, aten._assert_async.default, aten._assert_async.msg,
    aten.sym_constrain_range.default, aten.sym_constrain_range_for_size.default,
})
# Beside views: what needs no kernel, or none of ours (a copy into an argument, with nothing computed in the same part).
_NO_WORK = frozenset({operator.getitem, aten._assert_tensor_metadata.default, aten.copy_.default})
# Higher-order ops whose bodies are functions that they call on tensors, so that compiled ones serve as well.
_CALLS_BODIES = frozenset({
    "cond", "while_loop", "scan", "map_impl", "invoke_subgraph", "wrap_with_set_grad_enabled", "wrap_with_autocast",
})


@dataclass(frozen=True)
class Part:
    """What is compiled as one graph. `inputs` are the nodes of the whole graph that its placeholders stand for."""

    name: str
    graph_module: GraphModule
    inputs: list[Node]


@dataclass(frozen=True)
class Plan:
    """A graph in parts. `outer` calls them (``part_0`` ...) and the `bodies` of higher-order ops as its modules.

    `left` are the nodes that run as they are, with the reason; views, checks and numbers are not among them.
    """

    outer: GraphModule
    parts: list[Part]
    bodies: dict[str, GraphModule]
    left: dict[Node, str]


def plan(graph_module: GraphModule, unsupported: Mapping[Node, str]) -> Plan:
    """Split a graph around the nodes that cannot be imported; `unsupported` says why each of them cannot."""
    return _Splitter(graph_module, unsupported).split()


class _Splitter:
    def __init__(self, graph_module: GraphModule, unsupported: Mapping[Node, str]):
        self.graph_module = graph_module
        self.unsupported = unsupported
        self.steps: dict[Node, int] = {}
        self.compiled: set[Node] = set()
        self.outer = Graph()
        self.values: dict[Node, Node] = {}  # nodes of the graph -> nodes of the outer graph
        self.symbols: dict[Any, tuple[Node, int | None]] = {}  # the node, and the dim of it, that a size is

    def split(self) -> Plan:
        self.order()
        self.leave_idle_parts()
        parts: list[Part] = []
        nodes = list(self.graph_module.graph.nodes)
        for node in nodes:
            if node.op == "placeholder":
                self.copy(node)
        for step in range(-1, max(self.steps.values(), default=-1) + 1):
            now = [node for node in nodes if self.steps.get(node) == step]
            if compiled := [node for node in now if node in self.compiled]:
                parts.append(self.part(f"part_{len(parts)}", compiled))
            for node in now:
                if node not in self.compiled:
                    self.copy(node)
        self.copy(self.graph_module.graph.output_node())
        modules = {part.name: part.graph_module for part in parts}
        for node in self.outer.find_nodes(op="get_attr"):
            modules[str(node.target)] = _attribute(self.graph_module, str(node.target))
        left = {
            node: reason for node, reason in self.unsupported.items()
            if node.target not in CHECKS and node.target is not operator.getitem
        }
        return Plan(GraphModule(modules, self.outer), parts, self.bodies(), left)

    # Steps.

    def order(self) -> None:
        """The step of every call, and whether it is compiled."""
        effect: Node | None = None  # the last call that draws random numbers, or whose effects are not known
        barrier: Node | None = None  # the last call that changes memory
        seen: list[Node] = []
        for node in self.graph_module.graph.nodes:
            if node.op in ("placeholder", "get_attr", "output"):
                continue
            source = node.args[0] if node.target is operator.getitem else None
            if isinstance(source, Node) and source in self.steps:
                self.steps[node] = self.steps[source]
                self.compiled |= {node} if source in self.compiled else set()
                continue
            if node not in self.unsupported and not _is_number(node):
                self.compiled.add(node)
            kind = _effect(node)
            before = [*node.all_input_nodes, *filter(None, [barrier])]
            if kind == "changes memory":
                before, barrier = seen, node
            elif kind is not None:
                before += filter(None, [effect])
            effect = effect if kind is None else node
            # Step -1 has no part: what needs no compiled value runs before the first.
            first = 0 if node in self.compiled else -1
            self.steps[node] = max([first, *(self.step_after(earlier, node) for earlier in before)])
            seen.append(node)

    def step_after(self, before: Node, node: Node) -> int:
        """The first step in which `node` may run, as far as `before` is concerned."""
        step = self.steps.get(before, -1)
        return step + 1 if node in self.compiled and before not in self.compiled else step

    def leave_idle_parts(self) -> None:
        """What compiles to no kernel, views alone, is not worth a part."""
        by_step: dict[int, list[Node]] = {}
        for node in self.compiled:
            by_step.setdefault(self.steps[node], []).append(node)
        for nodes in by_step.values():
            if not any(_computes(node) for node in nodes):
                self.compiled -= set(nodes)

    # The outer graph.

    def copy(self, node: Node) -> None:
        """Copy a node into the outer graph, and the attributes that it reads."""
        for read in node.all_input_nodes:
            if read.op == "get_attr" and read not in self.values:
                self.copy(read)
        self.values[node] = self.outer.node_copy(node, lambda n: self.values[n])
        self.bind_symbols(node)

    def bind_symbols(self, node: Node) -> None:
        """Remember the sizes that can be read from a node."""
        for symbol, dim in _symbols_given(node):
            self.symbols.setdefault(symbol, (node, dim))

    def part(self, name: str, nodes: list[Node]) -> Part:
        """Make a graph of `nodes`, and the call of it in the outer graph."""
        graph, inside = Graph(), set(nodes)
        outside = list(dict.fromkeys(
            read for node in nodes for read in node.all_input_nodes if read not in inside and read.op != "get_attr"
        ))
        sizes = self.sizes_to_pass(outside, nodes)
        values: dict[Node, Node] = {}
        for node in outside:
            values[node] = graph.placeholder(node.name)
            values[node].meta = dict(node.meta)
        for value, _ in sizes:
            graph.placeholder(str(value)).meta["val"] = value
        for node in nodes:
            for read in node.all_input_nodes:
                if read.op == "get_attr" and read not in values:
                    values[read] = graph.node_copy(read)
            values[node] = graph.node_copy(node, lambda n: values[n])
        given = [node for node in nodes if any(user not in inside for user in node.users)]
        graph.output(tuple(values[node] for node in given)).meta = {}
        arguments = [self.values[node] for node in outside] + [size for _, size in sizes]
        call = self.outer.call_module(name, tuple(arguments))
        for position, node in enumerate(given):
            self.values[node] = self.outer.call_function(operator.getitem, (call, position))
            self.values[node].meta = dict(node.meta)
        return Part(name, GraphModule(self.graph_module, graph), outside)

    def sizes_to_pass(self, inputs: Sequence[Node], nodes: Iterable[Node]) -> list[tuple[torch.SymInt, Node]]:
        """Symbolic sizes in a part that are the size of none of its inputs: traced, and as nodes of the outer graph."""
        found: list[tuple[torch.SymInt, Node]] = []
        known = {symbol for node in inputs for symbol, _ in _symbols_given(node)}
        for size in [size for node in (*inputs, *nodes) for size in _sizes_of(node)]:
            for symbol in sorted(size.node.expr.free_symbols - known, key=str):
                known.add(symbol)
                if symbol in self.symbols:
                    node, dim = self.symbols[symbol]
                    value, place = node.meta["val"], self.values[node]
                    if dim is not None:
                        value, place = value.shape[dim], self.outer.call_method("size", (place, dim))
                    found.append((value, place))
        return found

    def bodies(self) -> dict[str, GraphModule]:
        """The functions that higher-order ops call, by the attribute of the graph that they are."""
        found: dict[str, GraphModule] = {}
        for node in self.graph_module.graph.find_nodes(op="get_attr"):
            body = _attribute(self.graph_module, str(node.target))
            if isinstance(body, GraphModule) and all(
                isinstance(user.target, HigherOrderOperator) and user.target.name() in _CALLS_BODIES
                for user in node.users
            ):
                found[str(node.target)] = body
        return found


def _attribute(module: torch.nn.Module, path: str) -> Any:
    return operator.attrgetter(path)(module)


def _is_number(node: Node) -> bool:
    """Whether a node computes a number from numbers and sizes, as Python does."""
    value = node.meta.get("val")
    return isinstance(value, (bool, int, float, torch.SymInt, torch.SymFloat, torch.SymBool))


def _computes(node: Node) -> bool:
    """Whether a call that can be imported does work at run time for which a kernel is worth it."""
    if node.target in _NO_WORK:
        return False
    return not (isinstance(node.target, OpOverload) and node.target.is_view)


def _effect(node: Node) -> str | None:
    """What a call does beside giving its results, None if nothing."""
    target = node.target
    if isinstance(target, HigherOrderOperator):
        return "changes memory" if "mutation" in target.name() else "may draw random numbers"
    if not isinstance(target, OpOverload):
        return None if _is_number(node) or target is operator.getitem else "changes memory"
    if target._schema.is_mutable:
        return "changes memory"
    if torch.Tag.nondeterministic_seeded in target.tags or (node.is_impure() and target not in CHECKS):
        return "may draw random numbers"
    return None


def _symbols_given(node: Node) -> list[tuple[Any, int | None]]:
    """The symbols that what a node gives says directly, each with the dim whose size it is (None: it is the number)."""
    value = node.meta.get("val")
    if isinstance(value, torch.SymInt):
        return [(value.node.expr, None)] if value.node.expr.is_Symbol else []
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        return []
    sizes: list[Any] = list(value.shape)
    found = [(size.node.expr, dim) for dim, size in enumerate(sizes) if isinstance(size, torch.SymInt)]
    return [(size, dim) for size, dim in found if size.is_Symbol]


def _sizes_of(node: Node) -> list[torch.SymInt]:
    """The symbolic sizes and strides in what a node gives."""
    value = node.meta.get("val")
    found: list[Any] = []
    for item in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(item, torch.Tensor) and item.layout == torch.strided:
            found += [*item.shape, *item.stride()]
        elif isinstance(item, torch.SymInt):
            found.append(item)
    return [size for size in found if isinstance(size, torch.SymInt)]


class Called(torch.nn.Module):
    """A compiled graph as a module of another: it gives what the graph's output node lists."""

    def __init__(self, function: Callable[..., Sequence[Any]], single: bool):
        super().__init__()
        self._function, self._single = function, single

    def forward(self, *args: Any) -> Any:
        results = self._function(*args)
        return results[0] if self._single else tuple(results)
