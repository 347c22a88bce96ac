"""Folding into frozen weights keeps results, for every shape of factor that a channel may have."""

from __future__ import annotations

import pytest
import torch
from batched import run_passes

from tilewright.ir.interpreter import run
from tilewright.ir.numerics import compare
from tilewright.ir.types import DimsAttr

from .rulecheck import Case, case_module, result_ops

MATMUL = "T[5, 3] T[3, 4]"


def product(fn, swapped=False):
    def build(b, x, w, *rest):
        *bias, factor = rest
        y = b.matmul(x, w, *bias)
        return b.map(fn, factor, y) if swapped else b.map(fn, y, factor)

    return build


FOLDED = [
    *[Case(f"{MATMUL} T[4]", product(fn), "f32 f64") for fn in ("mul", "div", "add", "sub")],
    *[Case(f"{MATMUL} T[4] T[4]", product(fn)) for fn in ("mul", "div", "add", "sub")],
    *[Case(f"{MATMUL} {shape}", product("mul")) for shape in ("T[]", "T[1]", "T[1, 4]", "T[1, 1]")],
    Case(f"{MATMUL} T[4]", product("mul", swapped=True)), Case(f"{MATMUL} T[4]", product("add", swapped=True)),
    Case("T[0, 3] T[3, 4] T[4]", product("mul")), Case("T[5, 0] T[0, 4] T[4]", product("add")),
    Case("T[5, 3] T[3, 1] T[1]", product("mul")),
]
KEPT = [
    Case(f"{MATMUL} T[4]", product("sub", swapped=True)), Case(f"{MATMUL} T[4]", product("div", swapped=True)),
    Case(f"{MATMUL} T[5, 1]", product("mul")), Case(f"{MATMUL} T[5, 4]", product("add")),
    Case(f"{MATMUL} T[2, 1, 4]", product("mul")), Case(f"{MATMUL} T[4]", product("mul"), "bf16 f16"),
    Case("T[2, 5, 3] T[2, 3, 4] T[4]", product("mul")), Case(f"{MATMUL} T[4]", product("maximum")),
]


def frozen_module(case: Case, dtype: str):
    """The case with all arguments frozen but the first."""
    module = case_module(case, dtype)
    [function] = module.ops
    function.attributes["frozen"] = DimsAttr(range(1, len(function.body.block.args)))
    return module


@pytest.mark.parametrize("case", FOLDED, ids=lambda case: case.inputs)
def test_folded(case):
    for dtype in case.dtypes.split():
        before = frozen_module(case, dtype)
        after = before.clone()
        assert run_passes(after, "freeze").statistics["freeze"] == {"folded": 1}
        assert result_ops(after)[-1] == "matmul"
        [function] = before.ops
        kind = {"f32": torch.float32, "f64": torch.float64}[dtype]
        torch.manual_seed(0)
        inputs = [torch.randn(a.type.shape, dtype=kind) for a in function.body.block.args]
        [expected], [actual] = run(before, inputs), run(after, inputs)
        [exact] = run(before, inputs, precision="f64")
        assert compare(actual, expected, exact, "reassociates", factor=4.0) is None
        assert run_passes(after, "freeze").statistics["freeze"] == {"folded": 0}


@pytest.mark.parametrize("case", KEPT, ids=lambda case: case.inputs)
def test_kept(case):
    for dtype in case.dtypes.split():
        module = frozen_module(case, dtype)
        assert run_passes(module, "freeze").statistics["freeze"] == {"folded": 0}


def test_nothing_is_folded_where_nothing_is_frozen():
    module = case_module(FOLDED[0], "f32")
    assert run_passes(module, "freeze").statistics["freeze"] == {"folded": 0}
