"""Import rules of tensors that are made from nothing: splats, ranges, triangles."""

from __future__ import annotations

from typing import Any

import torch
from xdsl.ir import SSAValue

from tilewright.ir.dtypes import compute_dtype
from tilewright.ir.expr import Expr, IntExpr

from .call import Call, Operand, element, shape_of
from .table import imports, imports_each, refuse, refuse_if

aten = torch.ops.aten


def splat(call: Call, value: Operand) -> SSAValue:
    """Every element of the result is `value`."""
    if isinstance(value, (bool, int, float)):
        return call.build.constant(element(value, call.dtype), call.dtype, call.shape)
    refuse_if(not isinstance(value, (SSAValue, Expr)), f"a number of type {type(value).__name__}")
    return call.build.broadcast(call.value(value, call.dtype), call.shape)


@imports(aten.full.default)
def full(call: Call, size: Any, value: Operand, **_: Any) -> SSAValue:
    return splat(call, value)


@imports(aten.full_like.default)
def full_like(call: Call, x: SSAValue, value: Operand, **_: Any) -> SSAValue:
    return splat(call, value)


@imports(aten.new_full.default)
def new_full(call: Call, x: SSAValue, size: Any, value: Operand, **_: Any) -> SSAValue:
    return splat(call, value)


@imports(aten.scalar_tensor.default)
def scalar_tensor(call: Call, value: Operand, **_: Any) -> SSAValue:
    return splat(call, value)


@imports(aten.ones.default, aten.ones_like.default, aten.new_ones.default)
def ones(call: Call, *_: Any, **__: Any) -> SSAValue:
    return splat(call, 1)


@imports(
    aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default, aten.zero.default,
    # Uninitialised memory may hold anything, zeros among it.
    aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default, aten.empty_strided.default,
    aten.new_empty_strided.default, aten.empty_permuted.default,
)
def zeros(call: Call, *_: Any, **__: Any) -> SSAValue:
    return splat(call, 0)


@imports(aten.arange.default)
def arange_end(call: Call, end: Operand, **_: Any) -> SSAValue:
    return arange(call, 0, end)


@imports(aten.arange.start)
def arange_start(call: Call, start: Operand, end: Operand, **_: Any) -> SSAValue:
    return arange(call, start, end)


@imports(aten.arange.start_step)
def arange(call: Call, start: Operand, end: Operand, step: Operand = 1, **_: Any) -> SSAValue:
    """``start + step * i``; fractions are computed in float64, as ATen does for float32."""
    build, shape = call.build, call.shape
    whole = [integral(start), integral(step)]
    if whole[0] is not None and whole[1] is not None:
        return build.cast(build.iota(shape, "i64", 0, whole[0], whole[1]), call.dtype)
    refuse_if(not call.is_float, "a range of integers with fractions as bounds")
    wide = "f64" if call.dtype in ("f32", "f64") else compute_dtype(call.dtype)
    steps = build.map("mul", build.cast(build.iota(shape, "i64", 0), wide), call.value(step, wide))
    return build.cast(build.map("add", call.value(start, wide), steps), call.dtype)


@imports(
    aten.linspace.default, aten.linspace.Tensor_Tensor, aten.linspace.Tensor_Scalar, aten.linspace.Scalar_Tensor,
)
def linspace(call: Call, start: Operand, end: Operand, steps: IntExpr, **_: Any) -> SSAValue:
    """Equal steps in float64, counted from the nearer end, so that the last element is `end`."""
    build, wide = call.build, "f64"
    first, last = call.value(start, wide), call.value(end, wide)
    if not call.is_float:
        # Of integers the ends are cut off first, then each element.
        first, last = (build.cast(build.cast(bound, call.dtype), wide) for bound in (first, last))
    gaps = build.map("maximum", call.value(steps - 1, wide), call.value(1, wide))
    step = build.map("div", build.map("sub", last, first), gaps)
    place = build.iota(call.shape, "i64", 0)
    rest = build.map("sub", call.value(steps - 1, "i64"), place)
    from_start = build.map("add", first, build.map("mul", step, build.cast(place, wide)))
    from_end = build.map("sub", last, build.map("mul", step, build.cast(rest, wide)))
    # One step is the start.
    near_start = build.map("lt", place, build.map("maximum", rest, call.value(1, "i64")))
    return build.cast(build.where(near_start, from_start, from_end), call.dtype)


def integral(number: Operand) -> IntExpr | None:
    """The number as an integer expression, or None for a fraction."""
    if isinstance(number, (int, Expr)):
        return number
    if not isinstance(number, float):
        refuse(f"a bound of type {type(number).__name__}")
    return int(number) if number.is_integer() else None


@imports(aten.eye.default, aten.eye.m)
def eye(call: Call, *_: Any, **__: Any) -> SSAValue:
    rows, columns = row_and_column(call, 0)
    return call.build.cast(call.build.map("eq", rows, columns), call.dtype)


def row_and_column(call: Call, offset: IntExpr) -> tuple[SSAValue, SSAValue]:
    """Row numbers plus `offset` as [..., M, 1], and column numbers as [..., 1, N], of the result's last two dims."""
    rank = len(call.shape)
    ones: list[IntExpr] = [1] * (rank - 2)
    rows = call.build.iota([*ones, call.shape[-2], 1], "i64", rank - 2, offset)
    return rows, call.build.iota([*ones, 1, call.shape[-1]], "i64", rank - 1)


@imports_each({aten.tril.default: "le", aten.triu.default: "ge"})
def triangle(call: Call, fn: str, x: SSAValue, diagonal: IntExpr = 0) -> SSAValue:
    rows, columns = row_and_column(call, diagonal)
    assert shape_of(x) == call.shape
    return call.build.where(call.build.map(fn, columns, rows), x, call.value(0, call.dtype))
