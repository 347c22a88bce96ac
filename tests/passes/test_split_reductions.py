"""Reductions in parts give what whole ones do: every reduction, shapes that parts do not divide, dtypes, NaN."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tilewright.ir.interpreter import run
from tilewright.ir.numerics import compare
from tilewright.ir.scalars import REDUCTIONS, kind_of
from tilewright.ir.target import target
from tilewright.passes import split_reductions
from tilewright.passes.base import PassContext
from tilewright.passes.split_reductions import SplitReductions

from .rulecheck import Case, case_module, inputs_of

SHAPES = [("[701]", (0,)), ("[3, 330]", (1,)), ("[100, 5]", (0,)), ("[7, 2, 50]", (0, 2)), ("[130, 1, 2]", (0, 1))]
DTYPES = ("f32", "bf16", "i64", "u8", "i8", "bool")


@pytest.fixture
def short_parts(monkeypatch):
    monkeypatch.setattr(split_reductions, "SHORTEST_ROW_PART", 64)
    monkeypatch.setattr(split_reductions, "SHORTEST_COLUMN_PART", 16)


def split(module, cores=132):
    context = PassContext(dataclasses.replace(target("sm_90"), cores=cores))
    SplitReductions().run(module, context)
    module.verify()
    return context.statistics["split-reductions"]["split"]


@pytest.mark.parametrize("fn", [fn for fn, row in REDUCTIONS.items() if row.result == "same"])
@pytest.mark.parametrize("shape, dims", SHAPES, ids=lambda value: str(value))
def test_parts_give_the_same(short_parts, fn, shape, dims):
    for dtype in DTYPES:
        if kind_of(dtype) not in REDUCTIONS[fn].accepts:
            continue
        before = case_module(Case(f"T{shape}", lambda b, x: b.reduce(fn, x, dims)), dtype)
        after = before.clone()
        assert split(after) == 1
        inputs = [inputs_of(before, {}, positive_zero=True)[0]]
        if inputs[0].is_floating_point() and fn in ("sum", "prod"):
            inputs = [torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(0)).to(inputs[0].dtype)]
        [expected], [actual] = run(before, inputs), run(after, inputs)
        [exact] = run(before, inputs, precision="f64")
        assert compare(actual, expected, exact, "reassociates") is None


def test_other_reductions_stay_whole():
    for case in (
        Case("T[100000]", lambda b, x: b.reduce("argmax", x, [0])), Case("T[s0]", lambda b, x: b.reduce("sum", x, [0])),
        Case("T[0, 100000]", lambda b, x: b.reduce("sum", x, [1])),
        Case("T[200, 100000]", lambda b, x: b.reduce("sum", x, [1])),
    ):
        assert split(case_module(case, "f32")) == 0
    assert split(case_module(Case("T[200, 100000]", lambda b, x: b.reduce("sum", x, [1])), "f32"), cores=1000) == 1
