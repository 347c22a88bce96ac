"""Every import rule against eager: a case is one call, traced with fixed and with symbolic sizes, and interpreted."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from operator import getitem
from typing import Any

import pytest
import torch
from importer_cases import BOOL, CASES, F32, I64, UNINITIALISED, Case, fixed_size_view_cases
from operator_cases import CASES as OPERATOR_CASES
from operator_cases import FIXED_SIZE_CASES
from resampling_cases import FIXED_CASES as RESAMPLING_CASES
from scatter_cases import FIXED_SCATTERS, SCATTERS
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._pytree import tree_flatten, tree_map
from training_cases import CASES as TRAINING_CASES
from training_cases import FIXED_CASES as FIXED_TRAINING_CASES

from tilewright.importer import import_graph
from tilewright.importer.table import RULES
from tilewright.ir import interpreter, tw
from tilewright.ir.text import parse_ir, print_ir

aten = torch.ops.aten


def by_overload(cases: Iterable[Case]) -> dict[str, list[Case]]:
    result: dict[str, list[Case]] = {}
    for case in cases:
        result.setdefault(str(case.overload), []).append(case)
    return result


FIXED = by_overload([*CASES, *OPERATOR_CASES, *fixed_size_view_cases(), *FIXED_SIZE_CASES, *SCATTERS, *FIXED_SCATTERS])
# Dtypes and sizes do not act on each other: symbolic sizes are tried with the common dtypes.
SYMBOLIC = by_overload(
    c for c in [*CASES, *OPERATOR_CASES, *SCATTERS]
    if not any(isinstance(a, torch.Tensor) and a.dtype not in (F32, I64, BOOL) for a in tree_flatten(c.args)[0])
)


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
    if case.overload is aten.as_strided.default:
        # As a view of its operand it may not leave the graph.
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


@pytest.mark.parametrize("overload", FIXED)
def test_rule_with_fixed_sizes(overload: str) -> None:
    for case in FIXED[overload]:
        check(case, symbolic=False)


@pytest.mark.parametrize("overload", SYMBOLIC)
def test_rule_with_symbolic_sizes(overload: str) -> None:
    for case in SYMBOLIC[overload]:
        check(case, symbolic=True)


@pytest.mark.parametrize("overload", FIXED)
def test_text_of_an_imported_call_reads_back(overload: str) -> None:
    module, _ = trace(FIXED[overload][0], symbolic=False)
    text = print_ir(import_graph(module).module)
    assert print_ir(parse_ir(text)) == text


@pytest.mark.parametrize("case", UNINITIALISED, ids=str)
def test_uninitialised_memory_has_shape_and_dtype(case: Case) -> None:
    module, tensors = trace(case, symbolic=False)
    [got] = interpreter.run(import_graph(module).module, tensors)
    want = results(case)[0]
    assert (got.shape, got.dtype) == (want.shape, want.dtype)


def test_every_rule_has_a_case() -> None:
    # Those of training are checked in test_training_rules.py.
    elsewhere = [*TRAINING_CASES, *FIXED_TRAINING_CASES, *RESAMPLING_CASES]
    cases = [*itertools.chain(*FIXED.values()), *UNINITIALISED, *elsewhere]
    imported = {c.overload for c in cases if c.reason is None}
    assert sorted(map(str, RULES.keys() - imported)) == []
