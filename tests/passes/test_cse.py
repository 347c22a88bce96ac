"""CSE keeps every bit, merges what is equal, and nothing else."""

from __future__ import annotations

import pytest

from tilewright.ir.calls import Operand, encode
from tilewright.ir.expr import symbol
from tilewright.ir.target import target
from tilewright.ir.text import file_lines, parse_ir
from tilewright.ir.types import TensorType
from tilewright.passes.base import PassContext
from tilewright.passes.cse import CommonSubexpressionElimination

from .rulecheck import Case, assert_same_results, case_module, result_ops

s0 = symbol("s0")


def apply(module):
    context = PassContext(target("sm_90"))
    CommonSubexpressionElimination().run(module, context)
    return context.statistics["cse"]["merged"]


def call(b, target, x):
    type = TensorType.get([3], "f32")
    return b.aten(target, [x], encode((Operand(0),), {}), [type], [[1]], "a test")[0]


MERGED = [
    (1, Case("T[3, s0] T[s0]", lambda b, x, y: [b.map("mul", x, y), b.map("mul", y, x)], "f32 bf16 i64")),
    (1, Case("T[3] T[3]", lambda b, x, y: [b.map("sub", x, y), b.map("sub", x, y), b.map("sub", y, x)])),
    (3, Case("T[3]", lambda b, x, t: [b.map("exp", b.map("add", x, b.constant(1, t))) for _ in "ab"])),
    (1, Case("T[0, 4]", lambda b, x: [b.reduce("max", x, [1]), b.reduce("max", x, [1]), b.reduce("min", x, [1])])),
    (1, Case("T[4, s0]", lambda b, x: [b.permute(x, [1, 0]), b.permute(x, [1, 0]), b.reshape(x, [s0, 4])])),
]  # fmt: skip
KEPT = [
    # -0.0 is not 0.0, an i64 not an i32
    Case(
        "T[3]", lambda b, x: [b.constant(v, d, [3]) for v, d in ((0.0, "f32"), (-0.0, "f32"), (1, "i64"), (1, "i32"))]
    ),
    # of 0.0 and -0.0 the order may say which comes out
    Case("T[3] T[3]", lambda b, x, y: [b.map("maximum", x, y), b.map("maximum", y, x)]),
    Case("T[3]", lambda b, x: [b.cast(x, "f64"), b.cast(x, "bf16")]),
    Case("T[6]", lambda b, x: [b.slice(x, [0], [3]), b.slice(x, [1], [3])]),
]


@pytest.mark.parametrize("merged, case", MERGED)
def test_equal_ops_merge(merged, case):
    for dtype in case.dtypes.split():
        before = case_module(case, dtype)
        after = before.clone()
        assert apply(after) == merged
        assert apply(after) == 0
        assert_same_results(before, after)


@pytest.mark.parametrize("case", KEPT)
def test_different_ops_stay(case):
    module = case_module(case, "f32")
    assert apply(module) == 0


def test_opaque_calls_merge_only_where_they_are_known_to_be_pure():
    targets = ["aten.rand_like.default", "aten.unknown.default", "mylib.mm.default", "aten.sort.default"]
    module = case_module(Case("T[3]", lambda b, x: [call(b, t, x) for t in targets for _ in "ab"]), "f32")
    assert apply(module) == 1
    assert result_ops(module) == ["aten"] * 7


def test_regions_are_cleaned_on_their_own():
    """An op inside a region is not merged with one outside: that would make the value cross the border."""
    text = """
    func.func @forward(%x: !tw.tensor<[4], f32>) -> (!tw.tensor<[4], f32>, !tw.tensor<[4], f32>) {
      %o = tw.map "exp" %x : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32> loc("m.py":1:0)
      %p = tw.map "exp" %x : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32> loc("m.py":2:0)
      %q = tw.map "add" %o, %p : (!tw.tensor<[4], f32>, !tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
      %r = tw.fused {kind = "loop", numerics = "exact"} : !tw.tensor<[4], f32> {
        %a = tw.map "exp" %x : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
        %b = tw.map "exp" %x : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
        %c = tw.map "mul" %a, %b : (!tw.tensor<[4], f32>, !tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
        tw.yield %c : !tw.tensor<[4], f32>
      }
      tw.return %q, %r : !tw.tensor<[4], f32>, !tw.tensor<[4], f32>
    }"""
    before = parse_ir(text)
    after = before.clone()
    assert apply(after) == 2
    assert result_ops(after) == ["map exp", "map add", "fused", "map exp", "map mul"]
    assert_same_results(before, after)
    # The op that stays stands for both lines.
    kept = next(op for op in after.walk() if op.name == "tw.map")
    assert file_lines(kept.location) == ["m.py:1", "m.py:2"]
