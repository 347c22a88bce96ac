"""Import rules of ops that give a tensor in which another takes the place of a view."""

from __future__ import annotations

import torch
from xdsl.ir import SSAValue

from tilewright.ir.expr import Expr, IntExpr

from .call import Call, dtype_of, normal_dim, shape_of
from .table import imports, refuse_if
from .views import diagonal_place, position, slice_start

aten = torch.ops.aten


@imports(aten.slice_scatter.default)
def slice_scatter(
    call: Call, x: SSAValue, source: SSAValue, dim: int = 0, start: IntExpr | None = None,
    end: IntExpr | None = None, step: int = 1,
) -> SSAValue:
    axis = normal_dim(dim, len(shape_of(x)))
    refuse_if(isinstance(step, Expr), "a symbolic step")
    first = slice_start(start, shape_of(x)[axis])
    if call.becomes_its_operand:
        return written(call, x, source, axis, first, step)
    if step == 1:
        return replace(call, x, source, axis, first)
    return replace_steps(call, x, source, axis, first, step)


@imports(aten.select_scatter.default)
def select_scatter(call: Call, x: SSAValue, source: SSAValue, dim: int, index: IntExpr) -> SSAValue:
    axis = normal_dim(dim, len(shape_of(x)))
    layer = [1 if i == axis else size for i, size in enumerate(shape_of(x))]
    source, first = call.build.reshape(source, layer), position(index, shape_of(x)[axis])
    if call.becomes_its_operand:
        return written(call, x, source, axis, first, 1)
    return replace(call, x, source, axis, first)


def written(call: Call, x: SSAValue, source: SSAValue, axis: int, start: IntExpr, step: int) -> SSAValue:
    """`source` written over every `step`-th element of one dim from `start` on: no other element is touched."""
    place = call.build.iota([shape_of(source)[axis]], "i64", 0, start, step)
    return call.build.scatter("set", x, [place], call.value(source, call.dtype), [axis], wrap=False)


def replace(call: Call, x: SSAValue, source: SSAValue, axis: int, start: IntExpr) -> SSAValue:
    """`x` with the elements of one dim from `start` on taken from `source`."""
    count = shape_of(source)[axis]
    if isinstance(count, int) and count == 0:
        return x
    after = start + count
    rest = shape_of(x)[axis] - after
    parts = [
        call.build.slice_dim(x, axis, 0, start), call.value(source, call.dtype),
        call.build.slice_dim(x, axis, after, rest),
    ]
    return call.build.concat([p for p in parts if shape_of(p)[axis] != 0], axis)


def replace_steps(call: Call, x: SSAValue, source: SSAValue, axis: int, start: IntExpr, step: int) -> SSAValue:
    """`x` with every `step`-th element of one dim, from `start` on, taken from `source`."""
    build, size, count = call.build, shape_of(x)[axis], shape_of(source)[axis]
    if isinstance(count, int) and count == 0:
        return x
    last = start + (count - 1) * step

    def spread(value: SSAValue, dim: int) -> SSAValue:
        """Elements of one dim in their places, zeros elsewhere."""
        shape = list(shape_of(value))
        apart = build.reshape(value, [*shape[: dim + 1], 1, *shape[dim + 1 :]])
        gaps = [step - 1 if d == dim + 1 else 0 for d in range(len(shape) + 1)]
        apart = build.pad(apart, [0] * len(gaps), gaps, 0)
        shape[dim] = count * step
        low: list[IntExpr] = [0] * len(shape)
        high: list[IntExpr] = [0] * len(shape)
        low[dim], high[dim] = start, size - last - step
        return build.pad(build.reshape(apart, shape), low, high, 0)

    here = spread(build.constant(True, "bool", [count]), 0)
    here = build.reshape(here, [size if d == axis else 1 for d in range(len(shape_of(x)))])
    return build.where(here, spread(call.value(source, call.dtype), axis), x)


@imports(aten.diagonal_scatter.default)
def diagonal_scatter(
    call: Call, x: SSAValue, source: SSAValue, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> SSAValue:
    build, rank = call.build, len(shape_of(x))
    rows, columns = normal_dim(dim1, rank), normal_dim(dim2, rank)
    row, _ = diagonal_place(offset)
    order = [d for d in range(rank) if d not in (rows, columns)] + [rows, columns]
    height, width, count = shape_of(x)[rows], shape_of(x)[columns], shape_of(source)[-1]
    if isinstance(count, int) and count == 0:
        return x
    # Each element of the diagonal spreads over its row, of which one place takes it.
    low: list[IntExpr] = [0] * (rank - 1)
    high: list[IntExpr] = [0] * (rank - 1)
    low[-1], high[-1] = row, height - row - count
    source = build.pad(build.cast(source, dtype_of(x)), low, high, 0)
    source = build.reshape(source, [*shape_of(source), 1])
    here = build.map(
        "eq", build.iota([height, 1], "i64", 0, offset), build.iota([1, width], "i64", 1)
    )
    replaced = build.where(here, source, build.permute(x, order))
    return build.permute(replaced, [order.index(d) for d in range(rank)])
