"""Import rules of look-ups by value: membership, and positions in sorted sequences."""

from __future__ import annotations

import torch
from xdsl.ir import SSAValue

from tilewright.ir.expr import product

from .call import Call, Operand, common_dtype, shape_of
from .table import imports, refuse, refuse_if

aten = torch.ops.aten

MOST_TEST_ELEMENTS = 512
"""Comparing with each of more values would take longer than sorting them."""


@imports(aten.isin.Tensor_Tensor, aten.isin.Scalar_Tensor)
def isin(
    call: Call, elements: Operand, tests: SSAValue, assume_unique: bool = False, invert: bool = False
) -> SSAValue:
    """Whether an element equals any of the test elements."""
    build, count = call.build, product(shape_of(tests))
    refuse_if(not isinstance(count, int), "isin of a symbolic number of values")
    refuse_if(isinstance(count, int) and count > MOST_TEST_ELEMENTS, "isin of many values, which sorting does faster")
    dtype = common_dtype(elements, tests)
    value = call.value(elements, dtype)
    column = build.reshape(value, [*shape_of(value), 1])
    same = build.map("eq", column, build.cast(build.reshape(tests, [count]), dtype))
    found = call.reshape(build.reduce("any", same, [len(shape_of(value))]))
    return build.map("not", found) if invert else found


@imports(aten.isin.Tensor_Scalar)
def isin_number(
    call: Call, elements: SSAValue, test: Operand, assume_unique: bool = False, invert: bool = False
) -> SSAValue:
    dtype = common_dtype(elements, test)
    return call.build.map("ne" if invert else "eq", call.value(elements, dtype), call.value(test, dtype))


@imports(aten.bucketize.Tensor, aten.bucketize.Scalar)
def bucketize(
    call: Call, values: Operand, boundaries: SSAValue, out_int32: bool = False, right: bool = False
) -> SSAValue:
    return place_in(call, boundaries, values, right, None)


@imports(aten.searchsorted.Tensor, aten.searchsorted.Scalar)
def searchsorted(
    call: Call, sequence: SSAValue, values: Operand, out_int32: bool = False, right: bool = False,
    side: str | None = None, sorter: SSAValue | None = None,
) -> SSAValue:
    return place_in(call, sequence, values, right or side == "right", sorter)


def place_in(
    call: Call, sequence: SSAValue, values: Operand, right: bool, sorter: SSAValue | None
) -> SSAValue:
    """How many elements of the last dim of `sequence` come before each value: a bisection, its steps written out.

    Each row of values has its row of the sequence, or all share the one. With `right`, elements equal to the value
    come before it. NaN comes last.
    """
    build, length = call.build, shape_of(sequence)[-1]
    if not isinstance(length, int):
        refuse("a search in a sequence of symbolic length")
    dtype = common_dtype(sequence, values)
    value = call.value(values, dtype)
    shape = shape_of(value)
    start: SSAValue = build.constant(0, "i64", shape)
    if length == 0:
        return build.cast(start, call.dtype)
    end: SSAValue = build.constant(length, "i64", shape)
    one, last = call.value(1, "i64"), call.value(length - 1, "i64")
    for _ in range(length.bit_length()):
        searching = build.map("lt", start, end)
        middle = build.map("shr", build.map("add", start, end), one)
        element = build.cast(look_up(call, sequence, build.map("minimum", middle, last), sorter), dtype)
        # Negated, so that NaN, with which no comparison holds, comes last.
        before = build.map("not", build.map("gt" if right else "ge", element, value))
        start = build.where(build.map("and", searching, before), build.map("add", middle, one), start)
        end = build.where(build.map("and", searching, build.map("not", before)), middle, end)
    return build.cast(start, call.dtype)


def look_up(call: Call, sequence: SSAValue, place: SSAValue, sorter: SSAValue | None) -> SSAValue:
    """The element at `place` (which is never out of range) of each row."""
    build, shape = call.build, shape_of(sequence)
    if len(shape) > 1:
        # Rows lie one after the other.
        row = build.constant(0, "i64", [1] * len(shape))
        for dim, step in enumerate(product(shape[d + 1 :]) for d in range(len(shape) - 1)):
            line = [size if d == dim else 1 for d, size in enumerate(shape_of(place))]
            refuse_if(not isinstance(step, int), "a search in rows of symbolic length")
            row = build.map("add", row, build.iota(line, "i64", dim, 0, step))
        place = build.map("add", place, row)
        sequence = build.reshape(sequence, [product(shape)])
    if sorter is not None:
        rank = len(shape)
        refuse_if(rank > 1, "a search in several sequences by a sorter")
        place = build.gather(sorter, [place], [0], wrap=False)
    return build.gather(sequence, [place], [0], wrap=False)
