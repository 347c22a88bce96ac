"""Types and attributes: what they print reads back to the same thing, and what is wrong is refused."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Attribute
from xdsl.parser import Parser
from xdsl.utils.exceptions import ParseError, VerifyException

from tilewright.ir.dtypes import DTYPES
from tilewright.ir.expr import parse, symbol
from tilewright.ir.text import context
from tilewright.ir.types import (
    ArenaType,
    BufferType,
    DimsAttr,
    RefType,
    ScalarAttr,
    TensorType,
    ValueType,
    broadcast_shapes,
    contiguous_strides,
)

DIMS = st.lists(
    st.one_of(st.integers(0, 1 << 40), st.sampled_from(["s0", "2*s0 + 1", "(s0//2)", "max(s0, s1)", "-s1"]).map(parse)),
    max_size=5,
)
DTYPE_NAMES = st.sampled_from(list(DTYPES))
NUMBERS = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=True, allow_infinity=True))


def read(text: str) -> Attribute:
    return Parser(context(), text).parse_attribute()


def bits(value: bool | int | float) -> object:
    """Equal for equal types and bits; every NaN is one."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    return type(value), value


@given(DIMS, DTYPE_NAMES)
def test_tensor_types_read_back(dims, dtype):
    assert read(str(TensorType.get(dims, dtype))) == TensorType.get(dims, dtype)


@given(DIMS, DTYPE_NAMES)
def test_buffer_types_read_back(dims, dtype):
    type = BufferType.get(dims, list(reversed(dims)), dtype)
    assert read(str(type)) == type


@given(DIMS)
def test_dims_read_back(dims):
    assert read(str(DimsAttr(dims))) == DimsAttr(dims)


@pytest.mark.parametrize("dtype", DTYPES)
def test_element_types_read_back(dtype):
    for type in (RefType.get(dtype), ValueType.get(dtype), ArenaType()):
        assert read(str(type)) == type


@given(NUMBERS)
def test_scalars_read_back_bit_for_bit(value):
    attribute = read(str(ScalarAttr(value)))
    assert isinstance(attribute, ScalarAttr)
    assert bits(attribute.data) == bits(value)
    assert attribute == ScalarAttr(value) and hash(attribute) == hash(ScalarAttr(value))


@pytest.mark.parametrize("value", [5e-324, 1.7976931348623157e308, -0.0, 1e16, 1e-5, 1e22, 2**70, -(2**70)])
def test_edge_scalars_read_back(value):
    attribute = read(str(ScalarAttr(value)))
    assert isinstance(attribute, ScalarAttr)
    assert bits(attribute.data) == bits(value)


def test_scalars_that_python_calls_equal_differ():
    different = [ScalarAttr(value) for value in (1, 1.0, True, 0, 0.0, -0.0, False, math.nan, math.inf, -math.inf)]
    assert len(set(different)) == len(different)
    assert ScalarAttr(math.nan) == ScalarAttr(-math.nan)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!tw.tensor<[2], f33>", "'f33' is not a dtype"),
        ("!tw.tensor<[-2], f32>", "negative size"),
        ('!tw.tensor<["2 +"], f32>', "not an integer expression"),
        ("!tw.tensor<[s.0], f32>", "not an integer expression"),
        ("!tw.tensor<[lambda], f32>", "expression"),
        ("!tw.tensor<[2.5], f32>", "integer"),
        ("!prog.buffer<[2, 3], [1], f32>", "one stride per dim"),
        ('#tw.scalar<"one">', "'one' is not a number"),
        ("!tile.ref<int>", "'int' is not a dtype"),
    ],
)
def test_wrong_text_is_refused(text, message):
    with pytest.raises((ParseError, VerifyException), match=message):
        read(text)


@pytest.mark.parametrize("data", [[True], ["s0"], [1.0], [None]])
def test_dims_are_integer_expressions(data):
    with pytest.raises(VerifyException, match="integer expressions"):
        DimsAttr(data)


def test_a_tensor_type_knows_its_sizes():
    type = TensorType.get([symbol("s0"), 3, 4], "bf16")
    assert (type.rank, type.numel, type.nbytes) == (3, 12 * symbol("s0"), 24 * symbol("s0"))
    assert type.element == StringAttr("bf16") and type.dtype == "bf16"


def test_ints_refuses_symbols():
    assert DimsAttr([2, 3]).ints() == (2, 3)
    with pytest.raises(ValueError, match=r"\[2, s0\] is not constant"):
        DimsAttr([2, symbol("s0")]).ints()


@pytest.mark.parametrize(
    ("shape", "strides"),
    [([], ()), ([5], (1,)), ([2, 3, 4], (12, 4, 1)), ([2, 0, 3], (3, 3, 1)), ([2, "s0"], ("s0", 1))],
)
def test_contiguous_strides(shape, strides):
    def sizes(entries):
        return tuple(symbol(e) if isinstance(e, str) else e for e in entries)

    assert contiguous_strides(sizes(shape)) == sizes(strides)


@pytest.mark.parametrize(
    ("shapes", "result"),
    [
        ([], ()), ([[2, 3]], (2, 3)), ([[3], [2, 1]], (2, 3)), ([[1], [0]], (0,)), ([["s0", 1], [1, 4]], ("s0", 4)),
        ([[], [2]], (2,)),
    ],
)
def test_broadcast_shapes(shapes, result):
    def sizes(entries):
        return tuple(symbol(e) if isinstance(e, str) else e for e in entries)

    assert broadcast_shapes([sizes(s) for s in shapes]) == sizes(result)


@pytest.mark.parametrize("shapes", [[[2], [3]], [[0], [2]], [["s0"], [2]], [["s0"], ["s1"]]])
def test_shapes_that_do_not_broadcast(shapes):
    with pytest.raises(ValueError, match="do not broadcast"):
        broadcast_shapes([[symbol(e) if isinstance(e, str) else e for e in s] for s in shapes])
