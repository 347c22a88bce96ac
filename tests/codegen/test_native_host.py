"""The host program in C++: what it passes to torch and leaves to Python, failures, modes of torch, its life."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from batched import native_programs, run_passes
from torch.nn import functional as F

import tilewright
from tilewright.codegen import native_host
from tilewright.codegen.cpp import Inexpressible, print_host
from tilewright.codegen.host import HostProgram, program_parts
from tilewright.codegen.libraries import open_count
from tilewright.codegen.native_host import NativeProgram
from tilewright.ir.errors import InputError
from tilewright.ir.text import parse_ir

X = "!tw.tensor<[4, 4], f32>"


def lowered(text: str):
    module = parse_ir(f"func.func @forward{text}", "test")
    run_passes(module, "fuse,lower,plan-memory")
    return module


def call(target: str, arguments: str, operands: str = X, strides: str = "#tw.dims<[4, 1]>", results: str = X) -> str:
    """A function of one library call on the argument's negative."""
    return f"""(%x: {operands}) -> {results} {{
        %n = tw.map "neg" %x : ({operands}) -> {operands}
        %r = tw.aten "{target}" %n {{arguments = "{arguments}", reason = "a test", strides = [{strides}]}}
          : ({operands}) -> ({results})
        tw.return %r : {results} }}"""


VECTOR = "!tw.tensor<[4], f32>"
CALLS = {
    "text and none": (call("aten.div.Tensor_mode", "(['%0', '%0'], {'rounding_mode': 'str:floor'})"),
                      lambda n: torch.div(n, n, rounding_mode="floor")),
    "optional left out": (call("aten.softmax.int", "(['%0', 1], {})"), lambda n: torch.softmax(n, 1)),
    "optional dtype": (call("aten.sum.dim_IntList", "(['%0', [1], False], {'dtype': 'dtype:f64'})",
                            strides="#tw.dims<[1]>", results="!tw.tensor<[4], f64>"),
                       lambda n: n.sum([1], dtype=torch.float64)),
    "lists of tensors": (call("aten.stack.default", "([['%0', '%0'], 1], {})", strides="#tw.dims<[8, 4, 1]>",
                              results="!tw.tensor<[4, 2, 4], f32>"), lambda n: torch.stack([n, n], 1)),
    "optional floats": (call("aten.nan_to_num.default", "(['%0', 0.5, 'float:inf', -2.0], {})"),
                        lambda n: n.nan_to_num(0.5, float("inf"), -2.0)),
    "another layout": (call("aten.t.default", "(['%0'], {})"), lambda n: n.t()),
    "rank": (call("aten.mean.default", "(['%0'], {})", strides="#tw.dims<[]>", results="!tw.tensor<[], f32>"),
             lambda n: n.mean()),
}


@pytest.fixture(scope="module")
def programs():
    texts = {name: text for name, (text, _) in CALLS.items()}
    texts["fails"] = call("aten.linalg_cholesky.default", "(['%0'], {})")
    texts["index"] = """(%x: !tw.tensor<[s0, 4], f32>, %n: index) -> !tw.tensor<[s0, 4], f32>
        attributes {symbols = {s0 = #tw.dims<[0, 0]>, s1 = #tw.dims<[1]>}} {
        %y = tw.map "neg" %x : (!tw.tensor<[s0, 4], f32>) -> !tw.tensor<[s0, 4], f32>
        tw.return %y : !tw.tensor<[s0, 4], f32> }"""
    texts["quotient"] = """(%n: index, %m: index) -> !tw.tensor<[], i64>
        attributes {result_kinds = ["int"], symbols = {s0 = #tw.dims<[0]>, s1 = #tw.dims<[1]>}} {
        %q = tw.size {value = #tw.dims<["s0//s1"]>} : !tw.tensor<[], i64>
        tw.return %q : !tw.tensor<[], i64> }"""
    return dict(zip(texts, native_programs([lowered(text) for text in texts.values()])))


def x(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CALLS)
def test_arguments_of_every_kind_reach_the_operator(programs, name):
    given = x(4, 4)
    given[0, 0] = float("nan")
    [result] = programs[name](given)
    torch.testing.assert_close(result, CALLS[name][1](-given), rtol=0, atol=0, equal_nan=True)
    assert name != "another layout" or result.stride() == (4, 1)


def test_a_failing_operator_raises_with_its_message(programs):
    program = programs["fails"]
    for _ in range(3):
        with pytest.raises(RuntimeError, match=r"linalg\.cholesky"):
            program(torch.eye(4))
    torch.testing.assert_close(program(-4 * torch.eye(4)), [2 * torch.eye(4)])
    assert len(program.arenas()) == 1


def test_what_the_interface_cannot_pass_is_said():
    text = call("aten.histc.default", "(['%0', 4, -1, 1], {})", strides="#tw.dims<[1]>", results=VECTOR)
    with pytest.raises(Inexpressible, match=r"aten\.histc\.default takes a number"):
        print_host(*program_parts(lowered(text)))


def test_a_graph_with_such_a_call_keeps_the_python_host():
    model = tilewright.compile(lambda a: torch.histc(a * 2, 4, -1, 1), (x(8),))
    assert isinstance(model.compilation.host, HostProgram) and not model.compilation.host_cpp
    [remark] = [r.message for r in model.compilation.remarks if r.pass_name == "host"]
    assert "takes a number" in remark
    torch.testing.assert_close(model(x(8)), torch.histc(x(8) * 2, 4, -1, 1))


def test_the_option_chooses_the_host():
    def function(a):
        return torch.tanh(a @ a) + 1

    for option, kind in (("cpp", NativeProgram), ("python", HostProgram)):
        model = tilewright.compile(function, (x(4, 4),), host=option)
        assert type(model.compilation.host) is kind
        assert "def run(args, weights, frame):" in model.compilation.host_source
        assert ("aoti_torch_cpu_mm_out" in model.compilation.host_cpp) == (option == "cpp")
        torch.testing.assert_close(model(x(4, 4)), function(x(4, 4)))


def test_the_host_is_not_optimized_and_the_kernels_are():
    """gcc's pragma holds for all that follows it in a file."""
    made = tilewright.compile(lambda x: torch.softmax(x, -1) @ x.t().contiguous(), (torch.randn(4, 8),))
    [source] = made.compilation.sources
    assert source.index('extern "C" int64_t softmax') < source.index('#include "tilewright_host.h"')
    assert source.count("#include") == 2 and "optimize(" not in source


def test_a_loaded_artifact_has_the_host_in_machine_code(tmp_path, monkeypatch):
    model = tilewright.compile(lambda a: torch.tanh(a @ a) + 1, (x(4, 4),))
    path = model.save(tmp_path / "m.tw")
    monkeypatch.setenv("CXX", "/nothing/c++")
    loaded = tilewright.load(path)
    assert loaded.compilation.host_cpp == model.compilation.host_cpp != ""
    torch.testing.assert_close(loaded(x(4, 4)), model(x(4, 4)), rtol=0, atol=0)


# Arguments

def test_subclasses_of_tensors_are_taken(programs):
    class Tagged(torch.Tensor):
        pass

    given = x(3, 4)
    torch.testing.assert_close(programs["index"](given.as_subclass(Tagged), 1), [-given], rtol=0, atol=0)
    torch.testing.assert_close(programs["index"](torch.nn.Parameter(given), 1), [-given], rtol=0, atol=0)


@pytest.mark.parametrize("arguments", [
    (torch.empty(3, 4, device="meta"), 1), (torch.eye(4).to_sparse(), 1), (x(3, 4),), (x(3, 4), 1, 2), (x(4), 1),
    (x(3, 4, 5), 1),
])
def test_other_tensors_and_counts_are_refused(programs, arguments):
    with pytest.raises((InputError, RuntimeError)):
        programs["index"](*arguments)


@pytest.mark.parametrize("arguments", [(x(3, 4), x(1)), (2, 1), (None, 1)])
def test_other_objects_are_refused(programs, arguments):
    with pytest.raises((TypeError, AttributeError, InputError)):
        programs["index"](*arguments)


def test_an_int_that_nothing_needs_is_not_read(programs):
    torch.testing.assert_close(programs["index"](x(3, 4), "1"), [-x(3, 4)], rtol=0, atol=0)
    with pytest.raises(TypeError):
        programs["quotient"](7, "2")


def test_sizes_are_not_divided_by_zero(programs):
    assert programs["quotient"](7, 2) == [3] and programs["quotient"](-7, 2) == [-4]
    with pytest.raises(InputError, match="divide by 0"):
        programs["quotient"](7, 0)


# Modes of torch, Python within a call, and the library's life

def test_calls_in_and_out_of_inference_mode():
    """What is kept from one call to the next must serve in either mode."""
    def function(q, w):
        attended = F.scaled_dot_product_attention(q.tanh(), q.sigmoid(), q.relu())
        return torch.tanh(attended.tanh() @ w) @ w

    q, w = x(2, 3, 5, 8), x(8, 8)
    for first in (True, False):
        model = tilewright.compile(function, (q, w))
        assert isinstance(model.compilation.host, NativeProgram)
        for mode in (first, not first, first):
            with torch.inference_mode(mode):
                result = model(q, w)
                assert result.is_inference() == mode
            torch.testing.assert_close(result, function(q, w))


def test_an_operator_in_python_runs_within_a_call():
    @torch.library.custom_op("tilewright_test::twice", mutates_args=())
    def twice(a: torch.Tensor) -> torch.Tensor:
        if a[0, 0] > 100:
            raise KeyError("too large")
        return a * 2

    twice.register_fake(torch.empty_like)
    model = tilewright.compile(lambda a: twice(a + 1).tanh(), (x(4, 4),))
    assert "tilewright_test::twice" in model.compilation.host_cpp
    torch.testing.assert_close(model(x(4, 4)), torch.tanh((x(4, 4) + 1) * 2))
    with pytest.raises((KeyError, RuntimeError), match="too large"):
        model(x(4, 4) + 1000)
    torch.testing.assert_close(model(x(4, 4)), torch.tanh((x(4, 4) + 1) * 2))


def test_gradients_of_a_convolution_leave_out_what_nobody_wants():
    weight = x(3, 2, 3, 3).requires_grad_()
    compiled = torch.compile(lambda a, w: F.conv2d(a, w).tanh(), backend="tilewright")
    compiled(x(2, 2, 5, 7), weight).sum().backward()
    expected = x(3, 2, 3, 3).requires_grad_()
    F.conv2d(x(2, 2, 5, 7), expected).tanh().sum().backward()
    torch.testing.assert_close(weight.grad, expected.grad)


def test_a_collected_program_closes_its_library():
    """A program in a cycle: the collector must not close a library whose code frees the program."""
    before = open_count()
    model = tilewright.compile(lambda a: torch.tanh(a @ a) * 7.25, (x(4, 4),))
    result, alive = model(x(4, 4)), weakref.ref(model.compilation.host)
    cycle = [model]
    cycle.append(cycle)
    del model, cycle
    gc.collect()
    assert alive() is None and open_count() <= before
    torch.testing.assert_close(result, torch.tanh(x(4, 4) @ x(4, 4)) * 7.25)


def test_a_process_that_lacks_a_function_keeps_the_python_host(monkeypatch):
    monkeypatch.setitem(native_host._MANGLED, "THPVariable_Wrap", "not_there")
    native_host._api.cache_clear()
    try:
        model = tilewright.compile(lambda a: torch.tanh(a) * 3.75, (x(4, 4),))
        assert isinstance(model.compilation.host, HostProgram)
        assert any("not_there" in r.message for r in model.compilation.remarks)
    finally:
        monkeypatch.undo()
        native_host._api.cache_clear()
    torch.testing.assert_close(model(x(4, 4)), torch.tanh(x(4, 4)) * 3.75)


# Memory of results

@pytest.fixture(scope="module")
def counting():
    """An operator that doubles, and says how many of its earlier results are alive when it is called."""
    made, alive = [], []

    @torch.library.custom_op("tilewright_test::counting", mutates_args=())
    def counting(a: torch.Tensor) -> torch.Tensor:
        alive.append(sum(result() is not None for result in made))
        made.append(weakref.ref(result := a * 2))
        return result

    counting.register_fake(torch.empty_like)

    def count(model, *args):
        made.clear()
        alive.clear()
        result = model(*args)
        return list(alive), result

    return counting, count


@pytest.mark.parametrize("host", ["cpp", "python"])
@pytest.mark.parametrize(("name", "expected"), [
    ("chain", [0, 1, 1, 1]), ("views", [0, 1, 1, 1]), ("read twice", [0, 1, 2, 0]), ("returned", [0, 1, 2, 2]),
    ("view returned", [0, 1, 2, 2]),
])
def test_results_of_library_calls_live_until_their_last_reader(counting, host, name, expected):
    op, count = counting
    functions = {
        "chain": lambda a: op(op(op(op(a)))),
        "views": lambda a: op(op(op(op(a)[1:].t())[:2].t())),
        "read twice": lambda a: op(op(op(b := op(a))) + b),
        "returned": lambda a: (b := op(a), op(op(op(b)))),
        "view returned": lambda a: ((b := op(a))[1:].t(), op(op(op(b)))),
    }
    model = tilewright.compile(functions[name], (x(4, 6),), host=host)
    for _ in range(2):
        alive, result = count(model, x(4, 6))
        assert alive == expected
        torch.testing.assert_close(result, functions[name](x(4, 6)), rtol=0, atol=0)
