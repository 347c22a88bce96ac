"""Import rules of upsampling, unfolding and the gradients of padding.

Resampling is separable: along each dim an output position reads a few input positions (taps) with weights that depend
on that position alone. Both are computed from constants, as ATen computes them, in the result's dtype (f32 for halves).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from xdsl.ir import SSAValue

from tilewright.ir.expr import Expr, IntExpr

from .call import Call, shape_of
from .table import imports, imports_each, refuse_if
from .windows import MOST_SLOTS, Window, along, expanded, padded, slot_count, spread, unfolded, windows_of

aten = torch.ops.aten

Tap = tuple[SSAValue, SSAValue | None]
"""A position (i64) and its weight (None: 1), along one of the last dims."""


def line(call: Call, count: IntExpr, axis: int, rank: int, dtype: str) -> SSAValue:
    shape = [count if d == axis else 1 for d in range(rank)]
    return call.build.cast(call.build.iota(shape, "i64", axis), dtype)


def combined(call: Call, x: SSAValue, taps: Sequence[Sequence[Tap]]) -> SSAValue:
    """The sum over all combinations of taps, the last dim first, as ATen adds them up."""
    build, rank = call.build, len(taps)
    counts = call.shape[len(call.shape) - rank :]
    first = len(call.shape) - rank

    def total(places: list[SSAValue]) -> SSAValue:
        axis = len(places)
        if axis == rank:
            wide = [build.broadcast(place, counts) for place in places]
            return call.wide(build.gather(x, wide, range(first, first + rank), wrap=False))
        parts = []
        for place, weight in taps[axis]:
            part = total([*places, place])
            parts.append(part if weight is None else build.map("mul", part, weight))
        return reduce(lambda a, b: build.map("add", a, b), parts)

    return total([])


def clamped(call: Call, place: SSAValue, size: IntExpr) -> SSAValue:
    """A position, at least 0 and below `size`."""
    build = call.build
    low = build.map("maximum", place, call.value(0, "i64"))
    return build.map("minimum", low, call.value(size - 1, "i64"))


def ratio(call: Call, size: IntExpr, count: IntExpr, scale: float | None, align: bool) -> float:
    """Input positions per output position."""
    refuse_if(isinstance(size, Expr) or isinstance(count, Expr), "resampling of a symbolic size")
    if align:
        return (size - 1) / (count - 1) if count > 1 else 0.0  # type: ignore[operator]
    if scale is not None and scale > 0:
        return 1.0 / scale
    return size / count  # type: ignore[operator]


def spatial_sizes(call: Call, x: SSAValue) -> list[tuple[IntExpr, IntExpr]]:
    """For each dim after batch and channels, the sizes of operand and result."""
    refuse_if(0 in call.shape, "no elements")
    return list(zip(shape_of(x)[2:], call.shape[2:]))


def factor_of(places: Sequence[int]) -> int | None:
    """n where the positions are each of ``0, 1, ...`` n times in turn."""
    count = places.count(0)
    return count if count and list(places) == [i // count for i in range(len(places))] else None


@imports_each({
    aten.upsample_nearest1d.default: "", aten.upsample_nearest2d.default: "", aten.upsample_nearest3d.default: "",
    aten._upsample_nearest_exact1d.default: "exact", aten._upsample_nearest_exact2d.default: "exact",
    aten._upsample_nearest_exact3d.default: "exact",
})
def upsample_nearest(
    call: Call, kind: str, x: SSAValue, output_size: Sequence[IntExpr], *scales: float | None
) -> SSAValue:
    build, sizes = call.build, spatial_sizes(call, x)
    places = [
        nearest_places(size, count, ratio(call, size, count, scale, False), 0.5 if kind else 0.0)
        for (size, count), scale in zip(sizes, scales)
    ]
    factors = [factor_of(p) for p in places]
    if all(f is not None for f in factors):
        # Each element several times: a view.
        shape = [*shape_of(x)[:2], *(part for (size, _) in sizes for part in (size, 1))]
        copies = [*shape_of(x)[:2], *(part for (size, _), f in zip(sizes, factors) for part in (size, f or 1))]
        cut = [*call.shape[:2], *(-(-c // (f or 1)) for (_, c), f in zip(sizes, factors))]
        if cut == list(shape_of(x)):
            whole = build.broadcast(build.reshape(x, shape), copies)
            whole = build.reshape(whole, [*call.shape[:2], *(s * (f or 1) for (s, _), f in zip(sizes, factors))])
            return build.slice(whole, [0] * len(call.shape), call.shape)
    rank = len(sizes)
    taps: list[list[Tap]] = []
    for axis, ((size, count), scale) in enumerate(zip(sizes, scales)):
        step = call.value(ratio(call, size, count, scale, False), "f32")
        position = build.map("add", line(call, count, axis, rank, "f32"), call.value(0.5 if kind else 0.0, "f32"))
        position = build.cast(build.map("floor", build.map("mul", position, step)), "i64")
        taps.append([(clamped(call, position, size), None)])
    return call.narrow(combined(call, x, taps))


def nearest_places(size: IntExpr, count: IntExpr, step: float, shift: float) -> list[int]:
    """The input position of each output position, in ATen's f32."""
    assert isinstance(size, int) and isinstance(count, int)
    position = ((torch.arange(count, dtype=torch.float32) + shift) * torch.tensor(step, dtype=torch.float32)).floor()
    return [min(int(p), size - 1) for p in position.tolist()]


def source_position(
    call: Call, size: IntExpr, count: IntExpr, axis: int, rank: int, scale: float | None, align: bool, cubic: bool
) -> SSAValue:
    """Where an output position lies among the input's, in the wide dtype."""
    build, o = call.build, call.wide(line(call, count, axis, rank, "i64"))
    step = call.wide(ratio(call, size, count, scale, align))
    if align:
        return build.map("mul", step, o)
    half = call.wide(0.5)
    place = build.map("sub", build.map("mul", step, build.map("add", o, half)), half)
    return place if cubic else build.map("maximum", place, call.wide(0))


def linear_taps(
    call: Call, size: IntExpr, count: IntExpr, axis: int, rank: int, scale: float | None, align: bool
) -> list[Tap]:
    if size == count:
        return [(line(call, count, axis, rank, "i64"), None)]
    build = call.build
    position = source_position(call, size, count, axis, rank, scale, align, False)
    low = clamped(call, build.cast(build.map("floor", position), "i64"), size)
    high = clamped(call, build.map("add", low, call.value(1, "i64")), size)
    weight = build.map("sub", position, call.wide(low))
    weight = build.map("minimum", build.map("maximum", weight, call.wide(0)), call.wide(1))
    return [(low, build.map("sub", call.wide(1), weight)), (high, weight)]


def cubic_taps(
    call: Call, size: IntExpr, count: IntExpr, axis: int, rank: int, scale: float | None, align: bool
) -> list[Tap]:
    """Keys' cubic convolution with a = -0.75."""
    build, one = call.build, call.wide(1)
    position = source_position(call, size, count, axis, rank, scale, align, True)
    floor = build.map("floor", position)
    t = build.map("minimum", build.map("maximum", build.map("sub", position, floor), call.wide(0)), one)

    def polynomial(x: SSAValue, *coefficients: float) -> SSAValue:
        value = call.wide(coefficients[0])
        for coefficient in coefficients[1:]:
            value = build.map("add", build.map("mul", value, x), call.wide(coefficient))
        return value

    a = -0.75
    near, far = (a + 2, -(a + 3), 0.0, 1.0), (a, -5 * a, 8 * a, -4 * a)
    rest = build.map("sub", one, t)
    weights = [
        polynomial(build.map("add", t, one), *far), polynomial(t, *near), polynomial(rest, *near),
        polynomial(build.map("add", rest, one), *far),
    ]
    base = build.cast(floor, "i64")
    places = [clamped(call, build.map("add", base, call.value(i - 1, "i64")), size) for i in range(4)]
    return list(zip(places, weights))


Taps = Callable[[Call, IntExpr, IntExpr, int, int, "float | None", bool], list[Tap]]


def resampled(call: Call, x: SSAValue, taps: Taps, align: bool, scales: Sequence[float | None]) -> SSAValue:
    sizes = spatial_sizes(call, x)
    per_dim = [
        taps(call, size, count, axis, len(sizes), scale, align)
        for axis, ((size, count), scale) in enumerate(zip(sizes, scales))
    ]
    return call.narrow(combined(call, x, per_dim))


@imports(aten.upsample_linear1d.default, aten.upsample_bilinear2d.default, aten.upsample_trilinear3d.default)
def upsample_linear(
    call: Call, x: SSAValue, output_size: Sequence[IntExpr], align: bool, *scales: float | None
) -> SSAValue:
    return resampled(call, x, linear_taps, align, scales)


@imports(aten.upsample_bicubic2d.default)
def upsample_bicubic(
    call: Call, x: SSAValue, output_size: Sequence[IntExpr], align: bool, *scales: float | None
) -> SSAValue:
    return resampled(call, x, cubic_taps, align, scales)


@imports(
    aten.upsample_nearest1d_backward.default, aten.upsample_nearest2d_backward.default,
    aten.upsample_nearest3d_backward.default,
)
def upsample_nearest_backward(
    call: Call, grad: SSAValue, output_size: Sequence[IntExpr], input_size: Sequence[IntExpr], *scales: float | None
) -> SSAValue:
    """Sums over the copies of each element, where all have as many."""
    build, sizes = call.build, list(zip(call.shape[2:], shape_of(grad)[2:]))
    refuse_if(0 in shape_of(grad), "no elements")
    parts: list[IntExpr] = []
    for (size, count), scale in zip(sizes, scales):
        factor = factor_of(nearest_places(size, count, ratio(call, size, count, scale, False), 0.0))
        refuse_if(factor is None or factor * size != count, "elements with different numbers of copies")
        parts += [size, factor or 1]
    wide = build.reshape(call.wide(grad), [*call.shape[:2], *parts])
    return call.narrow(call.reshape(build.reduce("sum", wide, [3 + 2 * i for i in range(len(sizes))])))


@imports(
    aten.upsample_linear1d_backward.default, aten.upsample_bilinear2d_backward.default,
    aten.upsample_trilinear3d_backward.default,
)
def upsample_linear_backward(
    call: Call, grad: SSAValue, output_size: Sequence[IntExpr], input_size: Sequence[IntExpr], align: bool,
    *scales: float | None,
) -> SSAValue:
    """Along each dim a product with the matrix of weights, which is nearly all zeros but small."""
    refuse_if(0 in shape_of(grad), "no elements")
    build, value = call.build, call.wide(grad)
    for dim, scale in enumerate(scales):
        axis = dim + 2
        size, count = call.shape[axis], shape_of(value)[axis]
        if size == count:
            continue
        matrix = weight_matrix(call, linear_taps(call, size, count, 0, 2, scale, align), size)
        order = [d for d in range(len(call.shape)) if d != axis] + [axis]
        moved = build.permute(value, order)
        shape = list(shape_of(moved))
        rows: IntExpr = 1
        for extent in shape[:-1]:
            rows = rows * extent
        product = build.matmul(build.reshape(moved, [rows, count]), matrix)
        moved = build.reshape(product, [*shape[:-1], size])
        value = build.permute(moved, [order.index(d) for d in range(len(order))])
    return call.narrow(value)


def weight_matrix(call: Call, taps: Sequence[Tap], size: IntExpr) -> SSAValue:
    """Rows are output positions, columns input positions."""
    build = call.build
    column = build.iota([1, size], "i64", 1)
    parts = []
    for place, weight in taps:
        hit = build.map("eq", place, column)
        parts.append(build.where(hit, call.wide(1) if weight is None else weight, call.wide(0)))
    return reduce(lambda a, b: build.map("add", a, b), parts)


# Unfolding.


@imports(aten.im2col.default)
def im2col(
    call: Call, x: SSAValue, kernel: Sequence[int], dilation: Sequence[int], padding: Sequence[int],
    step: Sequence[int],
) -> SSAValue:
    refuse_if(0 in call.shape, "no elements")
    windows = column_windows(call, shape_of(x)[-2:], kernel, dilation, padding, step)
    build, batch = call.build, len(shape_of(x)) - 3
    value = unfolded(build, padded(build, x, windows, 0), windows)
    rank = len(shape_of(value))
    return call.reshape(build.permute(value, [*range(2, 3 + batch), 0, 1, rank - 2, rank - 1]))


def column_windows(
    call: Call, sizes: Sequence[IntExpr], kernel: Sequence[int], dilation: Sequence[int], padding: Sequence[int],
    step: Sequence[int],
) -> list[Window]:
    parts = [expanded(values, 2, ()) for values in (kernel, dilation, padding, step)]
    counts = [
        (size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, d, p, s in zip(sizes, *parts)
    ]
    return windows_of(sizes, counts, parts[0], parts[3], parts[2], parts[1])


@imports(aten.col2im.default)
def col2im(
    call: Call, x: SSAValue, output_size: Sequence[IntExpr], kernel: Sequence[int], dilation: Sequence[int],
    padding: Sequence[int], step: Sequence[int],
) -> SSAValue:
    refuse_if(0 in call.shape or 0 in shape_of(x), "no elements")
    windows = column_windows(call, call.shape[-2:], kernel, dilation, padding, step)
    build, (high, wide) = call.build, windows
    outer = list(call.shape[:-2])
    value = build.reshape(call.wide(x), [*outer, high.kernel, wide.kernel, high.count, wide.count])
    first = len(outer)
    if high.tiles and wide.tiles and high.reach == high.size and wide.reach == wide.size:
        order = [*range(first), first + 2, first, first + 3, first + 1]
        return call.narrow(call.reshape(build.permute(value, order)))
    refuse_if(slot_count(windows) > MOST_SLOTS, f"windows of more than {MOST_SLOTS} elements")
    total: SSAValue | None = None
    for i in range(high.kernel):
        for j in range(wide.kernel):
            part = build.slice_dim(build.slice_dim(value, first, i, 1), first + 1, j, 1)
            part = build.reshape(part, [*outer, high.count, wide.count])
            for axis, window, place in ((first, high, i), (first + 1, wide, j)):
                part = spread(build, part, axis, window.step, 1, 0)
                part = along(build, part, axis, place * window.dilation - window.padding, window.size, 0)
            total = part if total is None else build.map("add", total, part)
    assert total is not None
    return call.narrow(total)


# Gradients of padding: what a border got goes back to where it was copied from.


@imports(
    aten.reflection_pad1d_backward.default, aten.reflection_pad2d_backward.default,
    aten.reflection_pad3d_backward.default,
)
def reflection_pad_backward(call: Call, grad: SSAValue, x: SSAValue, padding: Sequence[int]) -> SSAValue:
    return folded(call, grad, padding, reflected)


@imports(
    aten.replication_pad1d_backward.default, aten.replication_pad2d_backward.default,
    aten.replication_pad3d_backward.default,
)
def replication_pad_backward(call: Call, grad: SSAValue, x: SSAValue, padding: Sequence[int]) -> SSAValue:
    return folded(call, grad, padding, replicated)


Border = Callable[[Call, SSAValue, int, int, int, IntExpr], list[SSAValue]]


def folded(call: Call, grad: SSAValue, padding: Sequence[int], border: Border) -> SSAValue:
    """Dim after dim, the last first, as `padding` lists them."""
    refuse_if(any(isinstance(p, Expr) or p < 0 for p in padding), "negative padding")
    build, value, rank = call.build, call.wide(grad), len(call.shape)
    for place in range(len(padding) // 2):
        axis, low, high = rank - 1 - place, padding[2 * place], padding[2 * place + 1]
        size = call.shape[axis]
        parts = [build.slice_dim(value, axis, low, size), *border(call, value, axis, low, high, size)]
        value = reduce(lambda a, b: build.map("add", a, b), parts)
    return call.narrow(value)


def reflected(call: Call, grad: SSAValue, axis: int, low: int, high: int, size: IntExpr) -> list[SSAValue]:
    build, parts = call.build, []
    if low:  # element low - i went to border position i
        parts.append(along(build, build.slice_dim(grad, axis, low - 1, low, -1), axis, 1, size, 0))
    if high:
        start = low + size + high - 1
        parts.append(along(build, build.slice_dim(grad, axis, start, high, -1), axis, size - 1 - high, size, 0))
    return parts


def replicated(call: Call, grad: SSAValue, axis: int, low: int, high: int, size: IntExpr) -> list[SSAValue]:
    build, parts = call.build, []
    for start, count, edge in ((0, low, 0), (low + size, high, size - 1)):
        if count:
            total = build.reduce("sum", build.slice_dim(grad, axis, start, count), [axis])
            parts.append(along(build, total, axis, edge, size, 0))
    return parts
