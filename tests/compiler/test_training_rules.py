"""The import rules of training against eager, interpreted and as kernels; float64 settles what rounds differently."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from batched import build_programs, run_passes
from importer_cases import Case
from importer_checks import by_overload, results, trace
from resampling_cases import FIXED_CASES as RESAMPLING_CASES
from torch.utils._pytree import tree_map
from training_cases import CASES, FIXED_CASES

from tilewright.importer import import_graph
from tilewright.ir import interpreter, tw
from tilewright.ir.numerics import compare
from tilewright.ir.text import print_ir

COMMON = (torch.float32, torch.int64, torch.bool)
FIXED = by_overload([*CASES, *FIXED_CASES, *RESAMPLING_CASES])
SYMBOLIC = by_overload(c for c in CASES if all(a.dtype in COMMON for a in c.args if isinstance(a, torch.Tensor)))


def in_float64(case: Case) -> list[torch.Tensor]:
    """What eager gives for the same operands in float64."""

    def wide(value: Any) -> Any:
        floating = isinstance(value, torch.Tensor) and value.is_floating_point()
        if floating or value in (torch.float32, torch.bfloat16):
            return value.double() if isinstance(value, torch.Tensor) else torch.float64
        return value

    args, kwargs = (tree_map(lambda v: wide(v) if not isinstance(v, (int, float, str)) else v, part)
                    for part in (case.args, case.kwargs))
    return results(Case(case.overload, args, kwargs, case.reason, case.only))


def check_results(case: Case, got: list[Any], text: str = "") -> None:
    oracle = in_float64(case)
    for mine, eager, wide in zip(got, results(case), oracle, strict=True):
        if eager.dtype == torch.float64:
            torch.testing.assert_close(mine, eager, equal_nan=True, msg=lambda m: f"{case}: {m}\n{text}")
            continue
        mismatch = compare(mine, eager, wide, "reassociates")
        assert mismatch is None, f"{case}: {mismatch}\n{text}"


def check(case: Case, symbolic: bool) -> None:
    graph, tensors = trace(case, symbolic)
    module = import_graph(graph).module
    module.verify()
    text = print_ir(module)
    reasons = [op.reason.data for op in module.walk() if isinstance(op, tw.AtenOp)]
    assert reasons == ([case.reason] if case.reason else []), f"{case}\n{text}"
    check_results(case, list(interpreter.run(module, tensors)), text)


@pytest.mark.parametrize("overload", FIXED)
def test_rule_with_fixed_sizes(overload: str) -> None:
    for case in FIXED[overload]:
        check(case, symbolic=False)


@pytest.mark.parametrize("overload", SYMBOLIC)
def test_rule_with_symbolic_sizes(overload: str) -> None:
    for case in SYMBOLIC[overload]:
        check(case, symbolic=True)


def chosen(cases: list[Case]) -> list[Case]:
    """Two of a rule's cases, of the common dtypes: kernels cost more than the interpreter, and others differ little."""
    by_dtype: dict[torch.dtype, list[Case]] = {}
    for case in cases:
        if case.reason is None:
            by_dtype.setdefault(next(a.dtype for a in case.args if isinstance(a, torch.Tensor)), []).append(case)
    found = [c for dtype in (torch.float32, torch.bfloat16) for c in by_dtype.get(dtype, [])]
    return found if len(found) <= 2 else [found[len(found) // 3], found[-1]]


@pytest.mark.slow
def test_kernels() -> None:
    cases = [c for group in FIXED.values() for c in chosen(group)]
    traced = [trace(c, symbolic=False) for c in cases]
    modules = [import_graph(graph).module for graph, _ in traced]
    for module in modules:
        run_passes(module, "default")
    for case, program, (_, tensors) in zip(cases, build_programs(modules), traced, strict=True):
        check_results(case, list(program(*tensors)))
