"""A softmax divides once a row; what is no softmax keeps its divisions."""

from __future__ import annotations

import pytest
import torch
from batched import run_passes

import tilewright
from tilewright.ir.interpreter import run
from tilewright.ir.numerics import compare
from tilewright.ir.text import parse_ir

SOFTMAX = """
func.func @forward(%x: !tw.tensor<[N, 33], D>) -> !tw.tensor<[N, 33], D> {
  %m = tw.reduce "max" %x {dims = #tw.dims<[MAX]>} : !tw.tensor<[N, 33], D> -> !tw.tensor<[M, O], D>
  %s = tw.map "sub" %x, %m : (!tw.tensor<[N, 33], D>, !tw.tensor<[M, O], D>) -> !tw.tensor<[N, 33], D>
  %e = tw.map "exp" %s : (!tw.tensor<[N, 33], D>) -> !tw.tensor<[N, 33], D>
  %t = tw.reduce "sum" %e {dims = #tw.dims<[1]>} : !tw.tensor<[N, 33], D> -> !tw.tensor<[N, 1], D>
  %y = tw.map "div" %e, %t : (!tw.tensor<[N, 33], D>, !tw.tensor<[N, 1], D>) -> !tw.tensor<[N, 33], D>
  tw.return %y : !tw.tensor<[N, 33], D>
}
"""


def module_of(rows: int, dtype: str, maximum: int = 1):
    shape = {"M": rows, "O": 1} if maximum == 1 else {"M": 1, "O": 33}
    text = SOFTMAX.replace("[MAX]", f"[{maximum}]").replace(", D>", f", {dtype}>").replace("[N,", f"[{rows},")
    return parse_ir(text.replace("[M, O]", f"[{shape['M']}, {shape['O']}]"))


@pytest.mark.parametrize("rows", [0, 1, 7])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_one_division_a_row(rows, dtype):
    module = module_of(rows, dtype)
    x = torch.randn(rows, 33, generator=torch.Generator().manual_seed(0)).double() * 30
    if rows == 7:
        x[1, 3], x[2, 4], x[3], x[4, :5], x[5] = torch.nan, torch.inf, -torch.inf, -torch.inf, 3e38
    x = x.to({"f32": torch.float32, "f64": torch.float64}[dtype])
    [before] = run(module, [x])
    assert run_passes(module, "softmax-division").statistics["softmax-division"] == {"changed": 1}
    [after] = run(module, [x])
    torch.testing.assert_close(after, before, rtol=4e-7 if dtype == "f32" else 8e-16, atol=0, equal_nan=True)


@pytest.mark.parametrize(("dtype", "maximum"), [("bf16", 1), ("f32", 0)])
def test_halves_and_other_sums_are_left_alone(dtype, maximum):
    module = module_of(7, dtype, maximum)
    assert run_passes(module, "softmax-division").statistics["softmax-division"] == {"changed": 0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_model_with_softmax_is_as_right_as_eager(dtype):
    x = (torch.randn(37, 1000, generator=torch.Generator().manual_seed(1)) * 5).to(dtype)
    made = tilewright.compile(lambda x: torch.softmax(x, -1), (x,))
    assert " / " not in made.compilation.sources[0].split("k0")[-1]
    assert compare(made(x), torch.softmax(x, -1), torch.softmax(x.double(), -1), "widens") is None
