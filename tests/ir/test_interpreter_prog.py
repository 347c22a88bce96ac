"""Programs over an arena, run by the interpreter; and memory plans with mistakes, which it must catch."""

import pytest
import torch

from tilewright.ir.errors import InterpreterError
from tilewright.ir.interpreter import run
from tilewright.ir.text import parse_ir

KERNELS = """
  tile.kernel @double(%x: !tile.ref<f32>, %y: !tile.ref<f32>) {kind = "loop", outputs = #tw.dims<[1]>, sizes = ["s0"]} {
    tile.for i0 in ["4*s0"] vector {
      %a = tile.load %x[i0] : f32
      %b = tile.map "add" %a, %a : f32
      tile.store %y[i0], %b
    }
  }
  tile.kernel @add(%x: !tile.ref<f32>, %y: !tile.ref<f32>, %z: !tile.ref<f32>)
      {kind = "loop", outputs = #tw.dims<[2]>, sizes = ["s0"]} {
    tile.for i0 in ["4*s0"] vector {
      %a = tile.load %x[i0] : f32
      %b = tile.load %y[i0] : f32
      %c = tile.map "add" %a, %b : f32
      tile.store %z[i0], %c
    }
  }"""
B = "!prog.buffer<[s0, 4], [4, 1], f32>"


def program(body: str, result: str = B, attributes: str = ""):
    attributes = f" attributes {{{attributes}}}" if attributes else ""
    return parse_ir(
        f"builtin.module {{ {KERNELS}\n func.func @forward(%x: {B}) -> {result}{attributes} {{\n{body}\n}} }}"
    )


def chain(second: str = '"16*s0"', size: str = '"32*s0"', last: str = "%b, %c, %o") -> str:
    """o = 2x + 4x, through two temporaries; the second one's offset and the arena's size can be set."""
    return f"""
      %arena = prog.arena {{size = #tw.dims<[{size}]>}} : !prog.arena_type
      %b = prog.buffer %arena {{offset = #tw.dims<[0]>, live = #tw.dims<[0, 2]>}} : {B}
      %c = prog.buffer %arena {{offset = #tw.dims<[{second}]>, live = #tw.dims<[1, 2]>}} : {B}
      %o = prog.output : {B}
      prog.launch @double %x, %b : {B}, {B}
      prog.launch @double %b, %c : {B}, {B}
      prog.launch @add {last} : {B}, {B}, {B}
      prog.return %o : {B}"""


@pytest.mark.parametrize("precision,dtype", [("native", torch.float32), ("f64", torch.float64)])
def test_temporaries_in_an_arena(precision, dtype):
    x = torch.randn(3, 4)
    [y] = run(program(chain()), [x], precision=precision)
    assert y.dtype == dtype
    torch.testing.assert_close(y, 6 * x.to(dtype))


@pytest.mark.parametrize("precision", ["native", "f64"])
def test_a_buffer_written_over_while_it_is_read_is_caught(precision):
    with pytest.raises(InterpreterError, match=r'prog.launch .*double.*: reads %b while writing %c over it'):
        run(program(chain(second='"16*s0 - 4"', size='"40*s0"')), [torch.randn(3, 4)], precision=precision)


@pytest.mark.parametrize("precision", ["native", "f64"])
def test_a_buffer_written_over_before_it_is_read_is_caught(precision):
    """%c takes %b's place one launch too early."""
    body = f"""
      %arena = prog.arena {{size = #tw.dims<["16*s0"]>}} : !prog.arena_type
      %b = prog.buffer %arena {{offset = #tw.dims<[0]>, live = #tw.dims<[0, 2]>}} : {B}
      %c = prog.buffer %arena {{offset = #tw.dims<[0]>, live = #tw.dims<[1, 2]>}} : {B}
      %o = prog.output : {B}
      prog.launch @double %x, %b : {B}, {B}
      prog.launch @double %x, %c : {B}, {B}
      prog.launch @add %c, %b, %o : {B}, {B}, {B}
      prog.return %o : {B}"""
    with pytest.raises(InterpreterError, match="reads %b, which %c has overwritten"):
        run(program(body), [torch.randn(3, 4)], precision=precision)


def test_reading_what_was_never_written_is_caught():
    with pytest.raises(InterpreterError, match="reads %c, which was never written"):
        run(program(chain(last="%b, %c, %o").replace("prog.launch @double %b, %c", "prog.launch @double %b, %o")),
            [torch.randn(3, 4)])


@pytest.mark.parametrize("second,size,message", [
    ('"16*s0"', '"16*s0"', r"bytes \[48, 96\) leave the arena of 48 bytes"),
    ('"16*s0 + 2"', '"64*s0"', "byte 50 is not aligned"),
])
def test_buffers_that_do_not_fit_the_arena(second, size, message):
    with pytest.raises(InterpreterError, match=f"prog.buffer: {message}"):
        run(program(chain(second, size)), [torch.randn(3, 4)])


@pytest.mark.parametrize("precision", ["native", "f64"])
def test_views_and_library_calls(precision):
    """y = xᵀ x into a temporary with out=, then a fresh result of the library's."""
    body = f"""
      %arena = prog.arena {{size = #tw.dims<[64]>}} : !prog.arena_type
      %b = prog.buffer %arena {{offset = #tw.dims<[0]>, live = #tw.dims<[0, 1]>}} : !prog.buffer<[4, 4], [4, 1], f32>
      %t = prog.view %x {{offset = #tw.dims<[0]>}} : {B} -> !prog.buffer<[4, s0], [1, 4], f32>
      prog.extern "aten.mm.out" %t, %x, %b {{arguments = "(['%0', '%1'], {{'out': '%2'}})"}}
        : (!prog.buffer<[4, s0], [1, 4], f32>, {B}, !prog.buffer<[4, 4], [4, 1], f32>) -> ()
      %row = prog.view %b {{offset = #tw.dims<[4]>}} : !prog.buffer<[4, 4], [4, 1], f32> -> !prog.buffer<[4], [1], f32>
      %r = prog.extern "aten.relu.default" %row {{arguments = "(['%0'], {{}})"}}
        : (!prog.buffer<[4], [1], f32>) -> !prog.buffer<[4], [1], f32>
      prog.return %r : !prog.buffer<[4], [1], f32>"""
    x = torch.randn(3, 4)
    [r] = run(program(body, "!prog.buffer<[4], [1], f32>"), [x], precision=precision)
    x = x.to(r.dtype)
    torch.testing.assert_close(r, (x.t() @ x)[1].relu())


def test_a_view_that_leaves_its_source_is_caught():
    body = f"""
      %v = prog.view %x {{offset = #tw.dims<[1]>}} : {B} -> {B}
      prog.return %v : {B}"""
    with pytest.raises(InterpreterError, match=r"prog.view: elements \[1, 13\) leave the source's 12"):
        run(program(body), [torch.randn(3, 4)])


def extern(target: str, result: str):
    return program(f"""
      %r = prog.extern "{target}" %x {{arguments = "(['%0'], {{}})"}} : ({B}) -> {result}
      prog.return %r : {result}""", result)


@pytest.mark.parametrize("precision", ["native", "f64"])
def test_a_library_result_is_laid_out_as_its_type_says(precision):
    module = extern("aten.t_copy.default", "!prog.buffer<[4, s0], [1, 4], f32>")
    x = torch.randn(3, 4)
    [result] = run(module, [x], precision=precision)
    assert result.stride() == (1, 4) and torch.equal(result, x.to(result.dtype).t())


def test_a_library_result_with_another_shape_is_caught():
    with pytest.raises(InterpreterError, match=r'aten.relu.default": the value has shape \[3, 4\]'):
        run(extern("aten.relu.default", "!prog.buffer<[s0, 5], [5, 1], f32>"), [torch.randn(3, 4)])


def test_an_out_buffer_of_the_wrong_shape_is_caught():
    body = f"""
      %o = prog.output : !prog.buffer<[5], [1], f32>
      prog.extern "aten.relu.out" %x, %o {{arguments = "(['%0'], {{'out': '%1'}})"}}
        : ({B}, !prog.buffer<[5], [1], f32>) -> ()
      prog.return %o : !prog.buffer<[5], [1], f32>"""
    with pytest.raises(InterpreterError, match="does not have the shape of the buffer"):
        run(program(body, "!prog.buffer<[5], [1], f32>"), [torch.randn(3, 4)])


def test_a_library_view_of_a_temporary_is_valid_only_as_long_as_the_temporary():
    body = f"""
      %arena = prog.arena {{size = #tw.dims<["16*s0"]>}} : !prog.arena_type
      %b = prog.buffer %arena {{offset = #tw.dims<[0]>, live = #tw.dims<[0, 1]>}} : {B}
      %c = prog.buffer %arena {{offset = #tw.dims<[0]>, live = #tw.dims<[2, 3]>}} : {B}
      %o = prog.output : {B}
      prog.launch @double %x, %b : {B}, {B}
      %v = prog.extern "aten.alias.default" %b {{arguments = "(['%0'], {{}})"}} : ({B}) -> {B}
      prog.launch @double %x, %c : {B}, {B}
      prog.launch @add %v, %x, %o : {B}, {B}, {B}
      prog.return %o : {B}"""
    with pytest.raises(InterpreterError, match="which %c has overwritten"):
        run(program(body), [torch.randn(3, 4)])


def test_inputs_are_laid_out_as_the_program_says():
    module = program(f"%o = prog.output : {B}\n prog.launch @double %x, %o : {B}, {B}\n prog.return %o : {B}")
    x = torch.randn(4, 3).t()
    assert torch.equal(run(module, [x])[0], 2 * x)
    base = torch.randn(3, 9)
    assert torch.equal(run(module, [base[:, 1:5]])[0], 2 * base[:, 1:5])


def test_an_unknown_kernel_is_named():
    module = program(f"%o = prog.output : {B}\n prog.launch @gone %x, %o : {B}, {B}\n prog.return %o : {B}")
    with pytest.raises(InterpreterError, match="the module has no kernel @gone"):
        run(module, [torch.randn(3, 4)])


def test_result_kinds_of_a_program():
    body = f"""
      %n = prog.output : !prog.buffer<[], [], i64>
      prog.launch @count %n : !prog.buffer<[], [], i64>
      prog.return %n, %x : !prog.buffer<[], [], i64>, {B}"""
    count = """
      tile.kernel @count(%n: !tile.ref<i64>) {kind = "loop", outputs = #tw.dims<[0]>, sizes = ["s0"]} {
        %v = tile.expr ["3*s0"] : i64
        tile.store %n[0], %v
      }"""
    module = parse_ir(
        f"builtin.module {{ {count} func.func @forward(%x: {B}) -> (!prog.buffer<[], [], i64>, {B}) "
        f'attributes {{result_kinds = ["int", "none", "tensor"]}} {{ {body} }} }}'
    )
    x = torch.randn(5, 4)
    number, nothing, tensor = run(module, [x])
    assert (number, nothing) == (15, None) and type(number) is int and torch.equal(tensor, x)


def test_empty_sizes():
    [y] = run(program(chain()), [torch.zeros(0, 4)])
    assert y.shape == (0, 4)
