"""Lowering: kernels and programs give what the graph gave, interpreted and compiled, at sizes where loops go wrong."""

from __future__ import annotations

import itertools

import pytest
import torch
from batched import build_programs, run_passes

from tilewright.ir import prog, tile
from tilewright.ir.interpreter import run
from tilewright.ir.numerics import compare
from tilewright.ir.text import parse_ir, print_ir

from .fusion_cases import FUSED, softmax
from .random_modules import RandomModule, random_module
from .rulecheck import Case, case_module, inputs_of

SIZES = [{"s0": 5, "s1": 3}, {"s0": 1, "s1": 1}, {"s0": 0, "s1": 3}, {"s0": 3, "s1": 0}, {"s0": 131, "s1": 67}]
CASES = [(name, dtype) for name, fusion in FUSED.items() for dtype in fusion.case.dtypes.split()]


def assert_close(actual, module, inputs, numerics):
    """`actual` against the interpreter, settled in float64."""
    expected = run(module, inputs)
    assert len(actual) == len(expected)
    for index, (a, e) in enumerate(zip(actual, expected)):
        mismatch = compare(a, e, lambda i=index: run(module, inputs, precision="f64")[i], numerics)
        assert mismatch is None, f"result {index}: {mismatch}"


def inputs_for(name, module, sizes, seed=0):
    inputs = inputs_of(module, sizes, seed)
    if name == "gather":
        inputs[1] %= 9
    return inputs


@pytest.mark.parametrize("name, dtype", CASES)
def test_lowered_regions_give_what_the_graph_gave(name, dtype):
    """NaN, infinities and the largest numbers are among the inputs."""
    before = case_module(FUSED[name].case, dtype)
    after = before.clone()
    run_passes(after, "fuse,lower")
    assert print_ir(parse_ir(print_ir(after))) == print_ir(after)
    planned = after.clone()
    run_passes(planned, "plan-memory")
    for sizes, seed in itertools.product(SIZES[:3], range(2)):
        inputs = inputs_for(name, before, sizes, seed)
        lowered = run(after, inputs)
        assert_close(lowered, before, inputs, "widens")
        for a, b in zip(lowered, run(planned, inputs)):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.fixture(scope="module")
def compiled():
    modules = [case_module(FUSED[name].case, dtype) for name, dtype in CASES]
    lowered = [module.clone() for module in modules]
    for module in lowered:
        run_passes(module, "fuse,lower,plan-memory")
    return dict(zip(CASES, zip(modules, build_programs(lowered))))


@pytest.mark.parametrize("sizes", SIZES, ids=lambda s: "x".join(map(str, s.values())))
@pytest.mark.parametrize("name, dtype", CASES)
def test_compiled_kernels_give_what_the_graph_gives(compiled, name, dtype, sizes):
    module, program = compiled[name, dtype]
    inputs = inputs_for(name, module, sizes)
    assert_close(program(*inputs), module, inputs, "reassociates")


def test_strided_inputs_are_read_where_they_lie():
    """Every layout of an argument that a function may state, in one kernel each."""
    layouts = ["[7, 1]", "[1, s0]", "[14, 2]", "[0, 1]", "[1, 0]"]
    text = """
    func.func @forward(%x: !tw.tensor<[s0, 7], f32>) -> !tw.tensor<[s0, 7], f32>
        attributes {{arg_strides = [#tw.dims<{}>], symbols = {{s0 = #tw.dims<[0, 0]>}}}} {{
      %m = tw.reduce "max" %x {{dims = #tw.dims<[1]>}} : !tw.tensor<[s0, 7], f32> -> !tw.tensor<[s0, 1], f32>
      %d = tw.map "sub" %x, %m : (!tw.tensor<[s0, 7], f32>, !tw.tensor<[s0, 1], f32>) -> !tw.tensor<[s0, 7], f32>
      tw.return %d : !tw.tensor<[s0, 7], f32>
    }}"""
    modules = [parse_ir(text.format(layout)) for layout in layouts]
    for module in modules:
        run_passes(module, "fuse,lower,plan-memory")
    memory = torch.randn(200)
    for layout, program in zip(layouts, build_programs(modules)):
        for rows in (0, 1, 5):
            x = memory.as_strided((rows, 7), eval(layout, {"s0": max(rows, 1)}))
            torch.testing.assert_close(program(x)[0], x - x.amax(1, keepdim=True), rtol=0, atol=0)
            torch.testing.assert_close(run(modules[layouts.index(layout)], [x])[0], program(x)[0], rtol=0, atol=0)


@pytest.mark.parametrize("layout, axis", [("[320, 64, 8, 1]", "k"), ("[320, 1, 40, 5]", "i")], ids=["nchw", "nhwc"])
def test_lanes_run_where_memory_is_contiguous(layout, axis):
    """Sums over batch and pixels of each channel: along the pixels, or along channels that come last."""
    module = parse_ir(f"""
    func.func @forward(%x: !tw.tensor<[6, 5, 8, 8], f32>, %c: !tw.tensor<[1, 5, 1, 1], f32>)
        -> !tw.tensor<[1, 5, 1, 1], f32> attributes {{arg_strides = [#tw.dims<{layout}>, #tw.dims<[5, 1, 1, 1]>]}} {{
      %d = tw.map "sub" %x, %c :
        (!tw.tensor<[6, 5, 8, 8], f32>, !tw.tensor<[1, 5, 1, 1], f32>) -> !tw.tensor<[6, 5, 8, 8], f32>
      %s = tw.reduce "sum" %d {{dims = #tw.dims<[0, 2, 3]>}} :
        !tw.tensor<[6, 5, 8, 8], f32> -> !tw.tensor<[1, 5, 1, 1], f32>
      tw.return %s : !tw.tensor<[1, 5, 1, 1], f32>
    }}""")
    run_passes(module, "fuse,lower,plan-memory")
    lanes = [op for op in module.walk() if isinstance(op, tile.ForOp) and op.kind.data == "vector"]
    assert [op.axis.data[0] for op in lanes] == [axis]


def test_library_calls_get_their_operands_row_major():
    """`view` refuses memory in another order, which shows what a call gets."""
    text = """builtin.module { func.func @forward(%x: !tw.tensor<[2, 3], f32>) -> !tw.tensor<[6], f32> attributes {
        arg_strides = [#tw.dims<[1, 2]>], result_strides = [#tw.dims<[1]>]} {
      %r = tw.aten "aten.view.default" %x {arguments = "(['%0', [6]], {})", strides = [#tw.dims<[1]>],
        reason = "a test"STRIDED} : (!tw.tensor<[2, 3], f32>) -> !tw.tensor<[6], f32>
      tw.return %r : !tw.tensor<[6], f32>
    } }"""
    x = torch.arange(6.0).view(3, 2).t()
    asked = [parse_ir(text.replace("STRIDED", "")) for _ in range(2)]
    as_it_comes = [parse_ir(text.replace("STRIDED", ", strided = #tw.dims<[0]>")) for _ in range(2)]
    for modules in (asked, as_it_comes):
        run_passes(modules[1], "default")
    host, other_host = build_programs([asked[1], as_it_comes[1]])
    for call in (lambda: run(asked[0], [x]), lambda: run(asked[1], [x]), lambda: host(x)):
        assert torch.equal(call()[0], x.reshape(6))
    for call in (lambda: run(as_it_comes[0], [x]), lambda: run(as_it_comes[1], [x]), lambda: other_host(x)):
        with pytest.raises(Exception, match="view size is not compatible"):
            call()


def launches(module) -> list[prog.LaunchOp]:
    return [op for op in module.walk() if isinstance(op, prog.LaunchOp)]


def kernels(module) -> list[tile.KernelOp]:
    return [op for op in module.ops if isinstance(op, tile.KernelOp)]


def test_equal_regions_share_a_kernel():
    module = case_module(Case("T[8] T[8]", lambda b, x, y: [b.map("neg", x), b.map("neg", y)]), "f32")
    run_passes(module, "lower")
    assert len(kernels(module)) == 1 and len(launches(module)) == 2


def test_kernel_names_are_not_words_of_c_or_python():
    """A kernel is a C function and a name of the host program's: `exp` and `not` are taken."""
    module = case_module(Case("T[3] bool[3]", lambda b, x, c: [b.map("exp", x), b.map("not", c)]), "f32")
    run_passes(module, "lower")
    assert sorted(k.sym_name.data for k in kernels(module)) == ["exp_kernel", "not_kernel"]


def test_a_kept_value_is_stored_before_it_is_read():
    """The product is needed behind a mask first and as it is later: no row of scratch may be read that nobody wrote."""
    def build(b, x, y):
        product = b.map("mul", x, y)
        gate = b.map("tanh", b.slice_dim(b.concat([x, product], 2), 2, 0, 1))
        return [gate, b.map("minimum", b.reduce("max", y, [0]), product)]

    before = case_module(Case("T[3, 2, 1] T[3, 2, 1]", build), "f16")
    after = before.clone()
    run_passes(after, "fuse,lower")
    assert len(kernels(after)) == 1
    inputs = [torch.randn(3, 2, 1).half() for _ in range(2)]
    assert_close(run(after, inputs), before, inputs, "widens")


def test_a_scan_goes_on_across_the_blocks_of_a_sum():
    """Sums are added up in blocks; the running sum beside them must not start again with each."""
    def build(b, x):
        running = b.scan("sum", x, 1)
        return [running, b.reduce("sum", running, [1])]

    module = case_module(Case("T[3, 300]", build), "f32")
    run_passes(module, "fuse,lower,plan-memory")
    x = torch.randn(3, 300)
    running, total = build_programs([module])[0](x)
    torch.testing.assert_close(running, x.double().cumsum(1).float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(total, x.double().cumsum(1).sum(1, keepdim=True).float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dims, shape", [([1], [9, 5000]), ([0], [5000, 9]), ([0, 1], [70, 71]), ([1], [3, 700])])
def test_long_sums_are_about_as_exact_as_atens(dims, shape):
    module = case_module(Case(f"T{shape}", lambda b, x: b.reduce("sum", x, dims)), "f32")
    run_passes(module, "fuse,lower,plan-memory")
    program = build_programs([module])[0]
    ours, theirs = 0.0, 0.0
    for seed in range(30):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        exact = x.double().sum(dims, keepdim=True)
        ours += float((program(x)[0] - exact).square().mean())
        theirs += float((x.sum(dims, keepdim=True) - exact).square().mean())
    assert ours <= 4 * theirs  # squares: twice the root mean square error


@pytest.mark.parametrize("build", [
    lambda b, x: b.reduce("sum", x, [1]),
    lambda b, x: softmax(b, x),
    lambda b, x: b.map("exp", b.permute(x, [1, 0])),
    lambda b, x: b.gather(x, [b.map("remainder", b.iota([0], "i64", 0), b.constant(3, "i64"))], [0]),
    lambda b, x: b.pad(x, [1, 1], [0, 0], 2.0),
    lambda b, x: b.concat([x, x], 1),
    lambda b, x: b.reduce("argmax", b.pad(x, [0, 2], [0, 0], 2.0), [1]),
])
@pytest.mark.parametrize("shape", ["[3, 0]", "[0, 3]", "[0, 0]"])
def test_tensors_without_elements(build, shape):
    """Nothing is read from them, also where a load does not vary in an empty loop, and reductions give the neutral."""
    before = case_module(Case(f"T{shape}", build), "f32")
    after = before.clone()
    run_passes(after, "fuse,lower,plan-memory")
    x = torch.empty(eval(shape))
    for a, e in zip(run(after, [x]), run(before, [x])):
        torch.testing.assert_close(a, e, rtol=0, atol=0)


def test_an_expanded_tensor_without_elements_is_not_read():
    """With a stride of 0 its only element does not vary in the loop, which is empty: there is no element."""
    module = parse_ir("""
    func.func @forward(%x: !tw.tensor<[s0], bool>) -> !tw.tensor<[1], bool>
        attributes {arg_strides = [#tw.dims<[0]>], symbols = {s0 = #tw.dims<[0, 0]>}} {
      %a = tw.reduce "all" %x {dims = #tw.dims<[0]>} : !tw.tensor<[s0], bool> -> !tw.tensor<[1], bool>
      tw.return %a : !tw.tensor<[1], bool>
    }""")
    run_passes(module, "fuse,lower,plan-memory")
    program = build_programs([module])[0]
    for x in (torch.zeros(1, dtype=torch.bool).expand(0), torch.zeros(1, dtype=torch.bool).expand(4)):
        assert bool(program(x)[0]) == bool(run(module, [x])[0]) == (len(x) == 0)


def check_random(made: list[RandomModule]) -> None:
    """Lower and compile random modules; each stage against the one before."""
    programs = []
    for one in made:
        lowered = one.module.clone()
        run_passes(lowered, "fuse,lower,plan-memory")
        assert_close(run(lowered, one.inputs()), one.module, one.inputs(), "widens")
        programs.append(lowered)
    for one, program in zip(made, build_programs(programs)):
        inputs = one.inputs()
        for _ in range(2):  # the second call finds a used arena
            assert_close(program(*inputs), one.module, inputs, "reassociates")
        for given, kept in zip(inputs, one.inputs()):
            torch.testing.assert_close(given, kept, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("block", range(3))
def test_random_graphs(block):
    check_random([random_module(seed) for seed in range(12 * block, 12 * block + 12)])


@pytest.mark.slow
@pytest.mark.parametrize("block", range(4))
def test_many_random_graphs(block):
    check_random([random_module(seed) for seed in range(100 + 40 * block, 140 + 40 * block)])
