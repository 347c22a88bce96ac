"""Taking the bias out of a product keeps its results, at every rank of bias that a product takes."""

from __future__ import annotations

import pytest
import torch
from batched import run_passes

from tilewright.ir.interpreter import run
from tilewright.ir.numerics import compare

from .rulecheck import Case, case_module, result_ops

CASES = [
    Case("T[5, 3] T[3, 4] T[4]", lambda b, x, w, bias: b.map("tanh", b.matmul(x, w, bias)), "f32 f64"),
    Case("T[s0, 3] T[3, 4] T[s0, 4]", lambda b, x, w, bias: b.map("tanh", b.matmul(x, w, bias))),
    Case("T[s0, 3] T[3, 4] T[1, 4]", lambda b, x, w, bias: b.map("tanh", b.matmul(x, w, bias))),
    Case("T[2, 5, 3] T[2, 3, 4] T[4]", lambda b, x, w, bias: b.map("tanh", b.matmul(x, w, bias))),
    Case("T[2, 5, 3] T[2, 3, 4] T[2, 5, 4]", lambda b, x, w, bias: b.reduce("max", b.matmul(x, w, bias), [2])),
    Case("T[0, 3] T[3, 4] T[4]", lambda b, x, w, bias: b.map("neg", b.matmul(x, w, bias))),
    Case("T[5, 0] T[0, 4] T[4]", lambda b, x, w, bias: b.map("neg", b.matmul(x, w, bias))),
]
KEPT = [
    Case("T[5, 3] T[3, 4] T[4]", lambda b, x, w, bias: b.matmul(x, w, bias)),
    Case("T[5, 3] T[3, 4] T[4]", lambda b, x, w, bias: b.permute(b.matmul(x, w, bias), [1, 0])),
    Case("T[5, 3] T[3, 5] T[5]", lambda b, x, w, bias: b.matmul(b.matmul(x, w, bias), x)),
    Case("T[5, 3] T[3, 4] T[4]", lambda b, x, w, bias: b.map("tanh", b.matmul(x, w, bias)), "bf16 f16"),
    Case("T[5, 3] T[3, 4]", lambda b, x, w: b.map("tanh", b.matmul(x, w))),
]


def inputs_for(module):
    [function] = module.ops
    dtypes = {"f32": torch.float32, "f64": torch.float64}
    return [
        torch.randn([d if isinstance(d, int) else 5 for d in a.type.shape], dtype=dtypes[a.type.dtype])
        for a in function.body.block.args
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.inputs)
def test_split_products_give_the_same(case):
    for dtype in case.dtypes.split():
        before = case_module(case, dtype)
        after = before.clone()
        context = run_passes(after, "split-bias")
        assert context.statistics["split-bias"] == {"split": 1}
        assert result_ops(after)[:2] == ["matmul", "map add"]
        inputs = inputs_for(before)
        [expected], [actual] = run(before, inputs), run(after, inputs)
        [exact] = run(before, inputs, precision="f64")
        assert compare(actual, expected, exact, "reassociates") is None
        assert run_passes(after, "split-bias").statistics["split-bias"] == {"split": 0}


@pytest.mark.parametrize("case", KEPT)
def test_other_products_stay(case):
    for dtype in case.dtypes.split():
        module = case_module(case, dtype)
        before = result_ops(module)
        assert run_passes(module, "split-bias").statistics["split-bias"] == {"split": 0}
        assert result_ops(module) == before
