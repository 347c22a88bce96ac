"""What is illegal at a stage is refused, with the op and its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from tilewright.ir import tw
from tilewright.ir.errors import VerifyError
from tilewright.ir.stages import functions, kernels, stage_of, verify_ir, verify_stage
from tilewright.ir.text import parse_ir

DATA = Path(__file__).parents[1] / "data"
TEXTS = {"fused": (DATA / "tw.mlir").read_text(), "prog": (DATA / "prog.mlir").read_text()}
TEXTS["tw"] = "\n".join(
    line.replace("tw.return %f", "tw.return %u")
    for number, line in enumerate(TEXTS["fused"].splitlines())
    if not 22 <= number <= 25  # the fused region
)


def body(module: ModuleOp) -> list[Operation]:
    return list(next(functions(module)).body.block.ops)


@pytest.mark.parametrize("stage", TEXTS)
def test_legal_modules_pass_and_tell_their_stage(stage):
    module = parse_ir(TEXTS[stage])
    assert stage_of(module) == stage
    verify_stage(module, stage)


def test_what_is_legal_before_fusion_is_legal_after_it():
    verify_stage(parse_ir(TEXTS["tw"]), "fused")


@pytest.mark.parametrize(
    ("text", "stage", "message"),
    [
        ("fused", "tw", r"tw\.fused: not legal in a function at stage 'tw'"),
        ("tw", "prog", r"tw\.constant: not legal in a function at stage 'prog'"),
        ("prog", "tw", r"tile\.kernel: not legal in a module at stage 'tw'"),
    ],
)
def test_ops_of_another_stage(text, stage, message):
    with pytest.raises(VerifyError, match=message):
        verify_stage(parse_ir(TEXTS[text]), stage)


@pytest.mark.parametrize(
    ("stage", "old", "new", "message"),
    [
        ("fused", "s1 = #tw.dims<[3]>", "s1 = #tw.dims<[2]>", "s1: argument 2 is not an index"),
        ("fused", "s1 = #tw.dims<[3]>", "s2 = #tw.dims<[3]>", r"tw\.iota: s1 in s1 is not among"),
        ("fused", "s0 = #tw.dims<[0, 0]>", "s0 = #tw.dims<[0, 1]>", "s0: dim 1 of argument 0 is 8"),
        ("fused", "s0 = #tw.dims<[0, 0]>", "s0 = #tw.dims<[0, 2]>", "s0: argument 0 has no dim 2"),
        ("fused", "s0 = #tw.dims<[0, 0]>", "s0 = #tw.dims<[9, 0]>", "s0: there is no argument 9"),
        ("fused", "s0 = #tw.dims<[0, 0]>", "s0 = #tw.dims<[0, 0, 0]>", "s0 must be an argument"),
        ("fused", "s0 = #tw.dims<[0, 0]>", "s0 = #tw.dims<[0, 0, 2, 1]>", "s0: dim 0 of argument 0 is s0"),
        ("fused", "s0 = #tw.dims<[0, 0]>", "s0 = #tw.dims<[0, 0, 0, 1]>", "s0: the factor must be positive"),
        ("fused", "s0 = #tw.dims<[0, 0]>, ", "", r"func\.func.*: s0 in s0 is not among"),
        ("fused", "'size:s0'", "'size:u0'", r"tw\.aten: u0 in u0 is not among"),
        ("fused", "'%0', 'size:s0'", "'%1', 'size:s0'", "name operand 1 of 1"),
        ("fused", "'%0', 'size:s0'", "'%0', 'what:s0'", "unknown tag"),
        ("fused", '["tensor", "int", "none"]', '["tensor", "none"]', "gives 2 results, result_kinds has 1"),
        ("fused", '["tensor", "int", "none"]', '["tensor", "number"]', r"result_kinds has \['number'\]"),
        ("fused", "result_strides =", "result_owners = #tw.dims<[2, 3]>, result_strides =", "result_owners"),
        ("fused", "result_strides = [#tw.dims<[4, 1]>]", "result_strides = []", "0 entries for 1 values"),
        ("fused", "result_strides = [#tw.dims<[4, 1]>]", "result_strides = [#tw.dims<[1]>]", r"result_strides\[0\]"),
        ("fused", "arg_strides = [#tw.dims<[8, 1]>", "arg_strides = [#tw.dims<[8]>", r"arg_strides\[0\] is \[8\]"),
        ("fused", ", !tw.tensor<[], i64>) attributes", ") attributes", "gives 2 results, the function's type has 1"),
        ("fused", ", !tw.tensor<[], i64>) attributes", ", !tw.tensor<[], i32>) attributes", "result 1 is .*i64"),
        ("prog", "launch @softmax", "launch @hardmax", r"prog\.launch \(model.py:4\): there is no kernel @hardmax"),
        ("prog", "outputs = #tw.dims<[2]>", "outputs = #tw.dims<[1]>", "writes pointer 2, which outputs does not"),
        ("prog", "outputs = #tw.dims<[2]>", "outputs = #tw.dims<[3]>", r"outputs \[3\] are not all arguments"),
        ("prog", "%x: !tile.ref<bf16>", "%x: !tile.ref<f32>", "takes f32 as pointer 0, got bf16"),
        ("prog", ", %y: !tile.ref<f32>)", ", %y: !tile.ref<f32>, %n: !tile.ref<f32>)", "takes 4 pointers, got 3"),
        ("prog", 'sizes = ["s0"]', 'sizes = ["s0", "s7"]', "takes s7, not among"),
        ("prog", '["tensor"]', '["tensor", "int"]', "result_sizes has 0 entries for 1 ints"),
        ("prog", '{\'out\': \'%2\'}', '{\'out\': \'%3\'}', "name operand 3 of 3"),
    ],
)
def test_what_must_hold_between_ops(stage, old, new, message):
    assert old in TEXTS[stage]
    module = parse_ir(TEXTS[stage].replace(old, new))
    with pytest.raises(VerifyError, match=message):
        verify_stage(module, stage)


def test_a_program_gives_its_ints_as_an_attribute():
    text = TEXTS["prog"].replace('["tensor"]', '["int", "tensor"], result_sizes = #tw.dims<["2*s0"]>')
    verify_stage(parse_ir(text), "prog")
    with pytest.raises(VerifyError, match="s3 in s3 is not among"):
        verify_stage(parse_ir(text.replace('["2*s0"]', "[s3]")), "prog")


def test_a_value_must_be_defined_before_it_is_used():
    module = parse_ir(TEXTS["fused"])
    ops = body(module)
    source, user = next((op.operands[0].owner, op) for op in ops if isinstance(op, tw.ReduceOp))
    assert isinstance(source, Operation)
    source.detach()
    user.parent.insert_op_after(source, user)
    with pytest.raises(VerifyError, match="operand 0 is not defined before it") as caught:
        verify_ir(module)
    assert caught.value.op is user


def test_a_value_does_not_leave_its_region():
    module = parse_ir(TEXTS["fused"])
    fused = next(op for op in body(module) if isinstance(op, tw.FusedOp))
    body(module)[-1].operands[0] = fused.body.block.first_op.results[0]
    with pytest.raises(VerifyError, match=r"tw\.return: operand 0 is not defined"):
        verify_ir(module)


def test_an_op_that_breaks_its_own_rule_is_named_with_its_line():
    module = parse_ir(TEXTS["tw"])
    op = next(op for op in body(module) if isinstance(op, tw.MapOp))
    op.properties["fn"] = type(op.fn)("maximam")
    with pytest.raises(VerifyError) as caught:
        verify_ir(module)
    assert str(caught.value) == "tw.map (model.py:12): 'maximam' is not a scalar function"
    assert caught.value.op is op


def test_an_empty_function_is_refused():
    module = parse_ir(TEXTS["tw"])
    for op in reversed(body(module)):
        op.detach()
        op.erase(safe_erase=False)
    with pytest.raises(VerifyError, match="its block is empty"):
        verify_ir(module)


def test_a_declaration_is_refused():
    with pytest.raises(VerifyError, match="it has no body"):
        verify_ir(parse_ir("func.func private @forward(index)"))


def test_kernels_are_found_by_name():
    assert list(kernels(parse_ir(TEXTS["prog"]))) == ["softmax", "largest"]
