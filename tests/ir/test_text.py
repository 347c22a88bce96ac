"""Text round-trips exactly, locations included."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import (
    ArrayAttr,
    FileLineColLoc,
    FusedLoc,
    IntAttr,
    ModuleOp,
    NameLoc,
    NoneAttr,
    StringAttr,
)
from xdsl.ir import Operation

from tilewright.ir import prog, tile, tw
from tilewright.ir.errors import ParseError
from tilewright.ir.text import UNKNOWN, file_lines, fuse_locations, ops_around, parse_ir, print_ir

# Together they use every op of every dialect.
DATA = Path(__file__).parents[1] / "data"
TW, PROG = (DATA / "tw.mlir").read_text(), (DATA / "prog.mlir").read_text()
MODULES = {"tw": TW, "prog": PROG}


def line(file: str, number: int) -> FileLineColLoc:
    return FileLineColLoc(StringAttr(file), IntAttr(number), IntAttr(0))


ONE_OP = """
func.func @forward(%x: !tw.tensor<[4], f32>) -> !tw.tensor<[4], f32> {
  %0 = tw.aten "aten.neg.default" %x {arguments = "(['%0'], {})", strides = [#tw.dims<[1]>], reason = "none"}
    : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
  tw.return %0 : !tw.tensor<[4], f32>
}
"""


def one_op(location) -> ModuleOp:
    module = parse_ir(ONE_OP)
    ops(module)[0].location = location
    return module


def ops(module: ModuleOp) -> list[Operation]:
    function = module.body.block.last_op
    assert function is not None
    return list(function.regions[0].block.ops)


@pytest.mark.parametrize("name", MODULES)
def test_modules_round_trip_exactly(name):
    module = parse_ir(MODULES[name])
    assert print_ir(module) == MODULES[name]
    assert module.is_structurally_equivalent(parse_ir(print_ir(module)))


def test_the_modules_use_every_op():
    used = {type(op) for text in MODULES.values() for op in parse_ir(text).walk()}
    assert {*tw.Tw.operations, *tile.Tile.operations, *prog.Prog.operations} <= used


@pytest.mark.parametrize("name", MODULES)
def test_a_clone_prints_the_same(name):
    assert print_ir(parse_ir(MODULES[name]).clone()) == MODULES[name]


@given(st.text(max_size=20), st.text(max_size=20), st.integers(0, 10**6), st.integers(0, 200))
def test_locations_round_trip(name, file, number, column):
    place = FileLineColLoc(StringAttr(file), IntAttr(number), IntAttr(column))
    for location in (place, NameLoc(StringAttr(name), place), FusedLoc(ArrayAttr([place, line("b", 2)]), NoneAttr())):
        text = print_ir(one_op(location))
        again = parse_ir(text)
        assert ops(again)[0].location == location
        assert print_ir(again) == text


@given(st.text(max_size=30))
def test_strings_round_trip(reason):
    module = parse_ir(ONE_OP)
    ops(module)[0].properties["reason"] = StringAttr(reason)
    again = ops(parse_ir(print_ir(module)))[0]
    assert isinstance(again, tw.AtenOp) and again.reason.data == reason


@pytest.mark.parametrize("hints", [["a", "a", "a"], ["a", "a_1", None], [None, "x", None], ["arg", None, "arg"]])
def test_names_round_trip(hints):
    module = parse_ir(TW)
    for op, hint in zip(ops(module), hints):
        op.results[0].name_hint = hint
    text = print_ir(module)
    assert print_ir(parse_ir(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("builtin.module {", "1:17"),
        ("builtin.module { tw.nothing }", "tw.nothing"),
        ("func.func @f() {\n  tw.return %x : !tw.tensor<[2], f32>\n}", "x"),
        (TW.replace('"maximum"', '"maximam"'), "'maximam' is not a scalar function"),
        (TW.replace("start = #tw.dims<[s1]>", "start = #tw.dims<[s1]"), "4:"),
        (PROG.replace('reduce ["max"]', 'reduce ["mox"]'), "'mox' is not a reduction"),
        (PROG.replace('%scratch[i1]', '%scratch[i9]'), "i9, not in scope"),
    ],
)
def test_text_that_is_not_legal_is_refused(text, message):
    with pytest.raises(ParseError, match=message):
        parse_ir(text)


def test_file_lines_come_in_order_and_once():
    a, b = line("a.py", 1), line("b.py", 2)
    assert file_lines(fuse_locations([b, NameLoc(StringAttr("n"), a), b, UNKNOWN])) == ["b.py:2", "a.py:1"]
    assert file_lines(UNKNOWN) == []


def test_fusing_locations():
    a, b, c = (line("m.py", number) for number in (1, 2, 3))
    assert fuse_locations([]) == UNKNOWN
    assert fuse_locations([UNKNOWN, a, a]) == a
    nested = fuse_locations([fuse_locations([a, b]), c])
    assert nested == fuse_locations([a, b, c])


def test_ops_around_shows_neighbours():
    all_ops = ops(parse_ir(TW))
    for number, op in enumerate(all_ops):
        shown = ops_around(op, 10).splitlines()
        assert len(shown) == 10
        marked = [text for text in shown if text.startswith(">")]
        assert len(marked) == 1 and op.name in marked[0]
        assert len(ops_around(op, 3).splitlines()) == 3, number
    assert '%a = tw.map "maximum" %x, %c' in ops_around(all_ops[3])
