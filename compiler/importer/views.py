"""Import rules of ops that only say where elements come from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from xdsl.ir import SSAValue

from tilewright.ir.errors import UnsupportedGraphError
from tilewright.ir.expr import Expr, IntExpr, Ranges, maximum, product
from tilewright.ir.tw import tensor_type

from .call import Call, dtype_of, normal_dim, shape_of
from .symbols import dtype_name
from .table import imports, refuse, refuse_if

aten = torch.ops.aten

_TO_THE_END = 2**63 - 1


@imports(
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten._reshape_alias.default,
    aten.unsqueeze.default, aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.flatten.using_ints,
    aten.view_copy.default, aten._reshape_copy.default, aten.unsqueeze_copy.default, aten.squeeze_copy.default,
    aten.squeeze_copy.dim, aten.squeeze_copy.dims,
)
def reshape(call: Call, x: SSAValue, *_: Any) -> SSAValue:
    return call.reshape(x)


@imports(aten.view.dtype, aten.view_copy.dtype)
def view_dtype(call: Call, x: SSAValue, dtype: torch.dtype) -> SSAValue:
    refuse_if(dtype_name(dtype) != dtype_of(x), "elements read as another dtype")
    return x


@imports(aten.t.default, aten.t_copy.default)
def t(call: Call, x: SSAValue) -> SSAValue:
    return transpose(call, x, 0, 1) if len(shape_of(x)) == 2 else x


@imports(aten.transpose.int, aten.transpose_copy.int)
def transpose(call: Call, x: SSAValue, first: int, second: int) -> SSAValue:
    rank = len(shape_of(x))
    order = list(range(rank))
    if rank:
        order[first], order[second] = order[second], order[first]
    return call.build.permute(x, order)


@imports(aten.permute.default, aten.permute_copy.default)
def permute(call: Call, x: SSAValue, dims: Sequence[int]) -> SSAValue:
    return call.build.permute(x, [normal_dim(d, len(dims)) for d in dims])


@imports(aten.expand.default, aten.expand_copy.default)
def expand(call: Call, x: SSAValue, size: Any, implicit: bool = False) -> SSAValue:
    return call.build.broadcast(x, call.shape)


def position(index: IntExpr, size: IntExpr) -> IntExpr:
    """A position counted from the front. Refuses one whose sign is not known."""
    if isinstance(index, int):
        return index if index >= 0 else size + index
    if Ranges().is_nonnegative(index):
        return index
    if Ranges().is_nonnegative(-index):
        return size + index
    refuse(f"the sign of the position {index} is not known")


def slice_start(start: IntExpr | None, size: IntExpr) -> IntExpr:
    """Where a slice starts, clamped to the dim."""
    if start is None:
        return 0
    place = position(start, size)
    if isinstance(place, int) and isinstance(size, int):
        return min(max(place, 0), size)
    return maximum(place, 0) if place is not start else place


@imports(aten.slice.Tensor, aten.slice_copy.Tensor)
def slice_(
    call: Call, x: SSAValue, dim: int = 0, start: IntExpr | None = None, end: IntExpr | None = None, step: int = 1
) -> SSAValue:
    axis = normal_dim(dim, len(shape_of(x)))
    size, count = shape_of(x)[axis], call.shape[axis]
    refuse_if(isinstance(step, Expr), "a symbolic step")
    if isinstance(count, int) and count == 0:
        return call.build.slice_dim(x, axis, 0, 0)
    if step == 1 and (end is None or (isinstance(end, int) and end >= _TO_THE_END)):
        return call.build.slice_dim(x, axis, size - count, count)
    return call.build.slice_dim(x, axis, slice_start(start, size), count, step)


@imports(aten.select.int, aten.select_copy.int)
def select(call: Call, x: SSAValue, dim: int, index: IntExpr) -> SSAValue:
    axis = normal_dim(dim, len(shape_of(x)))
    return call.reshape(call.build.slice_dim(x, axis, position(index, shape_of(x)[axis]), 1))


@imports(aten.narrow_copy.default)
def narrow(call: Call, x: SSAValue, dim: int, start: IntExpr, length: IntExpr) -> SSAValue:
    axis = normal_dim(dim, len(shape_of(x)))
    return call.build.slice_dim(x, axis, position(start, shape_of(x)[axis]), length)


@imports(
    aten.split.Tensor, aten.split_with_sizes.default, aten.unsafe_split.Tensor, aten.unsafe_split_with_sizes.default,
    aten.split_with_sizes_copy.default, aten.split_copy.Tensor,
)
def split(call: Call, x: SSAValue, sizes: Any, dim: int = 0) -> list[SSAValue]:
    axis = normal_dim(dim, len(shape_of(x)))
    counts = [call.type_of(i).shape[axis] for i in range(len(call.types))]
    starts = itertools.accumulate(counts[:-1], initial=0)
    return [call.build.slice_dim(x, axis, start, count) for start, count in zip(starts, counts)]


@imports(aten.unbind.int, aten.unbind_copy.int)
def unbind(call: Call, x: SSAValue, dim: int = 0) -> list[SSAValue]:
    axis = normal_dim(dim, len(shape_of(x)))
    return [call.reshape(call.build.slice_dim(x, axis, i, 1), i) for i in range(len(call.types))]


@imports(aten.cat.default)
def cat(call: Call, tensors: Sequence[SSAValue], dim: int = 0) -> SSAValue:
    axis = normal_dim(dim, len(call.shape))
    # ATen lets an empty vector stand among tensors of any rank.
    parts = [t for t in tensors if len(shape_of(t)) == len(call.shape) and shape_of(t)[axis] != 0]
    if not parts:
        return call.build.constant(0, call.dtype, call.shape)
    return call.build.concat([call.value(p, call.dtype) for p in parts], axis)


@imports(aten.stack.default)
def stack(call: Call, tensors: Sequence[SSAValue], dim: int = 0) -> SSAValue:
    axis = normal_dim(dim, len(call.shape))
    layer = [1 if i == axis else size for i, size in enumerate(call.shape)]
    return call.build.concat([call.build.reshape(call.value(t, call.dtype), layer) for t in tensors], axis)


@imports(aten.flip.default)
def flip(call: Call, x: SSAValue, dims: Sequence[int]) -> SSAValue:
    shape = shape_of(x)
    axes = {normal_dim(d, len(shape)) for d in dims}
    if any(shape[d] == 0 for d in axes) or not axes:
        return x
    starts = [size - 1 if d in axes else 0 for d, size in enumerate(shape)]
    return call.build.slice(x, starts, shape, [-1 if d in axes else 1 for d in range(len(shape))])


@imports(aten.constant_pad_nd.default)
def constant_pad(call: Call, x: SSAValue, pad: Sequence[IntExpr], value: Any = 0) -> SSAValue:
    rank = len(shape_of(x))
    low: list[IntExpr] = [0] * rank
    high: list[IntExpr] = [0] * rank
    # Pairs count from the last dim.
    for i in range(len(pad) // 2):
        low[rank - 1 - i], high[rank - 1 - i] = pad[2 * i], pad[2 * i + 1]
    return call.build.pad(x, low, high, value)


@imports(aten.repeat.default)
def repeat(call: Call, x: SSAValue, repeats: Sequence[IntExpr]) -> SSAValue:
    shape = (*[1] * (len(repeats) - len(shape_of(x))), *shape_of(x))
    spread = [part for size in shape for part in (1, size)]
    copies = [part for times, size in zip(repeats, shape) for part in (times, size)]
    return call.reshape(call.build.broadcast(call.build.reshape(x, spread), copies))


@imports(aten.resize_as.default, aten.resize.default)
def resize(call: Call, x: SSAValue, *_: Any, **__: Any) -> SSAValue:
    """The first elements, in row-major order."""
    have, count = tensor_type(x).numel, product(call.shape)
    known = isinstance(have, int) and isinstance(count, int) and count <= have
    refuse_if(not known and have != count, "a size that holds more elements, which nothing sets")
    return call.reshape(call.build.slice_dim(call.build.reshape(x, [have]), 0, 0, count))


@imports(aten.roll.default)
def roll(call: Call, x: SSAValue, shifts: Sequence[int], dims: Sequence[int] = ()) -> SSAValue:
    if not dims:
        return call.reshape(rotate(call, call.build.reshape(x, [tensor_type(x).numel]), shifts[0], 0))
    for shift, dim in zip(shifts, dims):
        x = rotate(call, x, shift, normal_dim(dim, len(shape_of(x))))
    return x


def rotate(call: Call, x: SSAValue, shift: IntExpr, axis: int) -> SSAValue:
    """Elements of one dim moved up by `shift`, around the end."""
    size = shape_of(x)[axis]
    refuse_if(not isinstance(shift, int) or not isinstance(size, int), "a symbolic rotation")
    amount = shift % size if size else 0  # type: ignore[operator]
    if amount == 0:
        return x
    build = call.build
    return build.concat(
        [build.slice_dim(x, axis, size - amount, amount), build.slice_dim(x, axis, 0, size - amount)], axis
    )


def diagonal_place(offset: int) -> tuple[int, int]:
    """Row and column of a diagonal's first element."""
    return max(-offset, 0), max(offset, 0)


def diagonal_of(call: Call, x: SSAValue, offset: int, dim1: int, dim2: int, count: IntExpr) -> SSAValue:
    """The diagonal over two dims, as the last one: every ``width + 1``-th element of both dims as one."""
    build, rank = call.build, len(shape_of(x))
    rows, columns = normal_dim(dim1, rank), normal_dim(dim2, rank)
    height, width = shape_of(x)[rows], shape_of(x)[columns]
    rest = [d for d in range(rank) if d not in (rows, columns)]
    if isinstance(count, int) and count == 0:
        return build.constant(0, dtype_of(x), [*(shape_of(x)[d] for d in rest), 0])
    if not isinstance(width, int):
        refuse("a diagonal of symbolic width")
    row, column = diagonal_place(offset)
    flat = build.permute(x, [*rest, rows, columns])
    flat = build.reshape(flat, [*shape_of(flat)[:-2], height * width])
    return build.slice_dim(flat, rank - 2, row * width + column, count, width + 1)


@imports(aten.diagonal.default, aten.diagonal_copy.default)
def diagonal(call: Call, x: SSAValue, offset: int = 0, dim1: int = 0, dim2: int = 1) -> SSAValue:
    refuse_if(call.returned_beside_others, "a diagonal that the caller gets as a view")
    return diagonal_of(call, x, offset, dim1, dim2, call.shape[-1])


@imports(aten.as_strided.default)
def as_strided(
    call: Call, x: SSAValue, size: Sequence[IntExpr], stride: Sequence[IntExpr], offset: IntExpr | None = None
) -> SSAValue:
    """Positions in memory become positions in the logical order where memory holds the tensor row by row.

    Everything else depends on how the operand lies in memory, which only tracing's own layout would answer: such a call
    cannot be left to ATen either, and the graph as a whole goes there.
    """
    place = strided_places(call, size, stride, offset)
    if call.returned_beside_others:
        raise UnsupportedGraphError("as_strided gives the caller a view, which would be computed as a copy")
    return call.build.gather(call.build.reshape(x, [product(shape_of(x))]), [place], [0], wrap=False)


def strided_places(
    call: Call, size: Sequence[IntExpr], stride: Sequence[IntExpr], offset: IntExpr | None
) -> SSAValue:
    """The number, in row-major order, of each element that sizes and strides select from the first operand.

    Raises UnsupportedGraphError where its memory is not in that order.
    """
    traced, build = call.traced_operand, call.build
    if not traced.is_contiguous() or traced.storage_offset() != 0:
        raise UnsupportedGraphError(f"{call.node.target} reads the memory layout of an operand that is not contiguous")
    if not all(isinstance(step, int) for step in stride):
        raise UnsupportedGraphError(f"{call.node.target} with a symbolic stride")
    place: SSAValue = call.value(offset or 0, "i64")
    for dim, (count, step) in enumerate(zip(size, stride)):
        axis = [count if i == dim else 1 for i in range(len(size))]
        place = build.map("add", place, build.iota(axis, "i64", dim, 0, step))
    return build.broadcast(place, size)
