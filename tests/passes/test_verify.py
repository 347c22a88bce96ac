"""Numeric verification: right changes pass, wrong ones are caught and named, unpredictable results are left out."""

import pytest
import torch

from tilewright.ir.errors import InterpreterError, NumericMismatchError
from tilewright.ir.text import parse_ir
from tilewright.passes.verify import NumericVerifier

T = "!tw.tensor<[s0, 8], f32>"
R = "!tw.tensor<[s0, 1], f32>"


def softmax(divide: str = "%e, %s", subtract: str = "%x, %m"):
    """exp(x - max) / sum, with operands that a test can spoil."""
    return parse_ir(f"""
builtin.module {{
  func.func @forward(%x: {T}) -> ({T}, {R}) {{
    %m = tw.reduce "max" %x {{dims = #tw.dims<[1]>}} : {T} -> {R}
    %d = tw.map "sub" {subtract} : ({T}, {R}) -> {T}
    %e = tw.map "exp" %d : ({T}) -> {T}
    %s = tw.reduce "sum" %e {{dims = #tw.dims<[1]>}} : {T} -> {R}
    %f = tw.map "div" {divide} : ({T}, {R}) -> {T} loc("model.py":12:0)
    tw.return %f, %m : {T}, {R}
  }}
}}""")


def quotient(how: str):
    """e / s, from %e, %s and %r, the reciprocal of %s."""
    return parse_ir(f"""
builtin.module {{
  func.func @forward(%e: {T}, %s: {R}) -> {T} {{
    %r = tw.map "reciprocal" %s : ({R}) -> {R}
    %f = tw.map {how} : ({T}, {R}) -> {T}
    tw.return %f : {T}
  }}
}}""")


def x(rows: int = 5) -> torch.Tensor:
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(3))


def test_a_module_that_did_not_change_passes_in_every_class():
    module = softmax()
    verifier = NumericVerifier([x()], module)
    for numerics in ("exact", "widens", "reassociates", "approximate"):
        verifier.check(module, "cse", numerics)
    assert verifier.skipped == []


def test_a_wrong_rewrite_is_caught_with_the_pass_the_result_and_the_line():
    verifier = NumericVerifier([x()], softmax())
    wrong = softmax(divide="%e, %m")
    with pytest.raises(NumericMismatchError, match=r"^simplify\{x=1\}.*\n  result 0 \(model.py:12\): .*error"):
        verifier.check(wrong, "simplify{x=1}", "reassociates")


def test_a_change_in_the_last_bit_fails_exact_and_passes_reassociates():
    """e * (1 / s) is e / s with another rounding."""
    before, after = quotient('"div" %e, %s'), quotient('"mul" %e, %r')
    inputs = [x(), x()[:, :1].abs() + 0.1]
    NumericVerifier(inputs, before).check(after, "simplify", "reassociates")
    with pytest.raises(NumericMismatchError, match="simplify claims to be 'exact'"):
        NumericVerifier(inputs, before).check(after, "simplify", "exact")


def test_each_stage_is_compared_with_the_one_before():
    """After a stage in a loose class an exact one keeps the bits of that stage, not those of the import."""
    before, after = quotient('"div" %e, %s'), quotient('"mul" %e, %r')
    verifier = NumericVerifier([x(), x()[:, :1].abs() + 0.1], before)
    verifier.check(after, "simplify", "reassociates")
    verifier.check(after, "dce", "exact")


def test_the_original_is_kept_when_the_module_changes_in_place():
    module = softmax()
    verifier = NumericVerifier([x()], module)
    [function] = module.ops
    division = next(op for op in function.walk() if op.properties.get("fn") and op.properties["fn"].data == "div")
    maximum = next(op for op in function.walk() if op.name == "tw.reduce")
    division.operands[1] = maximum.results[0]
    with pytest.raises(NumericMismatchError, match="broken-pass"):
        verifier.check(module, "broken-pass", "widens")


def test_a_result_that_was_lost_is_caught():
    one = parse_ir(f"builtin.module {{ func.func @forward(%x: {T}) -> {T} {{ tw.return %x : {T} }} }}")
    with pytest.raises(NumericMismatchError, match="dce: 1 results instead of 2"):
        NumericVerifier([x()], softmax()).check(one, "dce", "exact")


def test_the_compiled_program_is_a_stage():
    verifier = NumericVerifier([x()], softmax())
    verifier.check_callable(lambda inputs: [inputs[0].softmax(-1), inputs[0].amax(1, keepdim=True)], "emit")
    with pytest.raises(NumericMismatchError, match=r"emit.*\n  result 0"):
        verifier.check_callable(lambda inputs: [inputs[0].softmax(0), inputs[0].amax(1, keepdim=True)], "emit")


def test_the_import_is_a_stage():
    """The model's own results are compared with the imported module's."""
    outputs = [x().softmax(-1), x().amax(1, keepdim=True)]
    NumericVerifier([x()], softmax()).check_reference(outputs)
    with pytest.raises(NumericMismatchError, match=r"import.*\n  result 0"):
        NumericVerifier([x()], softmax(divide="%e, %m")).check_reference(outputs)


def test_inputs_are_made_when_none_are_given():
    verifier = NumericVerifier(None, softmax())
    assert verifier.inputs[0].shape == (16, 8)
    with pytest.raises(NumericMismatchError):
        verifier.check(softmax(divide="%e, %m"), "simplify", "reassociates")


def opaque(target: str, arguments: str):
    """Result 0 follows from an opaque call through a fused region, result 1 does not."""
    return parse_ir(f"""
builtin.module {{
  func.func @forward(%x: {T}) -> ({T}, {T}) {{
    %a = tw.aten "{target}" %x
      {{arguments = "{arguments}", strides = [#tw.dims<[8, 1]>], reason = "test"}} : ({T}) -> {T}
    %f = tw.fused {{kind = "loop", numerics = "exact"}} : {T} {{
      %n = tw.map "neg" %a : ({T}) -> {T}
      tw.yield %n : {T}
    }}
    %g = tw.map "neg" %x : ({T}) -> {T}
    tw.return %f, %g : {T}, {T}
  }}
}}""")


@pytest.mark.parametrize("target,arguments,reason", [
    ("aten.empty_like.default", "(['%0'], {})", "uninitialised memory"),
    ("aten.new_empty.default", "(['%0', ['size:s0', 8]], {})", "uninitialised memory"),
    ("aten.rand_like.default", "(['%0'], {})", "random numbers"),
    ("aten.bernoulli.p", "(['%0', 0.5], {})", "random numbers"),
])
def test_unpredictable_results_are_left_out_with_the_reason(target, arguments, reason):
    module = opaque(target, arguments)
    verifier = NumericVerifier([x()], module)
    assert [s.index for s in verifier.skipped] == [0]
    assert verifier.skipped[0].reason == f"{target} {'gives' if 'memory' in reason else 'draws'} {reason}"
    verifier.check(module, "cse", "exact")
    with pytest.raises(NumericMismatchError, match="result 1"):
        verifier.check_callable(lambda inputs: [inputs[0], inputs[0]], "emit")


@pytest.mark.parametrize("target,arguments", [
    ("aten.bernoulli.p", "(['%0', 0.0], {})"), ("aten.relu.default", "(['%0'], {})"),
])
def test_a_call_without_chance_is_compared(target, arguments):
    assert NumericVerifier([x()], opaque(target, arguments)).skipped == []


def test_inputs_that_the_model_cannot_take_are_an_error_that_says_so():
    module = parse_ir("""
builtin.module {
  func.func @forward(%x: !tw.tensor<[4], f32>, %i: !tw.tensor<[2], i64>) -> !tw.tensor<[2], f32> {
    %g = tw.gather %x at %i {dims = #tw.dims<[0]>, wrap = #tw.scalar<false>}
      : !tw.tensor<[4], f32>, !tw.tensor<[2], i64> -> !tw.tensor<[2], f32>
    tw.return %g : !tw.tensor<[2], f32>
  }
}""")
    with pytest.raises(InterpreterError, match="cannot be run on these inputs"):
        NumericVerifier([torch.zeros(4), torch.tensor([0, 4])], module)
