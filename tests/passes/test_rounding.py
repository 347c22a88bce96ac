"""Kernels round the halves on which decisions hang: what follows is what memory's elements would have decided."""

from __future__ import annotations

import pytest
import torch
from batched import run_passes

from tilewright.ir import tile
from tilewright.ir.interpreter import run
from tilewright.ir.text import parse_ir

HALVES = {"bf16": torch.bfloat16, "f16": torch.float16}
STEPS = {
    "floor": 'tw.map "floor" %y', "round": 'tw.map "round" %y', "sign": 'tw.map "sign" %y',
    "remainder": 'tw.map "remainder" %y, %one', "view": 'tw.map "floor" %v', "chosen": 'tw.map "trunc" %a',
}
TEXT = """
func.func @forward(%x: {T}) -> ({T}, {T}) {{
  %ten = tw.constant {{value = #tw.scalar<10.0>}} : !tw.tensor<[], {D}>
  %one = tw.constant {{value = #tw.scalar<1.0>}} : !tw.tensor<[], {D}>
  %y = tw.map "mul" %x, %ten : ({T}, !tw.tensor<[], {D}>) -> {T}
  %v = tw.permute %y {{dims = #tw.dims<[1, 0]>}} : {T} -> {T}
  %a = tw.map "abs" %y : ({T}) -> {T}
  %s = {step} : ({operands}) -> {T}
  %d = tw.map "sub" %y, %s : ({T}, {T}) -> {T}
  tw.return %s, %d : {T}, {T}
}}
"""


def module_of(step: str, dtype: str):
    T = f"!tw.tensor<[64, 64], {dtype}>"
    operands = f"{T}, !tw.tensor<[], {dtype}>" if "%one" in step else T
    return parse_ir(TEXT.format(T=T, D=dtype, step=step, operands=operands))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("step", STEPS)
def test_steps_and_what_is_computed_with_them_see_one_value(step, dtype):
    module = module_of(STEPS[step], dtype)
    x = torch.linspace(-20, 20, 64 * 64).reshape(64, 64).to(HALVES[dtype])
    expected = run(module, [x])
    run_passes(module, "fuse,lower")
    assert sum(isinstance(op, tile.KernelOp) for op in module.walk()) == 1
    for actual, wanted in zip(run(module, [x]), expected):
        torch.testing.assert_close(actual, wanted, rtol=0, atol=0)


def test_what_decides_nothing_is_not_rounded():
    module = module_of('tw.map "exp" %y', "bf16")
    run_passes(module, "fuse,lower")
    assert not any(isinstance(op, tile.MapOp) and op.fn.data == "cast" for op in module.walk())


def test_all_that_a_maximum_of_halves_is_computed_from_is_rounded():
    """The backward looks for it among elements that it computes again from what was stored."""
    module = parse_ir("""
func.func @forward(%x: !tw.tensor<[64], bf16>) -> !tw.tensor<[1], bf16> {
  %s = tw.map "sin" %x : (!tw.tensor<[64], bf16>) -> !tw.tensor<[64], bf16>
  %t = tw.reduce "sum" %s {dims = #tw.dims<[0]>} : !tw.tensor<[64], bf16> -> !tw.tensor<[1], bf16>
  %d = tw.map "sub" %t, %s : (!tw.tensor<[1], bf16>, !tw.tensor<[64], bf16>) -> !tw.tensor<[64], bf16>
  %m = tw.reduce "max" %d {dims = #tw.dims<[0]>} : !tw.tensor<[64], bf16> -> !tw.tensor<[1], bf16>
  tw.return %m : !tw.tensor<[1], bf16>
}
""")
    for seed in range(20):
        x = torch.randn(64, generator=torch.Generator().manual_seed(seed)).bfloat16()
        lowered = module.clone()
        [expected] = run(module, [x])
        run_passes(lowered, "fuse,lower")
        assert sum(isinstance(op, tile.KernelOp) for op in lowered.walk()) == 1
        torch.testing.assert_close(run(lowered, [x])[0], expected, rtol=0, atol=0)
