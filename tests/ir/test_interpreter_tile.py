"""Kernels written as text, run by the interpreter, against torch; and kernels with mistakes, which it must catch."""

import math

import pytest
import torch

from tilewright.ir.errors import InterpreterError
from tilewright.ir.interpreter import run, run_kernel
from tilewright.ir.interpreter import tile as tile_rules
from tilewright.ir.text import parse_ir
from tilewright.ir.tile import KernelOp


def kernel(pointers: str, body: str, outputs: str = "[1]", sizes: str = "") -> KernelOp:
    """`pointers`: "x f32, y f32"."""
    args = ", ".join(f"%{name}: !tile.ref<{dtype}>" for name, dtype in (p.split() for p in pointers.split(", ")))
    names = ", ".join(f'"{s}"' for s in sizes.split())
    module = parse_ir(
        f'builtin.module {{ tile.kernel @k({args}) {{kind = "loop", outputs = #tw.dims<{outputs}>, sizes = [{names}]}} '
        f"{{\n{body}\n}} }}"
    )
    [op] = module.ops
    assert isinstance(op, KernelOp)
    return op


SOFTMAX = """
  tile.for i0 in [s0] parallel {
    %t = tile.alloc [7] : f32
    %m = tile.for i1 in [7] vector reduce ["max"] : f32 {
      %a = tile.load %x["7*i0 + i1"] : f32
      tile.yield %a
    }
    %s = tile.for i1 in [7] vector reduce ["sum"] : f32 {
      %a = tile.load %x["7*i0 + i1"] : f32
      %d = tile.map "sub" %a, %m : f32
      %e = tile.map "exp" %d : f32
      tile.store %t[i1], %e
      tile.yield %e
    }
    tile.for i1 in [7] vector {
      %e = tile.load %t[i1] : f32
      %q = tile.map "div" %e, %s : f32
      tile.store %y["7*i0 + i1"], %q
    }
  }"""


@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_softmax_with_scratch_and_a_symbolic_size(rows, dtype):
    name = {torch.float32: "f32", torch.bfloat16: "bf16"}[dtype]
    x = torch.randn(rows, 7).to(dtype)
    y = torch.empty_like(x)
    run_kernel(kernel(f"x {name}, y {name}", SOFTMAX, sizes="s0"), [x, y], {"s0": rows})
    torch.testing.assert_close(y, x.softmax(-1))


def test_f64_precision_computes_in_float64():
    op = kernel("x f32, y f32", SOFTMAX, sizes="s0")
    x = torch.randn(3, 7)
    [y] = run(op.parent_op(), [x, torch.empty_like(x), 3], precision="f64", function="k")
    assert y.dtype == torch.float64
    torch.testing.assert_close(y, x.double().softmax(-1), rtol=1e-14, atol=1e-15)


def test_running_a_kernel_by_name_leaves_its_inputs():
    op = kernel("x f32, y f32", SOFTMAX, sizes="s0")
    x, y = torch.randn(2, 7), torch.zeros(2, 7)
    [result] = run(op.parent_op(), [x, y, 2], function="k")
    assert not y.any() and torch.equal(result.sum(-1).round(), torch.ones(2))


def test_chunks_give_the_same_as_all_points_at_once(monkeypatch):
    op = kernel("x f32, y f32", SOFTMAX, sizes="s0")
    x, whole, chunked = torch.randn(5, 7), torch.zeros(5, 7), torch.zeros(5, 7)
    run_kernel(op, [x, whole], {"s0": 5})
    monkeypatch.setattr(tile_rules, "_CHUNK_POINTS", 14)
    run_kernel(op, [x, chunked], {"s0": 5})
    assert torch.equal(whole, chunked)


def test_strided_and_offset_buffers():
    body = """
      tile.for i0 in [4] parallel {
        tile.for i1 in [3] vector {
          %a = tile.load %x["i0 + 8*i1"] : f32
          tile.store %y["3*i0 + i1"], %a
        }
      }"""
    base = torch.randn(3, 8)
    x, y = base[:, 2:6].t(), torch.zeros(4, 3)
    run_kernel(kernel("x f32, y f32", body), [x, y], {})
    assert torch.equal(y, x)


GATHER = """
  tile.for i0 in [3] parallel {
    %p = tile.load %i[i0] : i64
    tile.index j0 = %p in [5] wrap
    tile.for i1 in [4] vector {
      %a = tile.load %x["4*j0 + i1"] if ["i1 - 1"] else -2.0 : f32
      tile.store %y["4*i0 + i1"], %a
    }
  }"""


def test_gather_with_wrap_and_mask():
    op = kernel("x f32, y f32, i i64", GATHER)
    x, y = torch.randn(5, 4), torch.zeros(3, 4)
    run_kernel(op, [x, y, torch.tensor([4, 0, -2])], {})
    expected = x[[4, 0, 3]]
    expected[:, 0] = -2
    assert torch.equal(y, expected)


@pytest.mark.parametrize("position", [5, -6])
def test_a_gathered_position_out_of_range_is_an_index_error(position):
    op, positions = kernel("x f32, y f32, i i64", GATHER), torch.tensor([0, position, 0])
    with pytest.raises(IndexError, match="out of range for a dim of size 5"):
        run_kernel(op, [torch.zeros(5, 4), torch.zeros(3, 4), positions], {})


def test_a_masked_position_is_0_and_not_checked():
    body = """
      tile.for i0 in [3] parallel {
        %p = tile.load %i[i0] : i64
        tile.index j0 = %p in [2] if ["i0 - 1"]
        %a = tile.load %x[j0] : f32
        tile.store %y[i0], %a
      }"""
    y = torch.zeros(3)
    run_kernel(kernel("x f32, y f32, i i64", body), [torch.tensor([7.0, 8.0]), y, torch.tensor([99, 1, 1])], {})
    assert y.tolist() == [7, 8, 8]


def test_masked_loads_do_not_touch_memory():
    """The border of a padded tensor lies outside the buffer."""
    body = """
      tile.for i0 in [5] vector {
        %a = tile.load %x["i0 - 1"] if ["i0 - 1", "3 - i0"] else "nan" : f32
        tile.store %y[i0], %a
      }"""
    y = torch.zeros(5)
    run_kernel(kernel("x f32, y f32", body), [torch.tensor([1.0, 2, 3]), y], {})
    assert y[1:4].tolist() == [1, 2, 3] and y[0].isnan() and y[4].isnan()


def test_argmax_and_two_reductions_in_one_loop():
    body = """
      tile.for i0 in [3] parallel {
        %b, %m = tile.for i1 in [6] vector reduce ["argmax", "max"] : i64, f32 {
          %a = tile.load %x["6*i0 + i1"] : f32
          tile.yield %a, %a
        }
        tile.store %i[i0], %b
        tile.store %y[i0], %m
      }"""
    x = torch.tensor([[1.0, 5, 5, 0, 2, 3], [0, 0, math.nan, 9, math.nan, 1], [-math.inf] * 6])
    y, i = torch.zeros(3), torch.zeros(3, dtype=torch.int64)
    run_kernel(kernel("x f32, y f32, i i64", body, outputs="[1, 2]"), [x, y, i], {})
    assert i.tolist() == [1, 2, 0]
    assert torch.equal(y.nan_to_num(7), torch.tensor([5.0, 7, -math.inf]).nan_to_num(7))


def test_an_empty_loop_gives_the_neutral_element_and_stores_nothing():
    body = """
      tile.for i0 in [2] parallel {
        %m, %s = tile.for i1 in [s0] vector reduce ["max", "sum"] : f32, f32 {
          %a = tile.load %x["s0*i0 + i1"] : f32
          tile.store %y[0], %a
          tile.yield %a, %a
        }
        tile.store %y["2*i0"], %m
        tile.store %y["2*i0 + 1"], %s
      }"""
    y = torch.full((4,), 9.0)
    run_kernel(kernel("x f32, y f32", body, sizes="s0"), [torch.zeros(2, 0), y], {"s0": 0})
    assert y.tolist() == [-math.inf, 0, -math.inf, 0]


def test_values_that_do_not_vary_over_the_loop_are_reduced_once_an_iteration():
    body = """
      %c = tile.constant 2.0 : f32
      %s = tile.for i0 in [5] vector reduce ["sum"] : f32 {
        tile.yield %c
      }
      tile.store %y[0], %s"""
    y = torch.zeros(1)
    run_kernel(kernel("y f32", body, outputs="[0]"), [y], {})
    assert y.item() == 10


def test_scan():
    body = """
      tile.for i0 in [2] parallel {
        tile.for i1 in [s0] serial {
          %a = tile.load %x["s0*i0 + i1"] : i64
          %s = tile.scan "sum" %a : i64
          tile.store %y["s0*i0 + i1"], %s
        }
      }"""
    x = torch.randint(0, 9, (2, 6))
    y = torch.zeros_like(x)
    run_kernel(kernel("x i64, y i64", body, sizes="s0"), [x, y], {"s0": 6})
    assert torch.equal(y, x.cumsum(1))


def test_a_serial_loop_that_loads_what_it_stores_runs_in_order():
    body = """
      tile.for i0 in [4] serial {
        %a = tile.load %y[i0] : f32
        %b = tile.map "add" %a, %a : f32
        tile.store %y["i0 + 1"], %b
      }"""
    y = torch.tensor([1.0, 0, 0, 0, 0])
    run_kernel(kernel("y f32", body, outputs="[0]"), [y], {})
    assert y.tolist() == [1, 2, 4, 8, 16]


def test_accumulating_in_scratch_over_a_serial_loop():
    body = """
      tile.for i0 in [3] parallel {
        %t = tile.alloc [1] : f32
        %z = tile.constant 0.0 : f32
        tile.store %t[0], %z
        tile.for i1 in [4] serial {
          %a = tile.load %x["4*i0 + i1"] : f32
          %b = tile.load %t[0] : f32
          %c = tile.map "add" %a, %b : f32
          tile.store %t[0], %c
        }
        %r = tile.load %t[0] : f32
        tile.store %y[i0], %r
      }"""
    x, y = torch.randn(3, 4), torch.zeros(3)
    run_kernel(kernel("x f32, y f32", body), [x, y], {})
    torch.testing.assert_close(y, x.sum(1))


def test_index_arithmetic():
    body = """
      tile.for i0 in [12] vector {
        %a = tile.expr ["(i0//4) + 100*(i0 % 4) - 3"] : i64
        %m = tile.expr ["10*max(i0, s0) + min(i0, s0)"] : i64
        %b = tile.cond ["i0 - 2", "9 - i0"]
        %c = tile.map "where" %b, %a, %m : i64
        tile.store %y[i0], %c
      }"""
    y = torch.zeros(12, dtype=torch.int64)
    run_kernel(kernel("y i64", body, outputs="[0]", sizes="s0"), [y], {"s0": 5})
    expected = [(i // 4) + 100 * (i % 4) - 3 if 2 <= i <= 9 else 10 * max(i, 5) + min(i, 5) for i in range(12)]
    assert y.tolist() == expected


def test_bools_and_casts():
    body = """
      tile.for i0 in [3] vector {
        %a = tile.load %x[i0] : bool
        %n = tile.map "not" %a : bool
        %c = tile.map "cast" %n : f32
        tile.store %y[i0], %c
      }"""
    y = torch.zeros(3)
    run_kernel(kernel("x bool, y f32", body), [torch.tensor([True, False, True]), y], {})
    assert y.tolist() == [0, 1, 0]


COPY = """
  tile.for i0 in [s0] vector {{
    %a = tile.load %x["{load}"] : f32
    tile.store %y["{store}"], %a
  }}"""


@pytest.mark.parametrize("load,store,message", [
    ("i0 + 1", "i0", r"tile.load: offset 4 is outside the 4 elements of %x"),
    ("i0 - 1", "i0", r"tile.load: offset -1 is outside"),
    ("i0", "2*i0", r"tile.store: offset 4 is outside the 4 elements of %y"),
    ("i0", "0*i0", r"tile.store: different iterations store different values in one place of %y"),
    ("i0", "i0//2", r"tile.store: different iterations"),
])
def test_wrong_kernels_are_caught_and_the_op_named(load, store, message):
    op = kernel("x f32, y f32", COPY.format(load=load, store=store), sizes="s0")
    with pytest.raises(InterpreterError, match=f'tile.kernel "k": {message}'):
        run_kernel(op, [torch.arange(4.0), torch.zeros(4)], {"s0": 4})


def test_a_view_of_a_larger_buffer_bounds_what_is_read():
    op = kernel("x f32, y f32", COPY.format(load="i0", store="i0"), sizes="s0")
    with pytest.raises(InterpreterError, match="offset 3 is outside the 3 elements of %x"):
        run_kernel(op, [torch.arange(10.0)[2:5], torch.zeros(4)], {"s0": 4})


def test_scratch_that_was_never_written_is_nan():
    body = """
      %t = tile.alloc [1] : f32
      %a = tile.load %t[0] : f32
      tile.store %y[0], %a"""
    y = torch.zeros(1)
    run_kernel(kernel("y f32", body, outputs="[0]"), [y], {})
    assert y.isnan().all()


@pytest.mark.parametrize("buffers,sizes,message", [
    ([torch.zeros(4)], {"s0": 4}, "takes 2 pointers, got 1"),
    ([torch.zeros(4), torch.zeros(4)], {}, "needs a value for s0"),
    ([torch.zeros(4), torch.zeros(4).int()], {"s0": 4}, "pointer 1 is to f32 elements"),
])
def test_calls_that_do_not_fit(buffers, sizes, message):
    op = kernel("x f32, y f32", COPY.format(load="i0", store="i0"), sizes="s0")
    with pytest.raises(InterpreterError, match=message):
        run_kernel(op, buffers, sizes)


def test_argmax_of_nothing_is_an_error():
    body = """
      %b = tile.for i0 in [s0] vector reduce ["argmax"] : i64 {
        %a = tile.load %x[i0] : f32
        tile.yield %a
      }
      tile.store %i[0], %b"""
    op = kernel("x f32, i i64", body, sizes="s0")
    with pytest.raises(InterpreterError, match="argmax over no elements"):
        run_kernel(op, [torch.zeros(0), torch.zeros(1, dtype=torch.int64)], {"s0": 0})


HELD = """
  tile.for i0 in [s0] parallel by ROWS {
    tile.for k0 in [3] block by COLS {
      tile.for k1 in [5] block by LANES {
        %a = tile.load %x["15*i0 + 5*k0 + k1"] : f32
        %m = tile.reduce "max" %a over [k0, k1] : f32
        %d = tile.map "sub" %a, %m : f32
        %s = tile.reduce "sum" %d over [k1] : f32
        tile.store %y["15*i0 + 5*k0 + k1"], %s
      }
    }
  }
"""


def with_knobs(body: str, knobs: str = "ROWS = 2 : i64, COLS = 4 : i64, LANES = 8 : i64") -> KernelOp:
    [op] = parse_ir(
        'builtin.module { tile.kernel @k(%x: !tile.ref<f32>, %y: !tile.ref<f32>) {kind = "loop", outputs = '
        f'#tw.dims<[1]>, sizes = ["s0"], schedule = {{{knobs}}}}} {{ {body} }} }}'
    ).ops
    assert isinstance(op, KernelOp)
    return op


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_reductions_inside_of_block_loops(rows):
    x, y = torch.randn(rows, 3, 5), torch.empty(rows, 3, 5)
    held = with_knobs(HELD)
    assert held.knobs == {"ROWS": 2, "COLS": 4, "LANES": 8}
    run_kernel(held, [x, y], {"s0": rows})
    if rows:
        expected = (x - x.amax((1, 2), keepdim=True)).sum(2, keepdim=True).expand(-1, -1, 5)
        torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("old, new, message", [
    ("over [k1]", "over [i0]", "no block loops around it run over i0"), ("block by LANES", "block by SIDE", "no size"),
    ("\"sum\"", "\"total\"", "not a reduction"),
])
def test_blocks_that_are_not_legal(old, new, message):
    with pytest.raises(Exception, match=message):
        with_knobs(HELD.replace(old, new)).verify()
