"""How the tests of import rules look at one call: as a graph of its own, imported and interpreted, against eager."""

from __future__ import annotations

from collections.abc import Iterable
from operator import getitem
from typing import Any

import torch
from importer_cases import Case
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._pytree import tree_flatten, tree_map

from tilewright.importer import import_graph
from tilewright.ir import interpreter, tw
from tilewright.ir.text import print_ir

aten = torch.ops.aten
# Views that are computed as copies, so that they cannot be results beside their operand.
MAY_NOT_LEAVE = {aten.as_strided.default, aten.diagonal.default}


def by_overload(cases: Iterable[Case]) -> dict[str, list[Case]]:
    result: dict[str, list[Case]] = {}
    for case in cases:
        result.setdefault(str(case.overload), []).append(case)
    return result


def trace(case: Case, symbolic: bool) -> tuple[torch.fx.GraphModule, list[torch.Tensor]]:
    """The call as a graph whose arguments are the case's tensors."""
    mode = FakeTensorMode(shape_env=ShapeEnv() if symbolic else None, static_shapes=not symbolic)
    graph, tensors, fakes = torch.fx.Graph(), [], {}

    def argument(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        node = graph.placeholder(f"x{len(tensors)}")
        tensors.append(value)
        node.meta["val"] = fakes[node] = mode.from_tensor(value)
        return node

    nodes = tree_map(argument, case.args), tree_map(argument, case.kwargs)
    called = graph.call_function(case.overload, *nodes)
    with mode, enable_python_dispatcher():
        result = case.overload(*tree_map(lambda n: fakes.get(n, n) if isinstance(n, torch.fx.Node) else n, nodes[0]),
                               **tree_map(lambda n: fakes.get(n, n) if isinstance(n, torch.fx.Node) else n, nodes[1]))
    called.meta["val"] = result
    outputs: list[Any] = [called]
    if not isinstance(result, torch.Tensor):
        outputs = []
        for index, value in enumerate(result):
            if case.only in (None, index) and value is not None:
                item = graph.call_function(getitem, (called, index))
                item.meta["val"] = value
                outputs.append(item)
    if case.overload in MAY_NOT_LEAVE:
        for position, view in enumerate(outputs):
            outputs[position] = graph.call_function(aten.clone.default, (view,))
            outputs[position].meta["val"] = view.meta["val"].clone()
    graph.output(tuple(outputs))
    return torch.fx.GraphModule({}, graph), tensors


def results(case: Case) -> list[torch.Tensor]:
    """What eager gives, as the graph of `trace` would."""
    flat = tree_flatten(case.overload(*case.args, **case.kwargs))[0]
    return [v for i, v in enumerate(flat) if case.only in (None, i) and v is not None]


def check(case: Case, symbolic: bool) -> None:
    module, tensors = trace(case, symbolic)
    imported = import_graph(module).module
    imported.verify()
    text = print_ir(imported)
    reasons = [op.reason.data for op in imported.walk() if isinstance(op, tw.AtenOp)]
    assert reasons == ([case.reason] if case.reason else []), f"{case}\n{text}"
    for got, want in zip(interpreter.run(imported, tensors), results(case), strict=True):
        torch.testing.assert_close(got, want, equal_nan=True, msg=lambda m: f"{case}: {m}\n{text}")
