"""Faults put in on purpose, one into each part: `verify="numeric"` catches every one and says where it is."""

from __future__ import annotations

import pytest
import torch

import tilewright
from tilewright.codegen.cpp import functions
from tilewright.importer.table import RULES as IMPORT_RULES
from tilewright.ir import tile, tw
from tilewright.ir.errors import TilewrightError
from tilewright.ir.patterns import captures, const, mul
from tilewright.ir.rewrite import Rule, RuleSet
from tilewright.passes import fusion_regions, memory_plan, simplify
from tilewright.passes.lowering import region

aten = torch.ops.aten
X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
W = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))


def model(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every part takes part: algebra, a fused reduction, products with temporaries that live side by side."""
    scaled = x * 3.0
    a = torch.tanh(scaled) @ w
    b = torch.sigmoid(x) @ w
    return torch.softmax(a + b * a, -1), scaled + 1.0


def compile_ahead(verify: str = "numeric"):
    return tilewright.compile(model, (X, W), verify=verify)


def compile_just_in_time(verify: str = "numeric"):
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="tilewright", options={"verify": verify})
    with torch.no_grad():
        compiled(X, W)
    return compiled


ENTRIES = pytest.mark.parametrize("entry", [compile_ahead, compile_just_in_time])


def caught(entry, verify: str = "numeric") -> str:
    """What the compilation raises, with the notes that say where."""
    with pytest.raises(Exception) as info:
        entry(verify)
    error = getattr(info.value, "inner_exception", info.value)  # torch.compile wraps what a backend raises
    assert isinstance(error, TilewrightError), repr(error)
    return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])


@ENTRIES
def test_nothing_is_caught_where_nothing_is_wrong(entry):
    entry()
    torch.testing.assert_close(compile_ahead()(X, W), model(X, W))


@ENTRIES
def test_a_wrong_rule(entry, monkeypatch):
    x, y = captures("x y")
    wrong = Rule("x * y -> x", mul(x, y), lambda x: x)
    monkeypatch.setattr(simplify, "RULES", simplify.RULES + RuleSet(wrong))
    message = caught(entry)
    assert message.startswith("NumericMismatchError: simplify claims to be 'exact'")
    assert "'x * y -> x'" in message


@ENTRIES
def test_a_rule_that_is_not_as_exact_as_it_says(entry, monkeypatch):
    """The last bit: what a looser class would pass."""
    (x,) = captures("x")

    def scaled(build, x):
        return build.map("mul", build.map("mul", x, build.constant(0.3, "f32")), build.constant(10.0, "f32"))

    wrong = Rule("x * 3 -> x * 0.3 * 10", mul(x, const(3.0)), scaled)
    monkeypatch.setattr(simplify, "RULES", RuleSet(wrong))
    assert "simplify claims to be 'exact'" in caught(entry)


@ENTRIES
def test_a_wrong_import(entry, monkeypatch):
    monkeypatch.setitem(IMPORT_RULES, aten.add.Tensor, IMPORT_RULES[aten.sub.Tensor])
    assert caught(entry).startswith("NumericMismatchError: import claims")


@ENTRIES
def test_a_wrong_kernel(entry, monkeypatch):
    monkeypatch.setitem(functions.FUNCTIONS, "tanh", {"float": "tw::sin({a})"})
    assert caught(entry).startswith("NumericMismatchError: kernel emission claims")


@ENTRIES
def test_a_kernel_that_forgets_an_element(entry, monkeypatch):
    monkeypatch.setitem(functions.COMBINERS, "sum", functions.Combiner(
        {"float": "1", "int": "1"}, functions.COMBINERS["sum"].update, functions.COMBINERS["sum"].clause))
    assert "kernel emission" in caught(entry)


@ENTRIES
def test_a_wrong_memory_plan(entry, monkeypatch):
    """All temporaries at one place, though some are alive together."""
    place = memory_plan.place

    def at_zero(lifetimes):
        offsets, total = place(lifetimes)
        return dict.fromkeys(offsets, 0), total

    monkeypatch.setattr(memory_plan, "place", at_zero)
    message = caught(entry)
    assert "plan-memory" in message and "prog." in message


@ENTRIES
def test_lifetimes_that_end_too_early(entry, monkeypatch):
    find = memory_plan.find_lifetimes

    def short(function):
        return [memory_plan.Lifetime(x.op, x.size, x.first, x.first) for x in find(function)]

    monkeypatch.setattr(memory_plan, "find_lifetimes", short)
    assert "plan-memory" in caught(entry)


@ENTRIES
def test_a_wrong_fusion(entry, monkeypatch):
    """Regions that yield another value of the same type."""
    make = fusion_regions.RegionBuilder.region

    def wrong(self, ops, values):
        fused = make(self, ops, values)
        first = next((o for o in fused.body.block.ops if isinstance(o, tw.MapOp)), None)
        if first is not None and first.result.type == fused.outputs[0].type:
            fused.terminator.operands[0] = first.result
        return fused

    monkeypatch.setattr(fusion_regions.RegionBuilder, "region", wrong)
    assert caught(entry).startswith("NumericMismatchError: fuse claims")


@ENTRIES
def test_a_wrong_lowering(entry, monkeypatch):
    """Elements stored one place further, as far as there is room."""
    offset = region.RegionEmitter.output_offset

    def shifted(self, position):
        right = offset(self, position)
        return right if isinstance(right, int) else (right + 1) % 48

    monkeypatch.setattr(region.RegionEmitter, "output_offset", shifted)
    assert "lower" in caught(entry)


@ENTRIES
def test_a_pass_that_leaves_illegal_ir(entry, monkeypatch):
    """Also without numbers: the verifier of the stage names the pass and the op."""
    def run(self, module, context):
        for op in module.walk():
            if isinstance(op, tw.MapOp):
                op.fn = type(op.fn)("no_such_function")

    monkeypatch.setattr(simplify.Simplify, "run", run)
    for verify in ("numeric", "ir"):
        message = caught(entry, verify)
        assert message.startswith("PassError") and "simplify" in message and "no_such_function" in message


@ENTRIES
def test_a_kernel_that_reads_beyond_its_input(entry, monkeypatch):
    """The interpreter of kernels knows where a tensor ends; nothing is run that does not."""
    make = tile.LoadOp.make

    def beyond(ref, offset, dtype, mask=(), other=0):
        return make(ref, offset + 1 if not isinstance(offset, int) else offset, dtype, mask, other)

    monkeypatch.setattr(tile.LoadOp, "make", staticmethod(beyond))
    message = caught(entry)
    assert "lower" in message and "outside" in message
