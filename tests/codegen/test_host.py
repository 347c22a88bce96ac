"""The host program: calls at once, arenas, weights that change, inputs in any layout, results that outlive a call."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import torch
from batched import build_programs, native_programs, run_passes

from tilewright.codegen.arenas import SizedArena
from tilewright.codegen.host import HostProgram, find_call
from tilewright.ir.errors import InputError
from tilewright.ir.text import parse_ir
from tilewright.ir.tile import KernelOp

T = "!tw.tensor<[s0, 8], f32>"
ROW = "!tw.tensor<[s0, 1], f32>"
F = "!tw.tensor<[4, 8], f32>"

# Functions by name. In each, %x is the first argument; all are built once, together.
FUNCTIONS = {
    # Temporaries in the arena: a kernel, a product, a kernel, a product.
    "chain": f"""(%x: {F}, %w: !tw.tensor<[8, 8], f32>) -> {F} {{
        %a = tw.map "tanh" %x : ({F}) -> {F}
        %b = tw.matmul %a, %w : ({F}, !tw.tensor<[8, 8], f32>) -> {F}
        %c = tw.map "tanh" %b : ({F}) -> {F}
        %d = tw.matmul %c, %w : ({F}, !tw.tensor<[8, 8], f32>) -> {F}
        tw.return %d : {F} }}""",
    "dynamic": f"""(%x: {T}, %w: !tw.tensor<[8, 8], f32>) -> {T} attributes {{symbols = {{s0 = #tw.dims<[0, 0]>}}}} {{
        %a = tw.map "tanh" %x : ({T}) -> {T}
        %b = tw.matmul %a, %w : ({T}, !tw.tensor<[8, 8], f32>) -> {T}
        %m = tw.reduce "max" %b {{dims = #tw.dims<[1]>}} : {T} -> {ROW}
        %c = tw.map "sub" %b, %m : ({T}, {ROW}) -> {T}
        tw.return %c : {T} }}""",
    "two": f"""(%x: {T}, %y: {T}) -> {T} attributes {{symbols = {{s0 = #tw.dims<[0, 0]>}}}} {{
        %c = tw.map "sub" %x, %y : ({T}, {T}) -> {T}
        tw.return %c : {T} }}""",
    "lookup": f"""(%x: {F}, %i: !tw.tensor<[3], i64>, %w: !tw.tensor<[8, 8], f32>) -> !tw.tensor<[3, 8], f32> {{
        %a = tw.map "tanh" %x : ({F}) -> {F}
        %p = tw.matmul %a, %w : ({F}, !tw.tensor<[8, 8], f32>) -> {F}
        %g = tw.gather %p at %i {{dims = #tw.dims<[0]>, wrap = #tw.scalar<true>}}
          : {F}, !tw.tensor<[3], i64> -> !tw.tensor<[3, 8], f32>
        tw.return %g : !tw.tensor<[3, 8], f32> }}""",
    "views": f"""(%x: {F}) -> (!tw.tensor<[8, 4], f32>, !tw.tensor<[32], f32>, !tw.tensor<[2, 8], f32>) {{
        %t = tw.permute %x {{dims = #tw.dims<[1, 0]>}} : {F} -> !tw.tensor<[8, 4], f32>
        %r = tw.reshape %x : {F} -> !tw.tensor<[32], f32>
        %n = tw.map "neg" %x : ({F}) -> {F}
        %s = tw.slice %n {{starts = #tw.dims<[1, 0]>, steps = #tw.dims<[2, 1]>}} : {F} -> !tw.tensor<[2, 8], f32>
        tw.return %t, %r, %s : !tw.tensor<[8, 4], f32>, !tw.tensor<[32], f32>, !tw.tensor<[2, 8], f32> }}""",
    "view_of_view": """(%x: !tw.tensor<[4, 8], f32>, %w: !tw.tensor<[4, 3], f32>) -> !tw.tensor<[7, 3], f32> {
        %t = tw.permute %x {dims = #tw.dims<[1, 0]>} : !tw.tensor<[4, 8], f32> -> !tw.tensor<[8, 4], f32>
        %s = tw.slice %t {starts = #tw.dims<[1, 0]>, steps = #tw.dims<[1, 1]>}
          : !tw.tensor<[8, 4], f32> -> !tw.tensor<[7, 4], f32>
        %p = tw.matmul %s, %w : (!tw.tensor<[7, 4], f32>, !tw.tensor<[4, 3], f32>) -> !tw.tensor<[7, 3], f32>
        tw.return %p : !tw.tensor<[7, 3], f32> }""",
    "same": f"""(%x: {F}) -> ({F}, {F}, {F}) {{
        %n = tw.map "neg" %x : ({F}) -> {F}
        tw.return %n, %x, %n : {F}, {F}, {F} }}""",
    "kinds": """(%x: !tw.tensor<[s0, 8], f32>, %n: index)
          -> (!tw.tensor<[], i64>, !tw.tensor<[s0, 8], f32>, !tw.tensor<[], i64>)
        attributes {result_kinds = ["int", "none", "tensor", "int"],
                    symbols = {s0 = #tw.dims<[0, 0]>, s1 = #tw.dims<[1]>}} {
        %a = tw.size {value = #tw.dims<["2*s0 + 1"]>} : !tw.tensor<[], i64>
        %y = tw.map "neg" %x : (!tw.tensor<[s0, 8], f32>) -> !tw.tensor<[s0, 8], f32>
        %b = tw.size {value = #tw.dims<["max(s0, s1)"]>} : !tw.tensor<[], i64>
        tw.return %a, %y, %b : !tw.tensor<[], i64>, !tw.tensor<[s0, 8], f32>, !tw.tensor<[], i64> }""",
    "nothing": f"""() -> {F} {{
        %c = tw.constant {{value = #tw.scalar<2.0>}} : {F}
        tw.return %c : {F} }}""",
    "odd_names": f"""(%s0: {T}, %s0_ptr: {T}, %max: {T}, %args: {T}, %lambda: {T}, %base: {T}, %dtype_4: {T}) -> {T}
        attributes {{symbols = {{s0 = #tw.dims<[0, 0]>}}}} {{
        %status = tw.map "add" %s0, %s0_ptr : ({T}, {T}) -> {T}
        %frame = tw.map "add" %status, %max : ({T}, {T}) -> {T}
        %arena = tw.map "add" %frame, %args : ({T}, {T}) -> {T}
        %weights = tw.map "add" %arena, %lambda : ({T}, {T}) -> {T}
        %empty_strided = tw.map "add" %weights, %base : ({T}, {T}) -> {T}
        %adapt = tw.map "add" %empty_strided, %dtype_4 : ({T}, {T}) -> {T}
        tw.return %adapt : {T} }}""",
    "order": """(%x: !tw.tensor<[4, 8], f32>) -> !tw.tensor<[4, 8], f32>
        attributes {result_strides = [#tw.dims<[1, 4]>]} {
        %n = tw.map "neg" %x : (!tw.tensor<[4, 8], f32>) -> !tw.tensor<[4, 8], f32>
        tw.return %n : !tw.tensor<[4, 8], f32> }""",
    "opaque": f"""(%x: {F}) -> ({F}, !tw.tensor<[4, 8], i64>) {{
        %n = tw.map "neg" %x : ({F}) -> {F}
        %v, %i = tw.aten "aten.sort.default" %n {{arguments = "(['%0'], {{}})", reason = "a test",
          strides = [#tw.dims<[8, 1]>, #tw.dims<[8, 1]>]}} : ({F}) -> ({F}, !tw.tensor<[4, 8], i64>)
        %d = tw.map "add" %v, %n : ({F}, {F}) -> {F}
        tw.return %d, %i : {F}, !tw.tensor<[4, 8], i64> }}""",
}


def lowered(name: str):
    module = parse_ir(f"func.func @forward{FUNCTIONS[name]}", name)
    run_passes(module, "fuse,lower,plan-memory")
    return module


BUILD = {"python": build_programs, "cpp": native_programs}


@pytest.fixture(scope="module", params=BUILD)
def programs(request):
    return dict(zip(FUNCTIONS, BUILD[request.param]([lowered(name) for name in FUNCTIONS])))


def x(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def chain(a: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.tanh(torch.tanh(a) @ w) @ w


def dynamic(a: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    b = torch.tanh(a) @ w
    return b - b.amax(1, keepdim=True)


def same(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def with_static(name: str, static: Sequence[int]) -> HostProgram:
    """A program of its own, with weights at `static`."""
    from tilewright.codegen.cpp import print_file
    from tilewright.codegen.native import load_kernels
    from tilewright.ir.target import host_cpu

    module = lowered(name)
    kernels = [op for op in module.ops if isinstance(op, KernelOp)]
    functions = load_kernels(print_file(kernels, host_cpu()), [k.sym_name.data for k in kernels], host_cpu())
    return HostProgram(module, functions, static)


# Calls at once, and arenas

@pytest.mark.parametrize("name, function, rows", [("chain", chain, [4] * 8), ("dynamic", dynamic, range(1, 9))])
def test_calls_in_threads_do_not_share_an_arena(programs, name, function, rows):
    failures = []
    gate = threading.Barrier(len(rows))

    def work(seed: int, count: int) -> None:
        a, w = x(count, 8, seed=seed), x(8, 8, seed=100 + seed)
        gate.wait()
        for _ in range(100):
            [y] = programs[name](a, w)
            if not torch.allclose(y, function(a, w), rtol=1e-4, atol=1e-4):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(rows)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_call_within_a_call_has_an_arena_of_its_own(programs, monkeypatch):
    """The library calls back into the same program, while temporaries of the outer call are alive."""
    module = lowered("chain")
    inner: list[torch.Tensor] = []
    real = find_call("aten.mm.out")
    program: HostProgram

    def product(a, b, *, out):
        real(a, b, out=out)
        if len(inner) < 3:
            inner.append(torch.empty(0))  # only so deep
            inner.append(program(x(4, 8, seed=7), w)[0])
        return out

    monkeypatch.setattr("tilewright.codegen.host.FAST_CALLS", {"aten.mm.out": product})
    from tilewright.codegen.cpp import print_file
    from tilewright.codegen.native import load_kernels
    from tilewright.ir.target import host_cpu

    kernels = [op for op in module.ops if isinstance(op, KernelOp)]
    functions = load_kernels(print_file(kernels, host_cpu()), [k.sym_name.data for k in kernels], host_cpu())
    program = HostProgram(module, functions)
    w = x(8, 8, seed=1)
    [outer] = program(x(4, 8), w)
    same(outer, chain(x(4, 8), w))
    for result in inner:
        if result.numel():
            same(result, chain(x(4, 8, seed=7), w))
    assert len(program.arenas()) >= 2


def test_a_failing_call_gives_its_arena_back(programs):
    program = programs["lookup"]
    a, w = x(4, 8), x(8, 8, seed=1)
    program(a, torch.tensor([0, 1, 3]), w)
    arenas = program.arenas()
    for _ in range(3):
        with pytest.raises(IndexError, match="out of range"):
            program(a, torch.tensor([0, 4, 1]), w)
    assert program.arenas() == arenas and len(arenas) == 1
    same(program(a, torch.tensor([-1, 2, -4]), w)[0], (torch.tanh(a) @ w)[[-1, 2, -4]])


@pytest.mark.parametrize("index", [4, -5, 2**40, -(2**63)])
def test_positions_out_of_range_are_index_errors(programs, index):
    with pytest.raises(IndexError):
        programs["lookup"](x(4, 8), torch.tensor([0, index, 0]), x(8, 8))


def test_arenas_grow_and_are_kept_while_sizes_shrink(programs):
    program, w = programs["dynamic"], x(8, 8, seed=1)
    sizes = []
    for rows in (3, 100, 2, 1000, 1, 0, 100):
        same(program(x(rows, 8), w)[0], dynamic(x(rows, 8), w) if rows else torch.empty(0, 8))
        assert len(program.arenas()) <= 8  # as many as calls were at once
        sizes.append(max(program.arenas()))
    assert sizes == sorted(sizes)


def test_what_is_made_for_a_size_is_kept_for_the_last_sizes(monkeypatch):
    monkeypatch.setattr(SizedArena, "FRAMES", 3)
    arena, made = SizedArena(), []

    def make(memory, n):
        made.append(n)
        return memory.data_ptr(), n

    def frame(n):
        address, size = arena.frame((n,), lambda n: 1024 * n, make)
        assert size == n and address % 64 == 0 and arena.memory.data_ptr() <= address
        assert address + 1024 * n <= arena.memory.data_ptr() + arena.memory.numel()

    for n in (4, 4, 2, 3, 4, 1, 2, 3, 4):  # 2 is the one not used for longest when 1 comes, then 3, 4
        frame(n)
    assert made == [4, 2, 3, 1, 2, 3, 4]
    frame(9)  # other memory
    frame(3)
    assert made[-2:] == [9, 3]


# Results

def test_results_are_fresh_in_each_call(programs):
    for name, arguments in {"chain": (x(4, 8), x(8, 8)), "dynamic": (x(3, 8), x(8, 8)), "opaque": (x(4, 8),)}.items():
        first = programs[name](*arguments)
        kept = [t.clone() for t in first]
        programs[name](*(a + 1 for a in arguments))
        for before, now in zip(kept, first):
            torch.testing.assert_close(before, now, rtol=0, atol=0)


def test_views_of_inputs_and_of_results_are_views(programs):
    a = x(4, 8)
    t, r, s = programs["views"](a)
    assert t.untyped_storage().data_ptr() == r.untyped_storage().data_ptr() == a.untyped_storage().data_ptr()
    torch.testing.assert_close([t, r, s], [a.t(), a.view(32), -a[1::2]], rtol=0, atol=0)
    assert t.stride() == (1, 8)
    part = x(5, 8)[1:]  # a storage offset of its own
    torch.testing.assert_close(programs["views"](part)[1], part.reshape(32), rtol=0, atol=0)


def test_values_returned_twice_and_inputs_returned(programs):
    a = x(4, 8)
    n, given, again = programs["same"](a)
    assert n is again and given is a
    torch.testing.assert_close(n, -a, rtol=0, atol=0)


def test_results_of_other_kinds(programs):
    small, nothing, y, large = programs["kinds"](x(3, 8), 50)
    assert (small, nothing, large) == (7, None, 50) and type(small) is int
    torch.testing.assert_close(y, -x(3, 8), rtol=0, atol=0)
    assert programs["kinds"](x(3, 8), 1)[3] == 3


def test_results_have_the_strides_that_the_caller_expects(programs):
    [y] = programs["order"](x(4, 8))
    assert y.stride() == (1, 4)
    torch.testing.assert_close(y, -x(4, 8), rtol=0, atol=0)


def test_a_program_without_arguments(programs):
    torch.testing.assert_close(programs["nothing"](), [torch.full((4, 8), 2.0)])


def test_names_of_the_model_do_not_hide_those_of_the_program(programs):
    tensors = [x(3, 8, seed=i) for i in range(7)]
    same(programs["odd_names"](*tensors)[0], sum(tensors))


# Inputs

@pytest.mark.parametrize("name, wrong", [
    ("chain", lambda a: a[:3]), ("chain", lambda a: a[:, :7]), ("chain", lambda a: a.reshape(-1)),
    ("chain", lambda a: a.double()), ("chain", lambda a: a.int()), ("dynamic", lambda a: a[:, :7]),
    ("dynamic", lambda a: a.bfloat16()), ("view_of_view", lambda a: a[:3]), ("view_of_view", lambda a: a.double()),
])
def test_other_shapes_and_dtypes_are_refused(programs, name, wrong):
    w = x(4, 3) if name == "view_of_view" else x(8, 8)
    with pytest.raises(InputError, match="argument 0 has shape"):
        programs[name](wrong(x(4, 8)), w)


def test_sizes_that_disagree_are_refused(programs):
    """s0 is read from the first argument: the second has other rows, or other columns."""
    for other in (x(4, 8), x(3, 9), x(2, 8)):
        with pytest.raises(InputError, match="argument 1 has shape"):
            programs["two"](x(3, 8), other)


@pytest.mark.parametrize("name, function", [("chain", chain), ("dynamic", dynamic)])
@pytest.mark.parametrize("layout", [
    lambda a: a.t().contiguous().t(), lambda a: a.repeat(1, 2)[:, :8], lambda a: a[:1].expand(4, 8),
    lambda a: torch.cat([a, a])[::2],
])
def test_inputs_in_other_layouts_are_copied(programs, name, function, layout):
    a, w = layout(x(4, 8)), x(8, 8, seed=1)
    same(programs[name](a, w.t().contiguous().t())[0], function(a, w))


def test_an_input_that_is_only_viewed_is_copied_where_its_layout_differs(programs):
    """No kernel and no call reads it directly: the view of its view does."""
    a, w = x(4, 8), x(4, 3, seed=1)
    for given in (a, a.t().contiguous().t(), a.repeat(1, 2)[:, :8]):
        same(programs["view_of_view"](given, w)[0], a.t()[1:] @ w)


def test_strides_of_dims_of_size_one_do_not_matter(programs):
    a = x(1, 8).as_strided((1, 8), (999, 1))
    same(programs["dynamic"](a, x(8, 8, seed=1))[0], dynamic(x(1, 8), x(8, 8, seed=1)))


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_tensors_without_elements(programs, rows):
    same(programs["two"](x(rows, 8), x(rows, 8, seed=1))[0], x(rows, 8) - x(rows, 8, seed=1))


# Weights

def test_weights_are_followed_when_they_change_in_any_way():
    program = with_static("chain", [1])
    a, w = x(4, 8), torch.nn.Parameter(x(8, 8, seed=1), requires_grad=False)
    same(program(a, w)[0], chain(a, w))
    w.mul_(2)
    same(program(a, w)[0], chain(a, w))
    w.data = x(8, 8, seed=2)
    same(program(a, w)[0], chain(a, w))
    w.data = w.data.t()  # the same address
    same(program(a, w)[0], chain(a, w))
    other = x(8, 8, seed=3)
    same(program(a, other)[0], chain(a, other))
    same(program(a, w)[0], chain(a, w))


def test_a_weight_in_another_layout_is_copied_for_each_call():
    """The copy must not outlive the call: a change in place would not be seen."""
    program = with_static("chain", [1])
    a, w = x(4, 8), x(8, 8, seed=1).t()
    same(program(a, w)[0], chain(a, w))
    w.mul_(2)
    same(program(a, w)[0], chain(a, w))


def test_weights_of_another_shape_are_refused():
    program = with_static("chain", [1])
    with pytest.raises(InputError, match="argument 1 has shape"):
        program(x(4, 8), x(8, 7))
    same(program(x(4, 8), x(8, 8))[0], chain(x(4, 8), x(8, 8)))


def test_a_dynamic_program_with_weights():
    program = with_static("dynamic", [1])
    for rows in (3, 5, 2):
        same(program(x(rows, 8), x(8, 8, seed=1))[0], dynamic(x(rows, 8), x(8, 8, seed=1)))


# Text

def test_the_program_reads_as_python(programs):
    source = programs["chain"].source
    compile(source, "<test>", "exec")
    assert "def run(args, weights, frame):" in source and "aten_mm" in source


def test_an_operator_that_torch_lacks_is_named():
    with pytest.raises(InputError, match=r"no operator 'aten\.nothing\.default'"):
        find_call("aten.nothing.default")
