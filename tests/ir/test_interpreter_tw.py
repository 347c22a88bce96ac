"""The `tw` rules of the interpreter against torch: edge shapes, dtypes, NaN and infinities, both precisions."""

import math

import pytest
import torch

from tilewright.ir.dtypes import DTYPES
from tilewright.ir.errors import InterpreterError
from tilewright.ir.interpreter import run
from tilewright.ir.interpreter.philox import philox
from tilewright.ir.numerics import compare
from tilewright.ir.scalars import SCALARS, kind_of
from tilewright.ir.text import parse_ir

FLOATS = ("f64", "f32", "bf16", "f16")
SHAPES = ([], [0], [1], [7], [3, 0, 2], [2, 1, 5])


def tensor_text(shape, dtype) -> str:
    return f"!tw.tensor<[{', '.join(str(d) for d in shape)}], {dtype}>"


def function(arguments: dict[str, str], body: str, result: str, returned: str = "%r", attributes: str = ""):
    """A module whose function has the named arguments and returns one value."""
    args = ", ".join(f"%{name}: {type}" for name, type in arguments.items())
    attributes = f" attributes {{{attributes}}}" if attributes else ""
    return parse_ir(
        f"builtin.module {{ func.func @forward({args}) -> {result}{attributes} {{\n{body}\n"
        f"tw.return {returned} : {result}\n}} }}"
    )


def one_op(op: str, sources: list[str], result: str, attributes: str = ""):
    """A module of one op, whose operands x0, x1 ... are the function's arguments."""
    names = [f"x{k}" for k in range(len(sources))]
    operands = ", ".join(f"%{name}" for name in names)
    body = f"%r = {op} {operands} {{{attributes}}} : ({', '.join(sources)}) -> {result}"
    return function(dict(zip(names, sources)), body, result)


def unary(op: str, source: str, result: str):
    """For ops whose text has no parentheses: views, reductions, scans."""
    return function({"x": source}, f"%r = {op} : {source} -> {result}", result)


def reduction(fn: str, dims: list[int], source: str, result: str):
    return unary(f'tw.reduce "{fn}" %x {{dims = #tw.dims<{dims}>}}', source, result)


def scalar_map(fn: str, shape: list[int], dtype: str):
    """`fn` of as many operands as it takes, of one type."""
    row = SCALARS[fn]
    result = tensor_text(shape, "bool" if row.result == "bool" else dtype)
    return one_op(f'tw.map "{fn}"', [tensor_text(shape, dtype)] * row.arity, result)


def sample(shape, dtype: str, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    wanted = getattr(torch, DTYPES[dtype].torch_name)
    kind = kind_of(dtype)
    if kind == "float":
        return torch.randn(shape, generator=generator).to(wanted)
    return torch.randint(0, 2 if kind == "bool" else 9, shape, generator=generator).to(wanted)


def same(actual: torch.Tensor, expected: torch.Tensor, numerics: str = "exact") -> None:
    assert compare(actual, expected, expected.double(), numerics) is None


@pytest.mark.parametrize("name", sorted(SCALARS.keys() - {"where", "cast"}))
def test_scalar_functions_follow_their_reference(name):
    row = SCALARS[name]
    for dtype in ("f32", "bf16", "i64", "i32", "u8", "bool"):
        if kind_of(dtype) not in row.accepts:
            continue
        for shape in SHAPES:
            args = [sample(shape, dtype, seed) for seed in range(row.arity)]
            if name in ("floor_div", "trunc_div", "remainder", "fmod") and dtype != "bool":
                args[1] = args[1] + 1  # torch refuses integer division by zero
            [actual] = run(scalar_map(name, shape, dtype), args)
            wide = [a.float() if dtype == "bf16" else a for a in args]
            expected = eval(row.reference, {"torch": torch, "philox": philox}, dict(zip("abc", wide)))
            if row.result == "same":
                expected = expected.to(args[0].dtype)
            assert actual.dtype == expected.dtype and actual.shape == expected.shape
            if row.exact:
                same(actual, expected)
            elif expected.dtype.is_floating_point:
                relative = 1e-2 if dtype == "bf16" else 1e-5
                torch.testing.assert_close(actual, expected, rtol=relative, atol=1e-6, equal_nan=True)
            else:
                assert torch.equal(actual, expected)


def test_special_values_pass_through_scalar_functions():
    special = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-40, 3e38])
    for name in ("maximum", "minimum", "exp", "sqrt", "sign", "isnan", "round", "fmax"):
        row = SCALARS[name]
        args = [special, special.roll(1)][: row.arity]
        [actual] = run(scalar_map(name, [7], "f32"), args)
        same(actual, eval(row.reference, {"torch": torch}, dict(zip("ab", args))), "exact" if row.exact else "widens")


def test_values_of_inexact_functions_do_not_depend_on_the_layout():
    """A rewrite of views must not change a bit, so position and strides must not matter."""
    x = torch.randn(37, 5)
    for name in ("exp", "sigmoid", "tanh", "rsqrt", "erf"):
        module = scalar_map(name, [37, 5], "f32")
        [rows] = run(module, [x])
        [columns] = run(module, [x.t().contiguous().t()])
        same(rows, columns)


def test_halves_round_once():
    """In one map the sum is rounded to bf16 once; 1 + 2^-9 rounds to 1."""
    module = scalar_map("add", [2], "bf16")
    x, y = torch.tensor([1.0, 256.0]).bfloat16(), torch.tensor([2.0**-9, 1.5]).bfloat16()
    [native] = run(module, [x, y])
    [wide] = run(module, [x, y], precision="f64")
    assert native.tolist() == [1.0, 258.0]
    assert wide.dtype == torch.float64 and wide.tolist() == [1 + 2.0**-9, 257.5]


def test_where_broadcasts():
    c, x, result = tensor_text([3, 1], "bool"), tensor_text([1, 4], "i64"), tensor_text([3, 4], "i64")
    module = one_op('tw.map "where"', [c, x, result], result)
    args = [sample([3, 1], "bool"), sample([1, 4], "i64"), sample([3, 4], "i64", 1)]
    same(run(module, args)[0], torch.where(*args))


@pytest.mark.parametrize("source", ["f32", "bf16", "f16", "i64", "i8", "u8", "bool", "f64"])
@pytest.mark.parametrize("target", ["f32", "bf16", "f16", "i64", "i32", "u8", "bool", "f64"])
def test_casts_are_those_of_torch(source, target):
    x = torch.tensor([0.0, 1.0, -0.0, 2.6, 100.3, 65500.0 if source in FLOATS else 7.0])
    if source == "f16" or target in ("i64", "i32", "u8"):
        x = x.clamp(max=101)
    x = x.to(getattr(torch, DTYPES[source].torch_name))
    a, b = tensor_text([6], source), tensor_text([6], target)
    [actual] = run(one_op('tw.map "cast"', [a], b), [x])
    same(actual, x.to(getattr(torch, DTYPES[target].torch_name)))


REDUCTIONS = {
    "sum": lambda x, d: x.sum(d, keepdim=True, dtype=x.dtype),
    "max": lambda x, d: x.amax(d, keepdim=True),
    "min": lambda x, d: x.amin(d, keepdim=True),
    "fmax": lambda x, d: x.nan_to_num(-torch.inf, torch.inf, -torch.inf).amax(d, keepdim=True),
    "any": lambda x, d: x.any(d, keepdim=True),
    "all": lambda x, d: x.all(d, keepdim=True),
}


@pytest.mark.parametrize("fn,dtype", [
    ("sum", "f32"), ("sum", "bf16"), ("sum", "i64"), ("max", "f32"), ("max", "bool"), ("max", "f16"), ("min", "i32"),
    ("any", "bool"), ("all", "bool"), ("fmax", "f32"),
])
@pytest.mark.parametrize("shape,dims", [
    ([7], [0]), ([3, 1, 5], [1]), ([3, 4, 5], [0, 2]), ([2, 0, 3], [2]), ([], []),
])
def test_reductions(fn, dtype, shape, dims):
    x = sample(shape, dtype)
    kept = [1 if i in dims else d for i, d in enumerate(shape)]
    [actual] = run(reduction(fn, dims, tensor_text(shape, dtype), tensor_text(kept, dtype)), [x])
    expected = REDUCTIONS[fn](x, dims) if dims else x
    if dtype == "bf16" and fn == "sum":
        expected = x.float().sum(dims, keepdim=True).bfloat16() if dims else x
    same(actual, expected)


@pytest.mark.parametrize("fn,dtype,value", [
    ("sum", "f32", 0.0), ("prod", "i64", 1), ("max", "f32", -math.inf), ("min", "bf16", math.inf),
    ("max", "i32", -(2**31)), ("min", "u8", 255), ("max", "bool", False), ("any", "bool", False), ("all", "bool", True),
])
def test_reducing_nothing_gives_the_neutral_element(fn, dtype, value):
    module = reduction(fn, [1], tensor_text([2, 0], dtype), tensor_text([2, 1], dtype))
    [actual] = run(module, [torch.zeros(2, 0).to(getattr(torch, DTYPES[dtype].torch_name))])
    assert actual.tolist() == [[value], [value]]


def test_argmax_takes_the_first_and_nan_is_extreme():
    a, b = tensor_text([3, 4], "f32"), tensor_text([3, 1], "i64")
    x = torch.tensor([[1.0, 3, 3, 0], [0, math.nan, 5, math.nan], [2, 2, 2, 2]])
    assert run(reduction("argmax", [1], a, b), [x])[0].tolist() == [[1], [1], [0]]
    assert run(reduction("argmin", [1], a, b), [x])[0].tolist() == [[3], [1], [0]]


def test_argmax_of_nothing_is_an_error_unless_there_is_no_result():
    module = reduction("argmax", [1], tensor_text([2, 0], "f32"), tensor_text([2, 1], "i64"))
    with pytest.raises(InterpreterError, match=r'tw.reduce "argmax".*no elements'):
        run(module, [torch.zeros(2, 0)])
    module = reduction("argmax", [1], tensor_text([0, 0], "f32"), tensor_text([0, 1], "i64"))
    assert run(module, [torch.zeros(0, 0)])[0].shape == (0, 1)


def test_argmax_of_bools_and_prod():
    x = torch.tensor([[False, True, True]])
    module = reduction("argmax", [1], tensor_text([1, 3], "bool"), tensor_text([1, 1], "i64"))
    assert run(module, [x])[0].tolist() == [[1]]
    module = reduction("prod", [0, 1], tensor_text([2, 3], "i64"), tensor_text([1, 1], "i64"))
    assert run(module, [torch.arange(1, 7).view(2, 3)])[0].tolist() == [[720]]


def test_scan():
    type = tensor_text([3, 5], "bf16")
    x = sample([3, 5], "bf16")
    [actual] = run(unary('tw.scan "sum" %x {dim = #tw.dims<[1]>}', type, type), [x])
    same(actual, x.float().cumsum(1).bfloat16())


@pytest.mark.parametrize("op,shape,result,expected", [
    ("tw.reshape %x", [2, 3, 4], [6, 4], lambda x: x.reshape(6, 4)),
    ("tw.reshape %x", [0, 3], [3, 0, 2], lambda x: x.reshape(3, 0, 2)),
    ("tw.permute %x {dims = #tw.dims<[2, 0, 1]>}", [2, 3, 4], [4, 2, 3], lambda x: x.permute(2, 0, 1)),
    ("tw.broadcast %x", [3, 1], [2, 3, 4], lambda x: x.expand(2, 3, 4)),
    ("tw.slice %x {starts = #tw.dims<[1, 0]>, steps = #tw.dims<[2, 1]>}", [6, 3], [3, 2], lambda x: x[1:6:2, :2]),
    ("tw.slice %x {starts = #tw.dims<[5, 0]>, steps = #tw.dims<[-2, 1]>}", [6, 3], [3, 3], lambda x: x.flip(0)[::2]),
    ("tw.slice %x {starts = #tw.dims<[2, 0]>, steps = #tw.dims<[-1, 1]>}", [6, 3], [3, 3], lambda x: x[:3].flip(0)),
    ("tw.slice %x {starts = #tw.dims<[6, 0]>, steps = #tw.dims<[1, 1]>}", [6, 3], [0, 3], lambda x: x[6:]),
    ("tw.pad %x {low = #tw.dims<[1, 0]>, high = #tw.dims<[0, 2]>, value = #tw.scalar<3.0>}", [2, 3], [3, 5],
     lambda x: torch.nn.functional.pad(x, (0, 2, 1, 0), value=3.0)),
    ("tw.pad %x {low = #tw.dims<[-1, 2]>, high = #tw.dims<[1, -1]>, value = #tw.scalar<-1.0>}", [3, 3], [3, 4],
     lambda x: torch.nn.functional.pad(x, (2, -1, -1, 1), value=-1.0)),
    ("tw.pad %x {low = #tw.dims<[2]>, high = #tw.dims<[-4]>, value = #tw.scalar<0.5>}", [3], [1],
     lambda x: torch.full((1,), 0.5)),
])
def test_views(op, shape, result, expected):
    x = sample(shape, "f32")
    [actual] = run(unary(op, tensor_text(shape, "f32"), tensor_text(result, "f32")), [x])
    same(actual, expected(x))
    assert actual.shape == tuple(result)


def test_views_of_non_contiguous_inputs():
    x = sample([4, 6], "f32").t()[::2]
    assert not x.is_contiguous()
    module = unary("tw.reshape %x", tensor_text([3, 4], "f32"), tensor_text([12], "f32"))
    same(run(module, [x])[0], x.reshape(12))


def test_a_slice_with_a_symbolic_start_is_checked():
    text = ('%r = tw.slice %x {starts = #tw.dims<["s0 - 2"]>, steps = #tw.dims<[1]>} : '
            '!tw.tensor<[s0], f32> -> !tw.tensor<[3], f32>')
    module = function({"x": "!tw.tensor<[s0], f32>"}, text, tensor_text([3], "f32"))
    with pytest.raises(InterpreterError, match=r"tw.slice.*leaves"):
        run(module, [torch.zeros(5)])


def test_concat_of_empty_and_full():
    a, b, c = (tensor_text([2, n], "bool") for n in (0, 3, 3))
    module = one_op("tw.concat", [a, b], c, "dim = #tw.dims<[1]>")
    x, y = torch.zeros(2, 0, dtype=torch.bool), sample([2, 3], "bool")
    same(run(module, [x, y])[0], y)


def test_constants_iota_and_sizes():
    result = tensor_text([2, 3], "i32")
    body = f"%r = tw.iota {{dim = #tw.dims<[1]>, start = #tw.dims<[5]>, step = #tw.dims<[-2]>}} : {result}"
    module = function({}, body, result)
    assert run(module, [])[0].tolist() == [[5, 3, 1], [5, 3, 1]]
    result = tensor_text([2], "bf16")
    module = function({}, f'%r = tw.constant {{value = #tw.scalar<"-inf">}} : {result}', result)
    assert run(module, [])[0].tolist() == [-math.inf, -math.inf]
    module = function(
        {"x": "!tw.tensor<[s0, 2], f32>"}, '%r = tw.size {value = #tw.dims<["2*s0 + 1"]>} : !tw.tensor<[], i64>',
        "!tw.tensor<[], i64>", attributes='result_kinds = ["int"]',
    )
    assert run(module, [torch.zeros(4, 2)]) == [9]


def gather(source: str, indices: list[str], dims: str, wrap: str, result: str):
    names = [f"%i{k}" for k in range(len(indices))]
    body = (f"%r = tw.gather %x at {', '.join(names)} {{dims = #tw.dims<{dims}>, wrap = #tw.scalar<{wrap}>}} : "
            f"{source}, {', '.join(indices)} -> {result}")
    return function({"x": source, **dict(zip((n[1:] for n in names), indices))}, body, result)


def test_gather():
    x = sample([4, 5, 6], "f32")
    i, j = torch.tensor([[0, -1, 2]]), torch.tensor([[4, 0, 1]])
    index = tensor_text([1, 3], "i64")
    module = gather(tensor_text([4, 5, 6], "f32"), [index], "[1]", "true", tensor_text([4, 1, 3, 6], "f32"))
    same(run(module, [x, i])[0], x[:, i])
    module = gather(tensor_text([4, 5, 6], "f32"), [index, index], "[0, 1]", "true", tensor_text([1, 3, 6], "f32"))
    same(run(module, [x, i, j])[0], x[i, j])
    module = gather(tensor_text([4, 5, 6], "f32"), [tensor_text([], "u8")], "[2]", "false", tensor_text([4, 5], "f32"))
    same(run(module, [x, torch.tensor(5, dtype=torch.uint8)])[0], x[:, :, 5])
    module = gather(tensor_text([0, 2], "f32"), [tensor_text([0], "i64")], "[0]", "true", tensor_text([0, 2], "f32"))
    assert run(module, [torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)])[0].shape == (0, 2)


@pytest.mark.parametrize("position,wrap", [(4, "true"), (-5, "true"), (-1, "false")])
def test_a_position_out_of_range_is_an_index_error(position, wrap):
    module = gather(tensor_text([4], "f32"), [tensor_text([1], "i64")], "[0]", wrap, tensor_text([1], "f32"))
    with pytest.raises(IndexError, match=f"position {position if wrap == 'false' or position > 0 else position + 4}"):
        run(module, [torch.zeros(4), torch.tensor([position])])


@pytest.mark.parametrize("dtype", ["f32", "bf16", "i64"])
@pytest.mark.parametrize("batch", [[], [3], [0]])
def test_matmul(dtype, batch):
    a, b, bias = sample([*batch, 4, 6], dtype), sample([*batch, 6, 5], dtype, 1), sample([5], dtype, 2)
    types = [tensor_text(x.shape, dtype) for x in (a, b, bias)]
    result = tensor_text([*batch, 4, 5], dtype)
    module = one_op("tw.matmul", types, result)
    wide = torch.float32 if dtype == "bf16" else a.dtype
    expected = torch.matmul(a.to(wide), b.to(wide)) + bias.to(wide)
    [actual] = run(module, [a, b, bias])
    torch.testing.assert_close(actual, expected.to(a.dtype))
    [oracle] = run(module, [a, b, bias], precision="f64")
    assert oracle.dtype == (torch.int64 if dtype == "i64" else torch.float64)
    torch.testing.assert_close(oracle, (torch.matmul(a.double(), b.double()) + bias.double()).to(oracle.dtype))


def test_attention_with_a_mask_and_the_triangle():
    shapes = ([2, 3, 4], [2, 5, 4], [2, 5, 6], [3, 5])
    q, k, v, mask = (sample(shape, "f32", seed) for seed, shape in enumerate(shapes))
    types = [tensor_text(x.shape, "f32") for x in (q, k, v, mask)]
    result = tensor_text([2, 3, 6], "f32")
    attributes = "causal = #tw.scalar<true>, scale = #tw.scalar<0.5>, strides = #tw.dims<[18, 6, 1]>"
    module = one_op("tw.attention", types, result, attributes)
    triangle = torch.full((3, 5), -math.inf).triu(1)
    expected = torch.softmax(q @ k.transpose(-1, -2) * 0.5 + mask + triangle, -1) @ v
    torch.testing.assert_close(run(module, [q, k, v, mask])[0], expected)


def test_conv():
    x, w, b = sample([1, 4, 7, 7], "f32"), sample([6, 2, 3, 3], "f32", 1), sample([6], "f32", 2)
    types = [tensor_text(t.shape, "f32") for t in (x, w, b)]
    result = tensor_text([1, 6, 4, 4], "f32")
    attributes = ("stride = #tw.dims<[2, 2]>, padding = #tw.dims<[1, 1]>, dilation = #tw.dims<[1, 1]>, "
                  "transposed = #tw.scalar<false>, output_padding = #tw.dims<[0, 0]>, groups = #tw.dims<[2]>, "
                  "strides = #tw.dims<[96, 16, 4, 1]>")
    module = one_op("tw.conv", types, result, attributes)
    expected = torch.nn.functional.conv2d(x, w, b, stride=2, padding=1, groups=2)
    torch.testing.assert_close(run(module, [x, w, b])[0], expected)


def aten(target: str, arguments: str, args: dict[str, str], results: list[str]):
    names = ", ".join(f"%{n}" for n in args)
    outputs = ", ".join(f"%r{k}" for k in range(len(results)))
    strides = ", ".join("#tw.dims<[]>" for _ in results)
    arguments_text, results_text = ", ".join(f"%{n}: {t}" for n, t in args.items()), ", ".join(results)
    return parse_ir(
        f"builtin.module {{ func.func @forward({arguments_text}) -> ({results_text}) {{\n"
        f'{outputs} = tw.aten "{target}" {names} '
        f'{{arguments = "{arguments}", strides = [{strides}], reason = "test"}} : '
        f"({', '.join(args.values())}) -> ({results_text})\n"
        f"tw.return {outputs} : {results_text}\n}} }}"
    )


def test_opaque_calls():
    type, positions = tensor_text([2, 5], "bf16"), tensor_text([2, 5], "i64")
    module = aten("aten.sort.default", "(['%0', 1, True], {})", {"x": type}, [type, positions])
    x = sample([2, 5], "bf16")
    values, indices = run(module, [x])
    same(values, x.sort(1, descending=True).values)
    same(indices, x.sort(1, descending=True).indices)
    assert run(module, [x], precision="f64")[0].dtype == torch.float64


def test_dtype_arguments_widen_in_f64():
    module = aten("aten._to_copy.default", "(['%0'], {'dtype': 'dtype:bf16'})", {"x": tensor_text([1], "f32")},
                  [tensor_text([1], "bf16")])
    x = torch.tensor([1.001])
    assert run(module, [x])[0].dtype == torch.bfloat16
    assert run(module, [x], precision="f64")[0].item() == x.double().item()


def test_a_call_without_a_float64_form_runs_in_its_own_dtypes():
    """float8 products exist for float8 operands only."""
    type, scale, result = tensor_text([16, 16], "f8e4m3"), tensor_text([], "f32"), tensor_text([16, 16], "f32")
    module = aten("aten._scaled_mm.default", "(['%0', '%1', '%2', '%2'], {'out_dtype': 'dtype:f32'})",
                  {"a": type, "b": type, "s": scale}, [result])
    a = sample([16, 16], "f32").to(torch.float8_e4m3fn)
    b = sample([16, 16], "f32", 1).to(torch.float8_e4m3fn).t()
    try:
        torch._scaled_mm(a, b, torch.tensor(1.0), torch.tensor(1.0), out_dtype=torch.float32)
    except (RuntimeError, NotImplementedError):
        pytest.skip("this torch has no float8 product on CPU")
    [actual] = run(module, [a, b, torch.tensor(1.0)], precision="f64")
    torch.testing.assert_close(actual, a.double() @ b.double(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("target,message", [
    ("aten.no_such_thing.default", "no operator"), ("aten.relu_.default", "writes to its arguments"),
])
def test_opaque_calls_that_cannot_run_are_named(target, message):
    type = tensor_text([2], "f32")
    with pytest.raises(InterpreterError, match=rf'tw.aten "{target}": .*{message}'):
        run(aten(target, "(['%0'], {})", {"x": type}, [type]), [torch.zeros(2)])


def test_a_result_that_is_not_what_its_type_says_is_an_error():
    module = aten("aten.relu.default", "(['%0'], {})", {"x": tensor_text([2], "f32")}, [tensor_text([3], "f32")])
    with pytest.raises(InterpreterError, match=r"shape \[2\], the type says \[3\]"):
        run(module, [torch.zeros(2)])


def test_sizes_that_follow_from_data_are_learned():
    module = aten("aten.nonzero.default", "(['%0'], {})", {"x": tensor_text([4], "f32")}, ["!tw.tensor<[u0, 1], i64>"])
    assert run(module, [torch.tensor([0.0, 1, 0, 2])])[0].tolist() == [[1], [3]]


def test_fused_regions_keep_each_rounding():
    """The meaning of a region is that of its ops: in bf16, (x + y) - x loses what the first rounding takes."""
    type = tensor_text([1], "bf16")
    module = function({"x": type, "y": type}, f"""
      %r = tw.fused {{kind = "loop", numerics = "widens"}} : {type} {{
        %a = tw.map "add" %x, %y : ({type}, {type}) -> {type}
        %b = tw.map "sub" %a, %x : ({type}, {type}) -> {type}
        tw.yield %b : {type}
      }}""", type)
    x, y = torch.tensor([256.0]).bfloat16(), torch.tensor([0.5]).bfloat16()
    assert run(module, [x, y])[0].item() == 0.0
    assert run(module, [x, y], precision="f64")[0].item() == 0.5


def test_result_kinds():
    type = tensor_text([2], "f32")
    module = function({"x": type}, "", type, "%x", attributes='result_kinds = ["none", "tensor"]')
    x = torch.ones(2)
    nothing, tensor = run(module, [x])
    assert nothing is None and torch.equal(tensor, x)


def test_symbols_come_from_where_the_attribute_says():
    type = '!tw.tensor<["2*s0"], f32>'
    module = function(
        {"n": "index", "x": type}, f'%r = tw.map "neg" %x : ({type}) -> {type}', type,
        attributes="symbols = {s0 = #tw.dims<[0]>}",
    )
    assert run(module, [3, torch.ones(6)])[0].shape == (6,)
    with pytest.raises(InterpreterError, match=r"input 1: .*shape \[6\], the type says \[8\]"):
        run(module, [4, torch.ones(6)])


@pytest.mark.parametrize("inputs,message", [
    ([], "takes 1 inputs, got 0"), ([torch.zeros(2)], "1 dims, not 2"), ([torch.zeros(2, 3)], "shape"),
    ([torch.zeros(2, 2).double()], "dtype"), ([3], "must be a tensor"),
])
def test_inputs_that_do_not_fit(inputs, message):
    type = "!tw.tensor<[s0, s0], f32>"
    with pytest.raises(InterpreterError, match=message):
        run(function({"x": type}, "", type, "%x"), inputs)


def test_errors_name_the_op_and_its_line():
    type = tensor_text([2], "i64")
    module = function(
        {"x": type, "y": type},
        f'%r = tw.map "floor_div" %x, %y : ({type}, {type}) -> {type} loc("model.py":12:0)', type,
    )
    with pytest.raises(InterpreterError, match=r'tw.map "floor_div" \(model.py:12\): .*ZeroDivision'):
        run(module, [torch.ones(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)])


def test_inputs_are_not_changed():
    x = torch.randn(3, 3)
    before = x.clone()
    type = tensor_text([3, 3], "f32")
    run(unary("tw.pad %x {low = #tw.dims<[0, 0]>, high = #tw.dims<[0, 0]>, value = #tw.scalar<0.0>}", type, type), [x])
    assert torch.equal(x, before)
