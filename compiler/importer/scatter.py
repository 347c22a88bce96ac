"""Import rules of writes at computed positions. All of them become `tw.scatter`.

Sums and products of halves accumulate in f32 and round once, where ATen rounds after each element.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from xdsl.ir import SSAValue

from tilewright.ir.dtypes import DTYPES, compute_dtype
from tilewright.ir.expr import IntExpr, product
from tilewright.ir.types import broadcast_shapes

from .call import Call, Operand, dtype_of, normal_dim, shape_of
from .indexing import positions_along
from .table import imports, refuse_if
from .views import strided_places

aten = torch.ops.aten

# ATen's names of reductions, and ours. A mean is a sum divided by a count.
_REDUCTIONS = {
    "sum": "sum", "add": "sum", "mean": "sum", "prod": "prod", "multiply": "prod", "amax": "max", "amin": "min",
}
# On bools a sum is "or" and a product "and".
_ON_BOOLS = {"sum": "max", "prod": "min"}


def combined(
    call: Call, fn: str, base: SSAValue, places: Sequence[SSAValue], updates: SSAValue, dims: Sequence[int],
    wrap: bool = False,
) -> SSAValue:
    """`tw.scatter` in the type that `fn` accumulates in, rounded to the base's."""
    build, dtype = call.build, dtype_of(base)
    if dtype == "bool":
        fn = _ON_BOOLS.get(fn, fn)
    wide = compute_dtype(dtype) if fn in ("sum", "prod") else dtype
    made = build.scatter(fn, build.cast(base, wide), places, build.cast(updates, wide), dims, wrap)
    return build.cast(made, dtype)


def reduced(
    call: Call, reduce: str, include_self: bool, base: SSAValue, places: Sequence[SSAValue], updates: SSAValue,
    dims: Sequence[int],
) -> SSAValue:
    """`updates` combined by a reduction of ATen's name, with the elements that are there or instead of them."""
    build, fn, dtype = call.build, _REDUCTIONS[reduce], dtype_of(base)
    refuse_if(reduce == "mean" and dtype == "bool", "the mean of bools")
    wide = compute_dtype(dtype) if fn in ("sum", "prod") and dtype != "bool" else dtype
    base, updates = build.cast(base, wide), build.cast(updates, wide)
    start = base
    if not include_self:
        neutral: Operand = {"sum": 0, "prod": 1}.get(fn, 0)
        if fn in ("max", "min"):
            neutral = loser(fn, wide)
        start = build.scatter("set", base, places, filled(call, neutral, wide, updates), dims, False)
    result = combined(call, fn, start, places, updates, dims)
    if reduce == "mean":
        counts = build.constant(1 if include_self else 0, wide, shape_of(base))
        counts = build.scatter("sum", counts, places, filled(call, 1, wide, updates), dims, False)
        if not include_self:
            counts = build.map("maximum", counts, call.value(1, wide))
        result = build.map("div" if DTYPES[wide].is_float else "floor_div", result, counts)
    return build.cast(result, dtype)


def loser(fn: str, dtype: str) -> bool | int | float:
    """The element that "max" or "min" never prefers to another."""
    if dtype == "bool":
        return fn == "min"
    if DTYPES[dtype].is_float:
        return float("-inf" if fn == "max" else "inf")
    limits = torch.iinfo(getattr(torch, DTYPES[dtype].torch_name))
    return limits.min if fn == "max" else limits.max


def filled(call: Call, number: Operand, dtype: str, like: SSAValue) -> SSAValue:
    """A tensor of `like`'s shape whose every element is `number`."""
    return call.build.broadcast(call.value(number, dtype), shape_of(like))


def with_dims(call: Call, *values: SSAValue) -> list[SSAValue]:
    """Numbers as tensors of one element; ATen takes the one for the other along dim 0."""
    return [v if shape_of(v) else call.build.reshape(v, [1]) for v in values]


# Index tensors that broadcast, as in x[i, :, j] = v.


@imports(aten.index_put.default, aten._unsafe_index_put.default)
def index_put(
    call: Call, x: SSAValue, indices: Sequence[SSAValue | None], values: SSAValue, accumulate: bool = False
) -> SSAValue:
    given = [i for i in indices if i is not None]
    if any(dtype_of(i) in ("bool", "u8") for i in given):
        return put_under_mask(call, x, indices, values, accumulate)
    build, rank = call.build, len(shape_of(x))
    if not given:
        whole = build.broadcast(values, shape_of(x))
        return call.map("add", x, whole) if accumulate else build.cast(whole, call.dtype)
    dims = [d for d, i in enumerate(indices) if i is not None]
    shape = broadcast_shapes([shape_of(i) for i in given])
    places = [build.broadcast(i, shape) for i in given]
    order = list(range(rank))
    if dims != list(range(dims[0], dims[0] + len(dims))):
        order = [*dims, *(d for d in range(rank) if d not in dims)]
        x, dims = build.permute(x, order), list(range(len(dims)))
    target = (*shape_of(x)[: dims[0]], *shape, *shape_of(x)[dims[-1] + 1 :])
    updates = build.broadcast(values, target)
    made = combined(call, "sum" if accumulate else "set", x, places, updates, dims, wrap=True)
    return build.permute(made, [order.index(d) for d in range(rank)])


def put_under_mask(
    call: Call, x: SSAValue, indices: Sequence[SSAValue | None], values: SSAValue, accumulate: bool
) -> SSAValue:
    """``x[mask] = v`` for values that are the same for all elements of the mask: a choice, element by element."""
    build, rank = call.build, len(shape_of(x))
    masks = [i for i in indices if i is not None]
    refuse_if(len(masks) != 1 or dtype_of(masks[0]) != "bool", "data-dependent size")
    [mask] = masks
    first = next(d for d, i in enumerate(indices) if i is not None)
    covered = len(shape_of(mask))
    after = rank - first - covered
    # The values' dim that counts the mask's elements, where they have it.
    counted = len(shape_of(values)) - after - 1
    shape = list(shape_of(values))
    if counted >= 0:
        refuse_if(shape[counted] != 1, "data-dependent size")
        shape[counted : counted + 1] = [1] * covered
        values = build.reshape(values, shape)
    refuse_if(len(shape_of(values)) > rank, "values of more dims than their place")
    mask = build.reshape(mask, [*shape_of(mask), *[1] * after])
    values = build.cast(values, dtype_of(x))
    if accumulate:
        values = call.map("add", x, values) if dtype_of(x) != "bool" else build.map("or", x, values)
    return build.broadcast(build.where(mask, values, x), shape_of(x))


@imports(aten._unsafe_masked_index_put_accumulate.default)
def masked_index_put_accumulate(
    call: Call, x: SSAValue, mask: SSAValue, indices: Sequence[SSAValue | None], values: SSAValue
) -> SSAValue:
    """Where the mask is false nothing is added, wherever the index points."""
    build = call.build
    if any(size == 0 for size in shape_of(x)):
        return x
    kept: list[SSAValue | None] = []
    for index, size in zip(indices, shape_of(x)):
        if index is not None:
            low, high = call.value(-size, dtype_of(index)), call.value(size - 1, dtype_of(index))
            index = build.map("minimum", build.map("maximum", index, low), high)
        kept.append(index)
    return index_put(call, x, kept, build.where(mask, values, call.value(0, dtype_of(values))), True)


@imports(aten.put.default)
def put(call: Call, x: SSAValue, index: SSAValue, source: SSAValue, accumulate: bool = False) -> SSAValue:
    build, count = call.build, product(shape_of(index))
    flat = build.reshape(x, [product(shape_of(x))])
    place, updates = build.reshape(index, [count]), build.reshape(source, [count])
    made = combined(call, "sum" if accumulate else "set", flat, [place], updates, [0], wrap=True)
    return build.reshape(made, shape_of(x))


@imports(aten.masked_scatter.default)
def masked_scatter(call: Call, x: SSAValue, mask: SSAValue, source: SSAValue) -> SSAValue:
    """The n-th true element of the mask takes the n-th element of the source."""
    build, numel = call.build, product(call.shape)
    flat = build.reshape(build.broadcast(mask, call.shape), [numel])
    # Where the mask is false, an element before the source is read: the source may have none of its own.
    order = build.where(flat, build.scan("sum", build.cast(flat, "i64"), 0), call.value(0, "i64"))
    padded = build.pad(build.reshape(source, [product(shape_of(source))]), [1], [0], 0)
    taken = build.gather(padded, [order], [0], wrap=False)
    return build.where(
        build.reshape(flat, call.shape), build.reshape(taken, call.shape), build.broadcast(x, call.shape)
    )


# One index for each element, along one dim.


def scattered(
    call: Call, fn: str, include_self: bool, x: SSAValue, dim: int, index: SSAValue, source: SSAValue
) -> SSAValue:
    """The part of `source` that `index` covers goes to the positions of `index` along one dim."""
    build = call.build
    base, place, source = with_dims(call, x, index, source)
    refuse_if(len(shape_of(base)) != len(shape_of(place)), "an index of another rank")
    if any(size == 0 for size in shape_of(place)):
        return x
    updates = build.slice(source, [0] * len(shape_of(source)), shape_of(place))
    axis = normal_dim(dim, len(shape_of(base)))
    places, dims = positions_along(call, place, axis), list(range(len(shape_of(base))))
    if fn == "set":
        made = combined(call, fn, base, places, updates, dims)
    else:
        made = reduced(call, fn, include_self, base, places, updates, dims)
    return build.reshape(made, call.shape)


@imports(aten.scatter.src)
def scatter(call: Call, x: SSAValue, dim: int, index: SSAValue, source: SSAValue) -> SSAValue:
    return scattered(call, "set", True, x, dim, index, source)


@imports(aten.scatter.value)
def scatter_value(call: Call, x: SSAValue, dim: int, index: SSAValue, value: Operand) -> SSAValue:
    return scattered(call, "set", True, x, dim, index, filled(call, value, dtype_of(x), index))


@imports(aten.scatter.reduce)
def scatter_reduce_old(call: Call, x: SSAValue, dim: int, index: SSAValue, source: SSAValue, reduce: str) -> SSAValue:
    return scattered(call, reduce, True, x, dim, index, source)


@imports(aten.scatter.value_reduce)
def scatter_value_reduce(
    call: Call, x: SSAValue, dim: int, index: SSAValue, value: Operand, reduce: str
) -> SSAValue:
    return scattered(call, reduce, True, x, dim, index, filled(call, value, dtype_of(x), index))


@imports(aten.scatter_add.default)
def scatter_add(call: Call, x: SSAValue, dim: int, index: SSAValue, source: SSAValue) -> SSAValue:
    return scattered(call, "add", True, x, dim, index, source)


@imports(aten.scatter_reduce.two)
def scatter_reduce(
    call: Call, x: SSAValue, dim: int, index: SSAValue, source: SSAValue, reduce: str, include_self: bool = True
) -> SSAValue:
    return scattered(call, reduce, include_self, x, dim, index, source)


# One index for each layer of a dim.


def layers(
    call: Call, x: SSAValue, dim: int, index: SSAValue, source: SSAValue
) -> tuple[SSAValue, SSAValue, SSAValue, int]:
    """The operands with dims, and the dim counted from the front: `(base, index, source, axis)`."""
    base, place = with_dims(call, x, index)
    axis = normal_dim(dim, len(shape_of(base)))
    shape = list(shape_of(base))
    shape[axis] = shape_of(place)[0]
    return base, place, call.build.reshape(source, shape), axis


@imports(aten.index_add.default)
def index_add(
    call: Call, x: SSAValue, dim: int, index: SSAValue, source: SSAValue, alpha: Operand = 1
) -> SSAValue:
    base, place, source, axis = layers(call, x, dim, index, source)
    if alpha != 1:
        fn = "and" if call.dtype == "bool" else "mul"
        source = call.narrow(call.build.map(fn, call.wide(source), call.wide(alpha)))
    return call.reshape(combined(call, "sum", base, [place], source, [axis]))


@imports(aten.index_copy.default)
def index_copy(call: Call, x: SSAValue, dim: int, index: SSAValue, source: SSAValue) -> SSAValue:
    base, place, source, axis = layers(call, x, dim, index, source)
    return call.reshape(combined(call, "set", base, [place], source, [axis]))


@imports(aten.index_reduce.default)
def index_reduce(
    call: Call, x: SSAValue, dim: int, index: SSAValue, source: SSAValue, reduce: str, include_self: bool = True
) -> SSAValue:
    base, place, source, axis = layers(call, x, dim, index, source)
    return call.reshape(reduced(call, reduce, include_self, base, [place], source, [axis]))


@imports(aten.index_fill.int_Scalar, aten.index_fill.int_Tensor)
def index_fill(call: Call, x: SSAValue, dim: int, index: SSAValue, value: Operand) -> SSAValue:
    base, place = with_dims(call, x, index)
    axis = normal_dim(dim, len(shape_of(base)))
    shape = list(shape_of(base))
    shape[axis] = shape_of(place)[0]
    layer = call.build.broadcast(call.value(value, call.dtype), shape)
    return call.reshape(combined(call, "set", base, [place], layer, [axis], wrap=True))


# Gradients of look-ups.


@imports(aten.embedding_dense_backward.default)
def embedding_backward(
    call: Call, grad: SSAValue, index: SSAValue, count: IntExpr, padding: int, scale_by_frequency: bool
) -> SSAValue:
    """Each row of the gradient is added to the row of the table that it came from, but for the padding's."""
    build, shape = call.build, shape_of(index)
    updates = call.wide(grad)
    column = build.reshape(index, [*shape, 1])
    if scale_by_frequency:
        ones = build.constant(1, "f32", shape)
        seen = build.scatter("sum", build.constant(0, "f32", [count]), [index], ones, [0], False)
        often = build.reshape(build.gather(seen, [index], [0], wrap=False), [*shape, 1])
        updates = build.map("div", updates, build.cast(often, dtype_of(updates)))
    if padding >= 0:
        updates = build.where(build.map("eq", column, call.value(padding, dtype_of(index))), call.wide(0), updates)
    table = build.constant(0, dtype_of(updates), call.shape)
    return call.narrow(build.scatter("sum", table, [index], updates, [0], False))


# Positions within a plane, as pooling gives them.


def on_planes(call: Call, fn: str, source: SSAValue, index: SSAValue, dims: int) -> SSAValue:
    """Zeros of the result's shape, with `source` combined into its last `dims` dims at flat positions of them."""
    build = call.build
    lead = call.shape[: len(call.shape) - dims]
    flat = [*lead, product(shape_of(source)[len(lead) :])]
    place = build.reshape(index, flat)
    base = build.constant(0, call.dtype, [*lead, product(call.shape[len(lead) :])])
    if any(size == 0 for size in flat):
        return call.reshape(base)
    made = combined(
        call, fn, base, positions_along(call, place, len(lead)), build.reshape(source, flat),
        list(range(len(flat))),
    )
    return call.reshape(made)


@imports(aten.max_unpool2d.default)
def max_unpool2d(call: Call, x: SSAValue, index: SSAValue, size: Sequence[IntExpr]) -> SSAValue:
    return on_planes(call, "set", x, index, 2)


@imports(aten.max_unpool3d.default)
def max_unpool3d(call: Call, x: SSAValue, index: SSAValue, size: Sequence[IntExpr], *_: object) -> SSAValue:
    return on_planes(call, "set", x, index, 3)


@imports(aten.as_strided_scatter.default)
def as_strided_scatter(
    call: Call, x: SSAValue, source: SSAValue, size: Sequence[IntExpr], stride: Sequence[IntExpr],
    offset: IntExpr | None = None,
) -> SSAValue:
    build = call.build
    place = strided_places(call, size, stride, offset)
    flat = build.reshape(x, [product(shape_of(x))])
    return build.reshape(build.scatter("set", flat, [place], source, [0], False), call.shape)
