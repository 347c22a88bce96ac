"""Every golden kernel, built and run: against torch and against the interpreter, at sizes where loops go wrong."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import CASES, only_kernel, read_kernel, sizes_of

from tilewright.codegen.cpp import print_file
from tilewright.codegen.native import load_kernels
from tilewright.ir.interpreter import run_kernel
from tilewright.ir.target import host_cpu

# Of f32 kernels; and of the one that stores halves, an ulp of them.
RTOL = (2e-5, 1e-2)
SIZES = [(0, 7), (3, 0), (1, 1), (5, 64), (7, 131), (513, 67), (3, 4099), (1200, 1000)]


@pytest.fixture(scope="session")
def built():
    return load_kernels(print_file([read_kernel(name) for name in CASES], host_cpu()), CASES, host_cpu())


def build(text: str):
    kernel = only_kernel(text)
    name = kernel.sym_name.data
    return kernel, load_kernels(print_file([kernel], host_cpu()), [name], host_cpu())[name]


def call(function, tensors, sizes=()):
    return function(*(t.data_ptr() for t in tensors), *sizes)


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("name", sorted(CASES))
def test_a_kernel_computes_what_torch_does(built, name, shape):
    torch.manual_seed(0)
    inputs = CASES[name].inputs(*shape)
    expected = CASES[name].expected(*inputs)
    outputs = [torch.full_like(e, 77) for e in expected]
    assert call(built[name], inputs + outputs, sizes_of(name, inputs, *shape)) == 0
    torch.testing.assert_close(outputs, expected, rtol=RTOL[name == "half"], atol=2e-4)


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_kernel_computes_what_the_interpreter_does(built, name):
    kernel = read_kernel(name)
    inputs = CASES[name].inputs(9, 67)
    sizes = sizes_of(name, inputs, 9, 67)
    ours = [torch.full_like(e, 77) for e in CASES[name].expected(*inputs)]
    theirs = [torch.full_like(e, 77) for e in ours]
    assert call(built[name], inputs + ours, sizes) == 0
    run_kernel(kernel, inputs + theirs, dict(zip(kernel.size_names, sizes)))
    torch.testing.assert_close(ours, theirs, rtol=RTOL[name == "half"], atol=2e-4)


@pytest.mark.parametrize("special", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["softmax", "row_sum", "column_sum", "cumsum", "map_chain"])
def test_nan_and_infinities_go_where_torch_sends_them(built, name, special):
    inputs = CASES[name].inputs(5, 67)
    inputs[0][1, 3] = inputs[0][3, 66] = special
    expected = CASES[name].expected(*inputs)
    outputs = [torch.empty_like(e) for e in expected]
    assert call(built[name], inputs + outputs, [5, 67]) == 0
    torch.testing.assert_close(outputs, expected, equal_nan=True, rtol=2e-5, atol=2e-4)


def test_argmax_takes_the_first_of_equals_and_of_nans(built):
    for values in ([1.0, 5.0, 5.0], [-float("inf")] * 3, [2.0, float("nan"), 9.0, float("nan")], [float("inf")] * 2):
        x = torch.tensor(values).repeat(3000)
        outputs = CASES["total"].expected(x)
        position = torch.full_like(outputs[1], 77)
        call(built["total"], [x, outputs[0], position, outputs[2]], [x.numel()])
        assert position.item() == x.argmax().item()


def test_a_position_out_of_range_is_reported_and_not_read(built):
    table, rows, y = torch.randn(100, 3), torch.tensor([5, 100, -101, -100]), torch.empty(4, 3)
    assert call(built["gather"], [table, rows, y], [4, 3]) == 1
    assert torch.equal(y, table[torch.tensor([5, 0, 0, 0])])


def test_results_do_not_depend_on_the_number_of_threads(built):
    x, threads = torch.randn(1_000_003), torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            outputs = [torch.empty(1), torch.empty(1, dtype=torch.int64), torch.empty(1, dtype=torch.int32)]
            call(built["total"], [x, *outputs], [x.numel()])
            results.append([o.item() for o in outputs])
    finally:
        torch.set_num_threads(threads)
    assert results[0] == results[1] == results[2]


def test_a_long_sum_keeps_its_precision(built):
    x, y = torch.full((1, 1 << 22), 0.1), torch.empty(1)
    call(built["row_sum"], [x, y], [1, 1 << 22])
    assert abs(y.item() / (float(x[0, 0]) * (1 << 22)) - 1) < 1e-6


REDUCTION_DTYPES = {
    "sum": ["f32", "f64", "i64", "i32", "i16", "i8", "u8", "bf16"], "prod": ["f32", "i64"],
    "max": ["f32", "f64", "i64", "u8", "bool", "f16"], "min": ["f32", "i32", "i8", "bool"], "any": ["bool"],
    "all": ["bool"], "argmax": ["f32", "i64", "bool"], "argmin": ["f64", "i32", "u8"],
}
TORCH_REDUCTION = {
    "sum": lambda x: x.sum(-1, dtype=x.dtype), "prod": lambda x: x.prod(-1, dtype=x.dtype), "max": lambda x: x.amax(-1),
    "min": lambda x: x.amin(-1), "any": lambda x: x.any(-1), "all": lambda x: x.all(-1),
    "argmax": lambda x: x.to(torch.int64 if x.dtype == torch.bool else x.dtype).argmax(-1),
    "argmin": lambda x: x.argmin(-1),
}
TORCH = {
    "f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16, "i64": torch.int64,
    "i32": torch.int32, "i16": torch.int16, "i8": torch.int8, "u8": torch.uint8, "bool": torch.bool,
}
PAIRS = [(fn, dtype) for fn, dtypes in REDUCTION_DTYPES.items() for dtype in dtypes]
# Where the reducing loop stands: rows in lanes, in order, columns in lanes around it, all of it on threads.
FORMS = {
    "vector": 'tile.for i in [s0] parallel {{ %r = tile.for k in [s1] vector {body} tile.store %y[i], %r }}',
    "serial": 'tile.for i in [s0] parallel {{ %r = tile.for k in [s1] serial {body} tile.store %y[i], %r }}',
    "lanes": 'tile.for i in [s0] vector {{ %r = tile.for k in [s1] serial {body} tile.store %y[i], %r }}',
    "nested": 'tile.for i in [s0] serial {{ %r = tile.for k in [s1] parallel {body} tile.store %y[i], %r }}',
}


@pytest.fixture(scope="session")
def reductions():
    kernels = []
    for form, template in FORMS.items():
        for fn, dtype in PAIRS:
            result = "i64" if fn.startswith("arg") else dtype
            body = (
                f'reduce ["{fn}"] : {result} {{ %a = tile.load %x["i*s1 + k"] : {dtype}\n tile.yield %a }}\n'
            )
            kernels.append(only_kernel(
                f'builtin.module {{ tile.kernel @{form}_{fn}_{dtype}(%x: !tile.ref<{dtype}>, %y: !tile.ref<{result}>) '
                '{kind = "loop", outputs = #tw.dims<[1]>, sizes = ["s0", "s1"]} '
                f"{{ {template.format(body=body)} }} }}"
            ))
    names = [k.sym_name.data for k in kernels]
    half = len(kernels) // 2
    return load_kernels(
        [print_file(kernels[:half], host_cpu()), print_file(kernels[half:], host_cpu())], names, host_cpu()
    )


def sample(dtype: torch.dtype, shape: tuple[int, int]) -> torch.Tensor:
    if dtype == torch.bool:
        return torch.rand(shape) < 0.5
    if dtype.is_floating_point:
        return torch.randn(shape).to(dtype)
    return torch.randint(0 if dtype == torch.uint8 else -100, 100, shape).to(dtype)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fn, dtype", PAIRS)
def test_reductions_of_every_dtype_in_every_form_of_loop(reductions, form, fn, dtype):
    torch.manual_seed(0)
    for shape in [(3, 1), (2, 67), (70, 130)]:
        x = sample(TORCH[dtype], shape)
        expected = TORCH_REDUCTION[fn](x)
        y = torch.empty_like(expected)
        assert call(reductions[f"{form}_{fn}_{dtype}"], [x, y], shape) == 0
        # Sums in another order; halves are rounded once at the end.
        tolerance = {torch.float32: (2e-4, 1e-4), torch.float64: (1e-12, 1e-12), torch.bfloat16: (1e-2, 1e-2)}
        rtol, atol = tolerance.get(expected.dtype, (0, 0))
        torch.testing.assert_close(y, expected, rtol=rtol, atol=atol)


NEUTRAL = {"sum": 0, "prod": 1, "any": False, "all": True, "max": -float("inf"), "argmax": 0}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fn", NEUTRAL)
def test_an_empty_loop_gives_the_neutral_element(reductions, form, fn):
    dtype = "bool" if fn in ("any", "all") else "f32"
    y = torch.full((3,), 7, dtype=torch.int64 if fn == "argmax" else TORCH[dtype])
    assert call(reductions[f"{form}_{fn}_{dtype}"], [torch.empty(3, 0, dtype=TORCH[dtype]), y], (3, 0)) == 0
    assert y.tolist() == [NEUTRAL[fn]] * 3


def test_floor_division_of_negative_positions():
    _, function = build("""builtin.module {
      tile.kernel @shifted(%y: !tile.ref<i64>) {kind = "loop", outputs = #tw.dims<[0]>, sizes = ["s0"]} {
        tile.for i in [s0] vector {
          %q = tile.expr ["(i - 5)//3"] : i64
          %r = tile.expr ["(i - 5)%3"] : i64
          %h = tile.constant 100 : i64
          %s = tile.map "mul" %q, %h : i64
          %t = tile.map "add" %s, %r : i64
          %m = tile.expr ["max(i, 4) - min(i, 2*s0 - 12)"] : i64
          %u = tile.map "add" %t, %m : i64
          tile.store %y[i], %u
        } } }""")
    y = torch.empty(11, dtype=torch.int64)
    assert call(function, [y], [11]) == 0
    assert y.tolist() == [(i - 5) // 3 * 100 + (i - 5) % 3 + max(i, 4) - min(i, 10) for i in range(11)]


def test_masked_loads_read_nothing_outside():
    # The pointer is null: any read would end the process.
    _, function = build("""builtin.module {
      tile.kernel @padded(%x: !tile.ref<f32>, %y: !tile.ref<f32>)
          {kind = "loop", outputs = #tw.dims<[1]>, sizes = ["s0"]} {
        tile.for i in [s0] vector {
          %a = tile.load %x[i] if ["i - s0"] else -inf : f32
          tile.store %y[i], %a
        } } }""".replace("-inf", '"-inf"'))
    y = torch.zeros(100)
    assert function(0, y.data_ptr(), 100) == 0
    assert y.eq(-float("inf")).all()


def test_a_position_in_an_empty_extent_reads_nothing():
    _, function = build("""builtin.module {
      tile.kernel @empty(%x: !tile.ref<f32>, %i: !tile.ref<i32>, %y: !tile.ref<f32>)
          {kind = "loop", outputs = #tw.dims<[2]>, sizes = ["s0", "s1"]} {
        tile.for i in [s0] vector {
          %p = tile.load %i[i] : i32
          tile.index j = %p in [s1]
          %a = tile.load %x[j] : f32
          tile.store %y[i], %a
        } } }""")
    rows, y = torch.zeros(40, dtype=torch.int32), torch.ones(40)
    assert function(0, rows.data_ptr(), y.data_ptr(), 40, 0) == 1
    assert not y.any()


def test_positions_behind_a_mask_are_not_checked():
    _, function = build("""builtin.module {
      tile.kernel @masked(%x: !tile.ref<f32>, %i: !tile.ref<i64>, %y: !tile.ref<f32>)
          {kind = "loop", outputs = #tw.dims<[2]>, sizes = ["s0"]} {
        tile.for i in [s0] vector {
          %p = tile.load %i[i] : i64
          tile.index j = %p in [4] if ["i - 2"]
          %a = tile.load %x[j] : f32
          tile.store %y[i], %a
        } } }""")
    x, y = torch.randn(4), torch.empty(5)
    rows = torch.tensor([99, -7, 3, 2, 1])
    assert call(function, [x, rows, y], [5]) == 0
    assert torch.equal(y, x[torch.tensor([0, 0, 3, 2, 1])])
    rows[2] = -1  # no `wrap`
    assert call(function, [x, rows, y], [5]) == 1


def test_names_of_the_model_that_mean_something_in_cpp():
    _, function = build("""builtin.module {
      tile.kernel @names(%float: !tile.ref<f32>, %new: !tile.ref<f32>)
          {kind = "loop", outputs = #tw.dims<[1]>, sizes = ["int"]} {
        tile.for auto in [int] vector {
          %and = tile.load %float[auto] : f32
          %failed = tile.map "exp" %and : f32
          %exp = tile.map "exp" %failed : f32
          tile.store %new[auto], %exp
        } } }""")
    x, y = torch.randn(9), torch.empty(9)
    assert call(function, [x, y], [9]) == 0
    torch.testing.assert_close(y, x.exp().exp())


def test_scratch_larger_than_the_stack_is_kept_for_the_next_call():
    _, function = build("""builtin.module {
      tile.kernel @reversed(%x: !tile.ref<f32>, %y: !tile.ref<f32>)
          {kind = "loop", outputs = #tw.dims<[1]>, sizes = ["s0"]} {
        tile.for i0 in [s0] parallel {
          %t = tile.alloc [50000] : f32
          tile.for i1 in [50000] vector {
            %a = tile.load %x["50000*i0 + i1"] : f32
            tile.store %t["49999 - i1"], %a
          }
          tile.for i1 in [50000] vector {
            %a = tile.load %t[i1] : f32
            tile.store %y["50000*i0 + i1"], %a
          }
        } } }""")
    for rows in (1, 7, 3):
        x = torch.randn(rows, 50000)
        y = torch.empty_like(x)
        assert call(function, [x, y], [rows]) == 0
        assert torch.equal(y, x.flip(1))


COLUMNS = """builtin.module {
  tile.kernel @columns(%x: !tile.ref<f32>, %total: !tile.ref<f32>, %first: !tile.ref<i64>, %y: !tile.ref<f32>)
      {kind = "loop", outputs = #tw.dims<[1, 2, 3]>, sizes = ["s0", "s1"]} {
    tile.for i0 in [s1] vector {
      %s, %p = tile.for k0 in [s0] parallel block [16] reduce ["sum", "argmax"] : f32, i64 {
        %a = tile.load %x["k0*s1 + i0"] : f32
        tile.yield %a, %a
      }
      tile.store %total[i0], %s
      tile.store %first[i0], %p
      tile.for k0 in [s0] parallel {
        %a = tile.load %x["k0*s1 + i0"] : f32
        %d = tile.map "sub" %a, %s : f32
        tile.store %y["k0*s1 + i0"], %d
      }
    }
  }
}"""


@pytest.fixture(scope="module")
def columns():
    return build(COLUMNS)[1]


# Rows around the 64 of a thread's block, columns around the lanes of one; the last is enough work for threads.
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (64, 5), (65, 64), (127, 4097), (7, 9001), (2309, 331)], ids=str)
def test_columns_are_reduced_in_blocks_of_rows(columns, shape):
    """Sums, and the first of equal extremes, for any number of threads; NaN and infinities included."""
    torch.manual_seed(0)
    rows, length = shape
    x = torch.randn(shape).round(decimals=1)
    if rows > 6:
        x[5, ::7], x[6, ::5] = float("nan"), float("inf")
    results = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        made = [torch.full((length,), 77.0), torch.full((length,), 77), torch.full(shape, 77.0)]
        assert call(columns, [x, *made], [rows, length]) == 0
        torch.set_num_threads(before)
        results.append(made)
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0, equal_nan=True)
    total, first, difference = results[0]
    torch.testing.assert_close(total, x.double().sum(0).float(), rtol=1e-5, atol=1e-4, equal_nan=True)
    assert torch.equal(first, x.argmax(0) if rows else torch.zeros(length, dtype=torch.int64))
    torch.testing.assert_close(difference, x - total, rtol=0, atol=0, equal_nan=True)


ROW = """builtin.module {{
  tile.kernel @row_{dtype}_{length}(%x: !tile.ref<{dtype}>, %s: !tile.ref<f64>, %m: !tile.ref<f64>)
      {{kind = "loop", outputs = #tw.dims<[1, 2]>, sizes = []}} {{
    %s0, %m0 = tile.for k0 in [{length}] vector reduce ["sum", "max"] : f64, f64 {{
      %a = tile.load %x[k0] : {loaded}
      %w = tile.map "cast" %a : f64
      tile.yield %w, %w
    }}
    tile.store %s[0], %s0
    tile.store %m[0], %m0
  }}
}}"""
ROW_TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "i32": torch.int32}
ROW_LENGTHS = [127, 128, 191, 1024, 1025, 5000]


@pytest.fixture(scope="module")
def rows():
    kernels = [
        only_kernel(ROW.format(dtype=dtype, length=length, loaded="i32" if dtype == "i32" else "f32"))
        for dtype in ROW_TYPES for length in ROW_LENGTHS
    ]
    return load_kernels(print_file(kernels, host_cpu()), [k.sym_name.data for k in kernels], host_cpu())


@pytest.mark.parametrize("length", ROW_LENGTHS)
@pytest.mark.parametrize("dtype", ROW_TYPES)
def test_reductions_along_a_row_keep_all_their_elements(rows, length, dtype):
    """Lengths around the partial results of a row, with what is left of them."""
    x = torch.randint(-999, 999, (length,)).to(ROW_TYPES[dtype])
    for special in (None, 0, length - 1):
        if special is not None and x.is_floating_point():
            x[special] = float("nan")
        made = [torch.empty(1, dtype=torch.float64) for _ in range(2)]
        assert call(rows[f"row_{dtype}_{length}"], [x, *made]) == 0
        wide = x.double()
        torch.testing.assert_close(made, [wide.sum().reshape(1), wide.max().reshape(1)], rtol=0, atol=0, equal_nan=True)


NEGATED = """builtin.module {{
  tile.kernel @negated_{length}(%x: !tile.ref<f32>, %y: !tile.ref<f32>)
      {{kind = "loop", outputs = #tw.dims<[1]>, sizes = []}} {{
    tile.for i0 in [{length}] parallel {{
      %a = tile.load %x[i0] : f32
      %n = tile.map "neg" %a : f32
      tile.store %y[i0], %n
    }}
  }}
}}"""


def test_a_large_result_asks_for_large_pages_and_nothing_else_changes():
    large, small = (only_kernel(NEGATED.format(length=length)) for length in ((8 << 20) // 4, (8 << 20) // 4 - 1))
    assert "tw::expect_writes(y, 8388608);" in print_file([large], host_cpu())
    assert "expect_writes" not in print_file([small], host_cpu())
    function = load_kernels(print_file([large], host_cpu()), ["negated_2097152"], host_cpu())["negated_2097152"]
    x = torch.arange(2097152.0)
    memory = torch.full((2097152 + 7,), 77.0)
    assert call(function, [x, memory[3:]]) == 0  # beginning and ending within a page
    assert torch.equal(memory[3:-4], -x)
    assert (memory[:3] == 77).all() and (memory[-4:] == 77).all()
