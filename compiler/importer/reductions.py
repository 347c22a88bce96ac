"""Import rules of reductions and scans. `tw.reduce` keeps the reduced dims; a reshape drops them where ATen does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from xdsl.ir import SSAValue

from tilewright.ir.dtypes import compute_dtype
from tilewright.ir.expr import product
from tilewright.ir.scalars import BOOL, kind_of

from .call import Call, Operand, dtype_of, is_float, normal_dim, normal_dims, shape_of
from .elementwise import truth
from .table import imports, imports_each, refuse_if
from .views import diagonal_of

aten = torch.ops.aten

Dims = int | Sequence[int] | None


def reduce(call: Call, fn: str, x: SSAValue, dims: Dims) -> SSAValue:
    """`x` combined over `dims`, which stay with size 1."""
    axes = normal_dims(dims, len(shape_of(x)))
    return call.build.reduce(fn, x, axes) if axes else x


@imports(aten.sum.default, aten.sum.dim_IntList)
def sum_(call: Call, x: SSAValue, dims: Dims = None, keepdim: bool = False, dtype: Any = None) -> SSAValue:
    return call.reshape(reduce(call, "sum", call.value(x, call.dtype), dims))


@imports(aten.mean.default, aten.mean.dim)
def mean(call: Call, x: SSAValue, dims: Dims = None, keepdim: bool = False, dtype: Any = None) -> SSAValue:
    return call.reshape(call.narrow(mean_of(call, call.wide(x), normal_dims(dims, len(shape_of(x))))))


def mean_of(call: Call, x: SSAValue, axes: Sequence[int]) -> SSAValue:
    """The mean over `axes`, which stay with size 1."""
    if not axes:
        return x
    total = call.build.reduce("sum", x, axes)
    return call.build.map("div", total, call.count(x, axes, dtype_of(x)))


@imports_each({aten.amax.default: "max", aten.amin.default: "min"})
def extreme(call: Call, fn: str, x: SSAValue, dims: Dims = None, keepdim: bool = False) -> SSAValue:
    return call.reshape(reduce(call, fn, x, dims))


@imports_each({aten.max.default: "max", aten.min.default: "min"})
def extreme_of_all(call: Call, fn: str, x: SSAValue) -> SSAValue:
    return call.reshape(reduce(call, fn, x, None))


@imports_each({aten.max.dim: "max", aten.min.dim: "min"})
def extreme_with_place(call: Call, fn: str, x: SSAValue, dim: int, keepdim: bool = False) -> list[SSAValue]:
    values = call.reshape(reduce(call, fn, x, dim))
    if not shape_of(x):
        return [values, call.build.constant(0, "i64")]
    place = call.build.reduce(f"arg{fn}", x, normal_dims(dim, len(shape_of(x))))
    return [values, call.reshape(place, 1)]


@imports_each({aten.argmax.default: "argmax", aten.argmin.default: "argmin"})
def place_of_extreme(call: Call, fn: str, x: SSAValue, dim: int | None = None, keepdim: bool = False) -> SSAValue:
    if not shape_of(x):
        return call.build.constant(0, "i64", call.shape)
    if dim is None:
        x, dim = call.build.reshape(x, [product(shape_of(x))]), 0
    return call.reshape(call.build.reduce(fn, x, [normal_dim(dim, len(shape_of(x)))]))


@imports_each({
    aten.any.default: "any", aten.any.dim: "any", aten.any.dims: "any",
    aten.all.default: "all", aten.all.dim: "all", aten.all.dims: "all",
})
def quantifier(call: Call, fn: str, x: SSAValue, dims: Dims = None, keepdim: bool = False) -> SSAValue:
    # An empty list of dims reduces nothing here, unlike no list.
    result = truth(call, x)
    if not (isinstance(dims, list) and not dims):
        result = reduce(call, fn, result, dims)
    return call.reshape(call.narrow(result))


@imports(aten.prod.default)
def prod(call: Call, x: SSAValue, dtype: Any = None) -> SSAValue:
    return call.reshape(reduce(call, "prod", call.value(x, call.dtype), None))


@imports(aten.prod.dim_int)
def prod_dim(call: Call, x: SSAValue, dim: int, keepdim: bool = False, dtype: Any = None) -> SSAValue:
    return call.reshape(reduce(call, "prod", call.value(x, call.dtype), dim))


def mean_and_variance(
    call: Call, x: SSAValue, axes: Sequence[int], correction: Operand = 0
) -> tuple[SSAValue, SSAValue]:
    """Both over `axes`, which stay with size 1, in two passes."""
    build, dtype = call.build, dtype_of(x)
    center = mean_of(call, x, axes)
    deviation = build.map("sub", x, center)
    squares = build.map("mul", deviation, deviation)
    if axes:
        squares = build.reduce("sum", squares, axes)
    count = call.count(x, axes, dtype)
    if correction != 0:
        count = build.map("sub", count, call.value(correction, dtype))
        count = build.map("maximum", count, call.value(0, dtype))
    return center, build.map("div", squares, count)


def statistics(call: Call, x: SSAValue, dims: Dims, correction: Operand | None) -> tuple[SSAValue, SSAValue]:
    """In f64, as in ATen, whose result is therefore rounded once."""
    refuse_if(not isinstance(correction, (int, float, type(None))), "a symbolic correction")
    axes = normal_dims(dims, len(shape_of(x)))
    return mean_and_variance(call, call.value(x, "f64"), axes, 1 if correction is None else correction)


@imports(aten.var.correction)
def var(call: Call, x: SSAValue, dims: Dims = None, correction: Any = None, keepdim: bool = False) -> SSAValue:
    return call.reshape(call.narrow(statistics(call, x, dims, correction)[1]))


@imports(aten.std.correction)
def std(call: Call, x: SSAValue, dims: Dims = None, correction: Any = None, keepdim: bool = False) -> SSAValue:
    return call.reshape(call.narrow(call.build.map("sqrt", statistics(call, x, dims, correction)[1])))


@imports(aten.var_mean.correction)
def var_mean(
    call: Call, x: SSAValue, dims: Dims = None, correction: Any = None, keepdim: bool = False
) -> list[SSAValue]:
    center, variance = statistics(call, x, dims, correction)
    return [call.reshape(call.narrow(variance)), call.reshape(call.narrow(center, 1), 1)]


@imports(aten.std_mean.correction)
def std_mean(
    call: Call, x: SSAValue, dims: Dims = None, correction: Any = None, keepdim: bool = False
) -> list[SSAValue]:
    center, variance = statistics(call, x, dims, correction)
    deviation = call.build.map("sqrt", variance)
    return [call.reshape(call.narrow(deviation)), call.reshape(call.narrow(center, 1), 1)]


@imports(aten.logsumexp.default)
def logsumexp(call: Call, x: SSAValue, dims: Dims, keepdim: bool = False) -> SSAValue:
    build, wide = call.build, call.wide(x)
    top = reduce(call, "max", wide, dims)
    # An infinite maximum would give inf - inf.
    top = build.where(build.map("isinf", top), call.wide(0), top)
    total = reduce(call, "sum", build.map("exp", build.map("sub", wide, top)), dims)
    return call.reshape(call.narrow(build.map("add", build.map("log", total), top)))


@imports(aten.cumsum.default)
def cumsum(call: Call, x: SSAValue, dim: int, dtype: Any = None) -> SSAValue:
    value = call.value(x, call.dtype)
    return call.build.scan("sum", value, normal_dim(dim, len(call.shape))) if call.shape else value


@imports(aten.cumprod.default)
def cumprod(call: Call, x: SSAValue, dim: int, dtype: Any = None) -> SSAValue:
    value = call.value(x, call.dtype)
    return call.build.scan("prod", value, normal_dim(dim, len(call.shape))) if call.shape else value


@imports(aten.logcumsumexp.default)
def logcumsumexp(call: Call, x: SSAValue, dim: int) -> SSAValue:
    return call.build.scan("logsumexp", x, normal_dim(dim, len(call.shape))) if call.shape else x


@imports_each({aten.cummax.default: "max", aten.cummin.default: "min"})
def running_extreme(call: Call, fn: str, x: SSAValue, dim: int) -> list[SSAValue]:
    if not call.shape:
        return [x, call.build.constant(0, "i64")]
    axis = normal_dim(dim, len(call.shape))
    return [call.build.scan(name, x, axis) for name in (fn, f"arg{fn}")]


@imports(aten.nansum.default)
def nansum(call: Call, x: SSAValue, dims: Dims = None, keepdim: bool = False, dtype: Any = None) -> SSAValue:
    if is_float(x):
        x = call.build.where(call.build.map("isnan", x), call.value(0, dtype_of(x)), x)
    return sum_(call, x, dims, keepdim)


@imports(aten.aminmax.default)
def both_extremes(call: Call, x: SSAValue, dim: int | None = None, keepdim: bool = False) -> list[SSAValue]:
    return [call.reshape(reduce(call, fn, x, dim), i) for i, fn in enumerate(("min", "max"))]


@imports(aten.trace.default)
def trace(call: Call, x: SSAValue) -> SSAValue:
    height, width = shape_of(x)
    refuse_if(not isinstance(height, int) or not isinstance(width, int), "a diagonal of symbolic length")
    count = min(height, width)  # type: ignore[type-var]
    return call.reshape(reduce(call, "sum", call.value(diagonal_of(call, x, 0, 0, 1, count), call.dtype), 0))


@imports(aten.linalg_vector_norm.default)
def vector_norm(
    call: Call, x: SSAValue, order: Any = 2, dims: Dims = None, keepdim: bool = False, dtype: Any = None
) -> SSAValue:
    wide = call.build.cast(call.value(x, call.dtype), compute_dtype(call.dtype))
    return call.reshape(call.narrow(norm(call, wide, order, dims)))


def norm(call: Call, x: SSAValue, order: int | float, dims: Dims) -> SSAValue:
    """The norm of real `order` over `dims`, which stay with size 1. Of order 0: how many elements are not zero."""
    build, dtype = call.build, dtype_of(x)
    shape = shape_of(x)
    if order != 0 and all(shape[d] == 1 for d in normal_dims(dims, len(shape))):
        return build.map("abs", x)  # of one element, whose square may be infinite
    if order == 2:
        return build.map("sqrt", reduce(call, "sum", build.map("mul", x, x), dims))
    if order == 0:
        return reduce(call, "sum", build.cast(build.map("ne", x, call.value(0, dtype)), dtype), dims)
    size = build.map("abs", x)
    fn = {1: "sum", float("inf"): "max", float("-inf"): "min"}.get(order)
    if fn is not None:
        return reduce(call, fn, size, dims)
    power = build.map("pow", size, call.value(order, dtype))
    return build.map("pow", reduce(call, "sum", power, dims), call.value(1 / order, dtype))


@imports(aten._cdist_forward.default)
def pairwise_distance(
    call: Call, a: SSAValue, b: SSAValue, order: float, compute_mode: int | None = None
) -> SSAValue:
    """The norm of each row of `a` less each row of `b`. (ATen may multiply matrices instead, which cancels digits.)"""
    build = call.build
    rows = build.reshape(a, [*shape_of(a)[:-1], 1, shape_of(a)[-1]])
    columns = build.reshape(b, [*shape_of(b)[:-2], 1, *shape_of(b)[-2:]])
    difference = build.map("sub", rows, columns)
    return call.reshape(norm(call, difference, order, -1))


@imports(aten.count_nonzero.default, aten.count_nonzero.dim_IntList)
def count_nonzero(call: Call, x: SSAValue, dims: Dims = None) -> SSAValue:
    flags = x if kind_of(dtype_of(x)) == BOOL else truth(call, x)
    return call.reshape(reduce(call, "sum", call.value(flags, call.dtype), dims))
