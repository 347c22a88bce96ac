"""DCE erases what nothing reads, and no effect."""

from __future__ import annotations

import pytest

from tilewright.ir.calls import Operand, encode
from tilewright.ir.expr import symbol
from tilewright.ir.target import target
from tilewright.ir.text import parse_ir
from tilewright.ir.types import TensorType
from tilewright.passes.base import PassContext
from tilewright.passes.dce import DeadCodeElimination

from .rulecheck import Case, assert_same_results, case_module, result_ops

s0, u0 = symbol("s0"), symbol("u0")


def call(b, name, x, shape=(3,)):
    return b.aten(name, [x], encode((Operand(0),), {}), [TensorType.get(shape, "f32")], [[1]], "a test")[0]


def erased(module):
    context = PassContext(target("sm_90"))
    DeadCodeElimination().run(module, context)
    return context.statistics["dce"]["erased"]


def unused(*targets, shape=(3,)):
    def build(b, x):
        for name in targets:
            call(b, name, x, shape)
        return b.map("neg", x)

    return case_module(Case("T[s0]", build), "f32")


def test_chains_go_whole_and_results_stay():
    def build(b, x, t):
        b.reduce("sum", b.map("exp", b.map("add", x, b.constant(1, t))), [0])
        b.gather(x, [b.iota([2], "i64", 0)], [0])
        return b.map("neg", x)

    for dtype in ("f32", "bf16"):
        before = case_module(Case("T[7, 0]", build), dtype)
        after = before.clone()
        assert erased(after) == 6
        assert result_ops(after) == ["map neg"]
        assert_same_results(before, after)
        assert erased(after) == 0


@pytest.mark.parametrize(
    "target", ["aten.sort.default", "aten.__and__.Tensor", "prims.sin.default", "aten._to_copy.default"]
)
def test_pure_calls_go(target):
    assert erased(unused(target)) == 1


@pytest.mark.parametrize(
    "name",
    [
        "aten.add_.Tensor", "aten.copy_.default", "aten._assert_async.msg", "aten._assert_scalar.default",
        "aten.rand_like.default", "aten.bernoulli.p", "aten.native_dropout.default", "aten.normal.float_Tensor",
        "mylib.sort.default", "higher_order.cond",
    ],
)  # fmt: skip
def test_calls_with_effects_stay(name):
    assert erased(unused(name)) == 0


def test_a_call_that_gives_a_symbol_its_value_stays():
    """The number of nonzero elements is the shape of a constant, though nobody reads the positions."""
    assert erased(unused("aten.nonzero.default", shape=[u0])) == 0
    assert erased(unused("aten.nonzero.default", shape=[s0])) == 1


def test_regions_are_cleaned_and_whole_regions_go():
    text = """
    func.func @forward(%x: !tw.tensor<[4], f32>) -> !tw.tensor<[4], f32> {
      %r, %s = tw.fused {kind = "loop", numerics = "exact"} : !tw.tensor<[4], f32>, !tw.tensor<[4], f32> {
        %a = tw.map "exp" %x : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
        %b = tw.map "neg" %a : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
        tw.yield %a, %a : !tw.tensor<[4], f32>, !tw.tensor<[4], f32>
      }
      %dead = tw.fused {kind = "loop", numerics = "exact"} : !tw.tensor<[4], f32> {
        %c = tw.map "exp" %s : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
        tw.yield %c : !tw.tensor<[4], f32>
      }
      tw.return %r : !tw.tensor<[4], f32>
    }"""
    before = parse_ir(text)
    after = before.clone()
    assert erased(after) == 2
    assert result_ops(after) == ["fused", "map exp"]
    assert_same_results(before, after)
