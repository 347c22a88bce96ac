"""Costs of small programs, counted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from tilewright.ir import tile, tw
from tilewright.ir.cost import (
    Cost,
    count_ops,
    kernel_cost,
    module_cost,
    module_seconds,
    op_cost,
    peak_bytes,
    predicted_seconds,
)
from tilewright.ir.scalars import SCALARS
from tilewright.ir.stages import functions, kernels
from tilewright.ir.target import host_cpu
from tilewright.ir.text import parse_ir

DATA = Path(__file__).parents[1] / "data"
EXP = SCALARS["exp"].cost


def tw_module(arguments: str, body: str, result: str) -> ModuleOp:
    return parse_ir(f"func.func @forward({arguments}) -> {result} {{\n{body}\n}}")


def body_ops(module: ModuleOp) -> list[Operation]:
    return list(next(functions(module)).body.block.ops)


def cost_of(arguments: str, body: str, **sizes: int) -> Cost:
    module = tw_module(arguments, body + "\n  tw.return", "()")
    return op_cost(body_ops(module)[-2], sizes)


X = "%x: !tw.tensor<[10, 4], f32>"
T = "!tw.tensor<[10, 4], f32>"


@pytest.mark.parametrize(
    ("arguments", "body", "expected"),
    [
        # An operand that is used twice is read once.
        (X, f'%a = tw.map "mul" %x, %x : ({T}, {T}) -> {T}', Cost(40, 160, 160, 1)),
        (X, f'%a = tw.map "exp" %x : ({T}) -> {T}', Cost(40 * EXP, 160, 160, 1)),
        (
            f"{X}, %b: !tw.tensor<[4], f32>",
            f'%a = tw.map "add" %x, %b : ({T}, !tw.tensor<[4], f32>) -> {T}',
            Cost(40, 176, 160, 1),
        ),
        (
            X,
            f'%a = tw.reduce "sum" %x {{dims = #tw.dims<[1]>}} : {T} -> !tw.tensor<[10, 1], f32>',
            Cost(40, 160, 40, 1),
        ),
        (X, f'%a = tw.scan "sum" %x {{dim = #tw.dims<[1]>}} : {T} -> {T}', Cost(40, 160, 160, 1)),
        (X, f"%a = tw.reshape %x : {T} -> !tw.tensor<[40], f32>", Cost()),
        (X, f"%a = tw.permute %x {{dims = #tw.dims<[1, 0]>}} : {T} -> !tw.tensor<[4, 10], f32>", Cost()),
        ("", "%a = tw.constant {value = #tw.scalar<1.0>} : !tw.tensor<[100], f32>", Cost()),
        # Only the gathered rows of a large table are read.
        (
            "%t: !tw.tensor<[1000, 4], f32>, %i: !tw.tensor<[3], i64>",
            "%a = tw.gather %t at %i {dims = #tw.dims<[0]>, wrap = #tw.scalar<true>} : !tw.tensor<[1000, 4], f32>, "
            "!tw.tensor<[3], i64> -> !tw.tensor<[3, 4], f32>",
            Cost(0, 48 + 24, 48, 1),
        ),
        (
            "%a: !tw.tensor<[2, 5, 7], bf16>, %b: !tw.tensor<[2, 7, 3], bf16>",
            "%c = tw.matmul %a, %b : (!tw.tensor<[2, 5, 7], bf16>, !tw.tensor<[2, 7, 3], bf16>) -> "
            "!tw.tensor<[2, 5, 3], bf16>",
            Cost(2 * 2 * 5 * 7 * 3, 2 * (70 + 42), 60, 1),
        ),
        (
            "%a: !tw.tensor<[5, 7], f32>, %b: !tw.tensor<[7, 3], f32>, %c: !tw.tensor<[3], f32>",
            "%d = tw.matmul %a, %b, %c : (!tw.tensor<[5, 7], f32>, !tw.tensor<[7, 3], f32>, !tw.tensor<[3], f32>) -> "
            "!tw.tensor<[5, 3], f32>",
            Cost(2 * 5 * 7 * 3 + 15, 4 * (35 + 21 + 3), 60, 1),
        ),
        (
            "%x: !tw.tensor<[1, 4, 8, 8], f32>, %w: !tw.tensor<[6, 2, 3, 3], f32>",
            "%c = tw.conv %x, %w {dilation = #tw.dims<[1, 1]>, groups = #tw.dims<[2]>, output_padding = "
            "#tw.dims<[0, 0]>, padding = #tw.dims<[0, 0]>, stride = #tw.dims<[1, 1]>, strides = "
            "#tw.dims<[216, 36, 6, 1]>, transposed = #tw.scalar<false>} : (!tw.tensor<[1, 4, 8, 8], f32>, "
            "!tw.tensor<[6, 2, 3, 3], f32>) -> !tw.tensor<[1, 6, 6, 6], f32>",
            Cost(2 * 216 * 18, 4 * (256 + 108), 4 * 216, 1),
        ),
        (
            "%q: !tw.tensor<[2, 5, 8], f32>, %k: !tw.tensor<[2, 6, 8], f32>, %v: !tw.tensor<[2, 6, 4], f32>",
            "%a = tw.attention %q, %k, %v {causal = #tw.scalar<false>, strides = #tw.dims<[20, 4, 1]>} : "
            "(!tw.tensor<[2, 5, 8], f32>, !tw.tensor<[2, 6, 8], f32>, !tw.tensor<[2, 6, 4], f32>) -> "
            "!tw.tensor<[2, 5, 4], f32>",
            Cost(2 * 5 * 6 * (16 + 8 + 4 + EXP), 4 * (80 + 96 + 48), 4 * 40, 1),
        ),
        (
            X,
            f"%a, %b = tw.aten \"aten.sort.default\" %x {{arguments = \"(['%0'], {{}})\", reason = \"no rule\", "
            f"strides = [#tw.dims<[4, 1]>, #tw.dims<[4, 1]>]}} : ({T}) -> ({T}, !tw.tensor<[10, 4], i64>)",
            Cost(0, 160, 160 + 320, 1),
        ),
    ],
)
def test_ops(arguments, body, expected):
    assert cost_of(arguments, body) == expected


def test_symbols_count_with_the_sizes_given():
    arguments, body = "%x: !tw.tensor<[s0, 4], f32>", (
        '%a = tw.map "neg" %x : (!tw.tensor<[s0, 4], f32>) -> !tw.tensor<[s0, 4], f32>'
    )
    assert cost_of(arguments, body, s0=10) == Cost(40, 160, 160, 1)
    assert cost_of(arguments, body) == Cost(256, 1024, 1024, 1)


SOFTMAX = """
  %m = tw.reduce "max" %x {dims = #tw.dims<[1]>} : !tw.tensor<[10, 4], f32> -> !tw.tensor<[10, 1], f32>
  %d = tw.map "sub" %x, %m : (!tw.tensor<[10, 4], f32>, !tw.tensor<[10, 1], f32>) -> !tw.tensor<[10, 4], f32>
  %e = tw.map "exp" %d : (!tw.tensor<[10, 4], f32>) -> !tw.tensor<[10, 4], f32>
"""


def test_a_region_moves_only_what_crosses_its_border():
    region = f"%f = tw.fused {{kind = \"loop\", numerics = \"widens\"}} : {T} {{{SOFTMAX}  tw.yield %e : {T}\n}}"
    apart = module_cost(tw_module(X, f"{SOFTMAX}  tw.return %e : {T}", T))
    assert cost_of(X, region) == Cost(40 + 40 + 40 * EXP, 160, 160, 1)
    assert apart == Cost(80 + 40 * EXP, 160 + 200 + 160, 40 + 160 + 160, 3)


def test_a_region_reads_of_a_sliced_input_what_it_slices():
    def half(name: str, start: int) -> str:
        return (
            f"%{name} = tw.slice %x {{starts = #tw.dims<[0, {start}]>, steps = #tw.dims<[1, 1]>}} : {T} -> "
            "!tw.tensor<[10, 1], f32>\n"
        )

    y = "!tw.tensor<[10, 1], f32>"
    region = (
        f'%f = tw.fused {{kind = "loop", numerics = "exact"}} : {y} {{\n{half("a", 0)}{half("b", 2)}'
        f'%c = tw.map "add" %a, %b : ({y}, {y}) -> {y}\n tw.yield %c : {y}\n}}'
    )
    assert cost_of(X, region) == Cost(10, 80, 40, 1)


def kernel(body: str) -> tile.KernelOp:
    text = (
        'tile.kernel @k(%x: !tile.ref<f32>, %i: !tile.ref<i64>, %y: !tile.ref<bf16>) {kind = "loop", '
        f'outputs = #tw.dims<[2]>, sizes = ["s0"]}} {{\n{body}\n}}'
    )
    return kernels(parse_ir(text))["k"]


def test_passes_over_one_row_count_once():
    body = """
    tile.for i0 in [s0] parallel {
      %m = tile.for i1 in [1000] vector reduce ["max"] : f32 {
        %a = tile.load %x["1000*i0 + i1"] : f32
        tile.yield %a
      }
      tile.for i2 in [1000] vector {
        %b = tile.load %x["1000*i0 + i2"] : f32
        %c = tile.map "sub" %b, %m : f32
        tile.store %y["1000*i0 + i2"], %c
      }
    }"""
    assert kernel_cost(kernel(body), {"s0": 3}) == Cost(3 * 2000, 3 * 4000, 3 * 2000, 1)


def test_a_value_per_column_is_read_once_and_scratch_never():
    body = """
    tile.for i0 in [s0] parallel {
      %t = tile.alloc [1000] : f32
      tile.for i1 in [1000] vector {
        %a = tile.load %x[i1] : f32
        tile.store %t[i1], %a
        %b = tile.load %t[i1] : f32
        tile.store %y["1000*i0 + i1"], %b
      }
    }"""
    assert kernel_cost(kernel(body), {"s0": 3}) == Cost(0, 4000, 6000, 1)


def test_a_gathered_row_is_read_at_each_computed_position():
    body = """
    tile.for i0 in [s0] parallel {
      %p = tile.load %i[i0] : i64
      tile.index j0 = %p in [30522]
      tile.for i1 in [8] vector {
        %a = tile.load %x["8*j0 + i1"] : f32
        tile.store %y["8*i0 + i1"], %a
      }
    }"""
    assert kernel_cost(kernel(body), {"s0": 3}) == Cost(0, 3 * 8 + 3 * 8 * 4, 3 * 8 * 2, 1)


def test_a_program_is_its_launches_and_library_calls():
    module = parse_ir((DATA / "prog.mlir").read_text())
    launch = kernel_cost(kernels(module)["softmax"], {"s0": 6})
    product = Cost(2 * 6 * 1000 * 6, 4 * 2 * 6000, 4 * 36, 1)
    assert module_cost(module, {"s0": 6}) == launch + product
    # The arena counts whole, the output beside it, the alloc that nothing touches not at all.
    assert peak_bytes(module, {"s0": 6}) == 4000 * 6 + 4 * 36


@pytest.mark.parametrize(
    ("target", "types", "arguments", "result", "expected"),
    [
        ("aten.copy_.default", ["[4], [1]", "[4], [1]"], "(['%0', '%1'], {})", None, Cost(0, 16, 16, 1)),
        (
            "aten.addmm.out", ["[3], [1]", "[2, 5], [5, 1]", "[5, 3], [3, 1]", "[2, 3], [3, 1]"],
            "(['%0', '%1', '%2'], {'out': '%3'})", None, Cost(2 * 2 * 5 * 3, 4 * (3 + 10 + 15), 24, 1),
        ),
        (
            "aten.convolution.default", ["[1, 4, 8], [32, 8, 1]", "[6, 4, 3], [12, 3, 1]"],
            "(['%0', '%1', None, [1], [0], [1], False, [0], 1], {})", "[1, 6, 6], [36, 6, 1]",
            Cost(2 * 36 * 12, 4 * (32 + 72), 4 * 36, 1),
        ),
        (
            "aten.scaled_dot_product_attention.default", ["[5, 8], [8, 1]", "[6, 8], [8, 1]", "[6, 4], [4, 1]"],
            "(['%0', '%1', '%2'], {'scale': None})", "[5, 4], [4, 1]",
            Cost(5 * 6 * (16 + 8 + 4 + EXP), 4 * (40 + 48 + 24), 80, 1),
        ),
        ("aten.sort.default", ["[4], [1]"], "(['%0'], {})", "[4], [1]", Cost(0, 16, 16, 1)),
    ],
)
def test_library_calls(target, types, arguments, result, expected):
    buffers = [f"!prog.buffer<{type}, f32>" for type in types]
    names = [f"%a{i}" for i in range(len(types))]
    given = f"!prog.buffer<{result}, f32>" if result else "()"
    module = parse_ir(
        f"func.func @forward({', '.join(f'{n}: {b}' for n, b in zip(names, buffers))}) {{\n"
        f'{"%r = " if result else ""}prog.extern "{target}" {", ".join(names)} {{arguments = "{arguments}"}} : '
        f"({', '.join(buffers)}) -> {given}\n prog.return\n}}"
    )
    assert op_cost(body_ops(module)[0]) == expected


def test_peak_is_what_is_alive_at_once():
    y = "!tw.tensor<[10, 4], f32>"
    body = f"""
  %a = tw.map "neg" %x : ({y}) -> {y}
  %b = tw.map "neg" %a : ({y}) -> {y}
  %v = tw.reshape %b : {y} -> !tw.tensor<[40], f32>
  %c = tw.constant {{value = #tw.scalar<1.0>}} : {y}
  %d = tw.map "add" %x, %c : ({y}, {y}) -> {y}
  %e = tw.map "neg" %v : (!tw.tensor<[40], f32>) -> !tw.tensor<[40], f32>
  tw.return %d : {y}"""
    # a and b; then b (through its view), d and e: the constant takes nothing, x is the caller's.
    assert peak_bytes(tw_module(X, body, y)) == 3 * 160
    assert peak_bytes(tw_module(X, f"tw.return %x : {y}", y)) == 0


def test_op_counts_leave_out_what_only_holds_others():
    assert count_ops(tw_module(X, f"{SOFTMAX}  tw.return %e : {T}", T)) == 3
    assert count_ops(parse_ir((DATA / "tw.mlir").read_text())) == 22


def test_every_op_of_a_module_has_a_cost():
    for name in ("tw", "prog"):
        for op in body_ops(parse_ir((DATA / f"{name}.mlir").read_text())):
            assert op_cost(op).bytes_moved >= 0
    with pytest.raises(TypeError, match="has no cost"):
        op_cost(parse_ir("builtin.module {}"))


def test_the_roofline_takes_the_slower_side_and_the_launches():
    target = replace(
        host_cpu(), peak_flops=1e9, bandwidth=1e9, cache_bandwidth=1e10, l2_bytes=1000, launch_seconds=1e-6
    )
    assert predicted_seconds(Cost(10**9, 0, 0, 0), target) == pytest.approx(1.0)
    assert predicted_seconds(Cost(0, 10**9, 10**9, 2), target) == pytest.approx(2.0 + 2e-6)
    assert predicted_seconds(Cost(0, 500, 500, 0), target) == pytest.approx(1e-7)
    module = tw_module(X, f"{SOFTMAX}  tw.return %e : {T}", T)
    ops = [op for op in body_ops(module) if not isinstance(op, tw.ReturnOp)]
    assert module_seconds(module, target) == pytest.approx(sum(predicted_seconds(op_cost(o), target) for o in ops))
