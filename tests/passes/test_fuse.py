"""Fusion: which ops become one kernel, why others do not, and that no bit of a result changes."""

from __future__ import annotations

import pytest

from tilewright.ir import tw
from tilewright.ir.builder import Builder
from tilewright.ir.target import host_cpu
from tilewright.passes.base import PassContext
from tilewright.passes.fusion import Fuse

from .fusion_cases import FUSED, KEPT_APART, Fusion, softmax
from .random_modules import random_module
from .rulecheck import Case, assert_same_bits, assert_same_results, case_module, inputs_of, result_ops, run


def fuse(module, **options) -> PassContext:
    context = PassContext(host_cpu())
    Fuse(**options).run(module, context)
    module.verify()
    return context


def regions(module) -> list[list[str]]:
    """The ops of each region in order, maps by their function."""
    found = []
    for op in module.walk():
        if isinstance(op, tw.FusedOp):
            inside = [o for o in op.body.block.ops if not isinstance(o, (tw.ConstantOp, tw.YieldOp))]
            found.append([o.fn.data if isinstance(o, (tw.MapOp, tw.ReduceOp)) else o.name[3:] for o in inside])
    return found


@pytest.mark.parametrize("name", FUSED)
def test_each_kind_becomes_as_few_kernels_as_it_can(name):
    for dtype in FUSED[name].case.dtypes.split():
        module = case_module(FUSED[name].case, dtype)
        fuse(module)
        assert len(regions(module)) == FUSED[name].kernels
        outside = [op for op in module.walk() if isinstance(op, (tw.MapOp, tw.ReduceOp, tw.ScanOp, tw.GatherOp))]
        assert all(isinstance(op.parent_op(), tw.FusedOp) for op in outside)


@pytest.mark.parametrize("name", FUSED)
def test_fusing_changes_no_bit(name):
    for dtype in FUSED[name].case.dtypes.split():
        before = case_module(FUSED[name].case, dtype)
        after = before.clone()
        fuse(after)
        if name == "gather":  # positions must be valid
            for seed in range(3):
                inputs = inputs_of(before, {"s0": 5}, seed)
                inputs[1] %= 9
                assert_same_bits(run(before, inputs), run(after, inputs))
        else:
            assert_same_results(before, after)


@pytest.mark.parametrize("name", KEPT_APART)
def test_what_stays_apart_says_why(name):
    expected: Fusion = KEPT_APART[name]
    module = case_module(expected.case, "f32")
    context = fuse(module)
    assert len(regions(module)) == expected.kernels
    rejected = [r.message for r in context.remarks if r.kind == "rejected"]
    assert any(expected.reason in message for message in rejected), rejected


def test_remarks_carry_the_models_lines():
    def build(b: Builder, x):
        from xdsl.dialects.builtin import FileLineColLoc, IntAttr, StringAttr

        def line(number):
            return FileLineColLoc(StringAttr("m.py"), IntAttr(number), IntAttr(0))

        b.location = line(7)
        first = b.map("sub", x, b.reduce("max", x, [1]))
        b.location = line(9)
        return b.map("sub", first, b.reduce("max", first, [0]))

    context = fuse(case_module(Case("T[5, 6]", build), "f32"))
    assert {r.lines for r in context.remarks if r.kind == "rejected"} == {("m.py:7", "m.py:9")}
    assert {r.pass_name for r in context.remarks} == {"fuse"}


def test_without_merging_each_op_has_its_region():
    module = case_module(Case("T[s0, 7]", softmax), "f32")
    fuse(module, merge=False)
    assert regions(module) == [["max"], ["sub"], ["exp"], ["sum"], ["div"]]


def test_limits_are_options():
    module = case_module(Case("T[s0, 7]", softmax), "f32")
    context = fuse(module, max_ops=2)
    assert max(len(r) for r in regions(module)) == 2
    assert any("more than 2 ops" in r.message for r in context.remarks)
    module = case_module(Case("T[9] T[9] T[9]", lambda b, x, y, z: b.map("add", b.map("mul", x, y), z)), "f32")
    fuse(module, max_pointers=3)
    assert len(regions(module)) == 2


def test_fusing_again_changes_nothing():
    for name in ("softmax", "computed_twice", "rotary"):
        module = case_module(FUSED[name].case, "f32")
        fuse(module)
        fused = regions(module)
        fuse(module)
        assert regions(module) == fused


def test_dead_ops_are_not_fused():
    module = case_module(Case("T[7]", lambda b, x: [b.map("exp", x), b.map("neg", x)][1]), "f32")
    fuse(module)
    assert regions(module) == [["neg"]]


def test_a_value_that_a_library_reads_is_written_once_and_kept():
    """The product needs the exponentials in memory; the sum over them is in the same kernel."""
    module = case_module(Case("T[5, 6] T[6, 2]", lambda b, x, w: [
        b.matmul(e := b.map("exp", x), w), b.reduce("sum", e, [1])]), "f32")
    fuse(module)
    assert regions(module) == [["exp", "sum"]]
    assert result_ops(module)[0] == "fused" and "matmul" in result_ops(module)


def test_a_repeated_value_is_not_written():
    """After the square is computed in both kernels, nothing of its size remains a result."""
    module = case_module(FUSED["computed_twice"].case, "f32")
    context = fuse(module)
    results = [tw.tensor_type(r).shape for op in module.walk() if isinstance(op, tw.FusedOp) for r in op.outputs]
    assert results == [(1, 700), (100, 1)]
    assert any(r.kind == "applied" and "each kernel that reads it" in r.message for r in context.remarks)


def test_a_value_is_read_from_memory_where_computing_it_again_reads_more():
    """A sum of two large tensors: reading it is cheaper than reading both again."""
    def build(b, x, y):
        total = b.map("add", x, y)
        return [b.reduce("max", total, [0]), b.reduce("max", b.map("neg", total), [1])]

    module = case_module(Case("T[100, 700] T[100, 700]", build), "f32")
    fuse(module)
    assert sorted(op for region in regions(module) for op in region) == ["add", "max", "max", "neg"]


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_keep_their_bits(seed):
    made = random_module(seed)
    before = made.module
    after = before.clone()
    fuse(after)
    inputs = made.inputs()
    assert_same_bits(run(before, inputs), run(after, inputs))
