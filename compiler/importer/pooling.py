"""Import rules of pooling and its gradients.

Small windows are read element by element, large ones are reductions. The gradient of a position is the sum over the
few windows that read it; that of a maximum may be scattered instead (`maxima_gradient`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from typing import Any

import torch
from xdsl.ir import SSAValue

from tilewright.ir.dtypes import DTYPES, compute_dtype
from tilewright.ir.expr import IntExpr, product

from .call import Call, dtype_of, is_float, shape_of
from .indexing import positions_along
from .scatter import combined
from .table import imports, refuse, refuse_if
from .windows import (
    MOST_SLOTS,
    Reader,
    Window,
    both,
    covering,
    elements,
    line,
    padded,
    read_at,
    slot_count,
    slots,
    tiled,
    unfolded,
    windows_of,
)

aten = torch.ops.aten


def lowest(dtype: str) -> float | int:
    """What any element is at least."""
    row = DTYPES[dtype]
    if row.is_float:
        return -math.inf
    return 0 if row.kind != "int" else -(2 ** (8 * row.itemsize - 1))


def spatial(call: Call, rank: int) -> tuple[IntExpr, ...]:
    """The last dims of the result."""
    return call.shape[len(call.shape) - rank :]


# Maximum.


@imports(aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default)
def max_pool(
    call: Call, x: SSAValue, kernel: Sequence[int], step: Sequence[int] = (), padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,), ceil_mode: bool = False,
) -> list[SSAValue | None]:
    """The maxima and, where they are read, their positions in the plane: of equal ones the first, of NaNs the last."""
    rank = 2 if call.node.target is aten.max_pool2d_with_indices.default else 3
    windows = windows_of(shape_of(x), spatial(call, rank), kernel, step, padding, dilation)
    return pooled_maxima(call, x, windows)


def pooled_maxima(call: Call, x: SSAValue, windows: Sequence[Window]) -> list[SSAValue | None]:
    refuse_if(0 in call.shape, "no windows")
    many = slot_count(windows) > MOST_SLOTS
    if not call.used(1):
        return [maxima(call, x, windows, many), None]
    refuse_if(many, f"positions in windows of more than {MOST_SLOTS} elements")
    build = call.build
    best, place = call.value(lowest(call.dtype), call.dtype), first_positions(call, windows)
    for positions, value in placed_slots(call, x, windows):
        better = build.map("gt", value, best)
        if is_float(x):
            better = build.map("or", better, build.map("isnan", value))
        best, place = build.where(better, value, best), build.where(better, positions, place)
    return [best, call.narrow(place, 1)]


def placed_slots(call: Call, x: SSAValue, windows: Sequence[Window]) -> Iterator[tuple[SSAValue, SSAValue]]:
    """For each place in the window the elements there, and before them their positions in the plane. Borders hold the
    nearest element, which is read without a condition, or the lowest number."""
    if all(w.dilation == 1 or not w.overhangs for w in windows):
        dtype = plane_dtype([w.size for w in windows])
        for value, places, _ in elements(call.build, x, windows):
            yield in_plane(call, [w.size for w in windows], [call.build.cast(p, dtype) for p in places]), value
        return
    for slot, value in slots(call.build, padded(call.build, x, windows, lowest(call.dtype)), windows):
        yield slot_positions(call, windows, slot), value


def maxima(call: Call, x: SSAValue, windows: Sequence[Window], many: bool) -> SSAValue:
    build = call.build
    if many and all(w.tiles for w in windows):
        value, dims = tiled(build, x, windows)
        return call.reshape(build.reduce("max", value, dims))
    if many:
        border = padded(build, x, windows, lowest(call.dtype))
        return call.reshape(build.reduce("max", unfolded(build, border, windows), range(len(windows))))
    return reduce(lambda a, b: build.map("maximum", a, b), (value for _, value in placed_slots(call, x, windows)))


def plane_dtype(sizes: Sequence[IntExpr]) -> str:
    """A type that holds every position in a plane: lanes are as wide as those of f32 where that is known to do."""
    count = product(sizes)
    return "i32" if isinstance(count, int) and count < 2**31 else "i64"


def axis_positions(call: Call, windows: Sequence[Window], axis: int, start: int) -> SSAValue:
    """``o * step + start - padding`` along one of the windows' dims."""
    window = windows[axis]
    shape: list[IntExpr] = [1] * len(windows)
    shape[axis] = window.count
    dtype = plane_dtype([w.size for w in windows])
    return call.build.iota(shape, dtype, axis, start - window.padding, window.step)


def in_plane(call: Call, sizes: Sequence[IntExpr], places: Sequence[SSAValue]) -> SSAValue:
    """Positions along each dim as one position in the plane, row by row."""
    build = call.build
    total = places[0]
    for size, place in zip(sizes[1:], places[1:]):
        total = build.map("add", build.map("mul", total, call.value(size, dtype_of(total))), place)
    return total


def slot_positions(call: Call, windows: Sequence[Window], slot: Sequence[int]) -> SSAValue:
    """Where in the plane each window has the element of that place."""
    places = [axis_positions(call, windows, d, i * w.dilation) for d, (w, i) in enumerate(zip(windows, slot))]
    return in_plane(call, [w.size for w in windows], places)


def first_positions(call: Call, windows: Sequence[Window]) -> SSAValue:
    """Where in the plane each window has its first element that is no border."""
    build, places = call.build, []
    for axis, window in enumerate(windows):
        start = axis_positions(call, windows, axis, 0)
        if window.padding:
            rest = call.value(0, dtype_of(start))
            before = build.map("lt", start, rest)
            if window.dilation > 1:
                rest = build.map("remainder", start, call.value(window.dilation, dtype_of(start)))
            start = build.where(before, rest, start)
        places.append(start)
    return in_plane(call, [w.size for w in windows], places)


@imports(aten.max_pool2d_with_indices_backward.default, aten.max_pool3d_with_indices_backward.default)
def max_pool_backward(
    call: Call, grad: SSAValue, x: SSAValue, kernel: Sequence[int], step: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], ceil_mode: bool, place: SSAValue,
) -> SSAValue:
    """At each position the sum of the gradients of the windows whose maximum it is."""
    rank = 2 if call.node.target is aten.max_pool2d_with_indices_backward.default else 3
    refuse_if(0 in shape_of(grad) or 0 in call.shape, "no windows")
    windows = windows_of(shape_of(x), shape_of(grad)[-rank:], kernel, step, padding, dilation)
    return maxima_gradient(call, grad, place, windows)


def maxima_gradient(call: Call, grad: SSAValue, place: SSAValue, windows: Sequence[Window]) -> SSAValue:
    """Gathered where channels lie side by side: the windows around a position are the same for all of them. Else
    positions lie side by side, whose windows differ, and fewer elements are scattered than would be gathered."""
    scatters = call.strides()[-1] == 1 or math.prod(-(-w.span // w.step) for w in windows) > MOST_SLOTS
    if scatters:
        return scattered_maxima(call, grad, place, len(windows))
    return gathered_maxima(call, grad, place, windows)


def scattered_maxima(call: Call, grad: SSAValue, place: SSAValue, rank: int) -> SSAValue:
    """The gradients added at their places in each plane, which are the last `rank` dims."""
    build = call.build
    planes, size = product(call.shape[:-rank]), product(call.shape[-rank:])
    places, updates = (build.reshape(v, [planes, product(shape_of(grad)[-rank:])]) for v in (place, grad))
    zeros = build.constant(0, compute_dtype(call.dtype), [planes, size])
    total = combined(call, "sum", zeros, positions_along(call, places, 1), updates, [0, 1])
    return call.narrow(call.reshape(total))


def gathered_maxima(call: Call, grad: SSAValue, place: SSAValue, windows: Sequence[Window]) -> SSAValue:
    """At each position the gradients of those windows around it that give this position as their maximum's."""
    build, sizes = call.build, [w.size for w in windows]
    dtype = plane_dtype(sizes)
    lines = [build.cast(line(build, n, axis, len(sizes)), dtype) for axis, n in enumerate(sizes)]
    own = in_plane(call, sizes, lines)
    values, places = (covering(build, v, windows, certain=True) for v in (grad, place))
    found = []
    for (value, inside), (at, _) in zip(values, places):
        # Converted where they are read: before, that would be a kernel of its own.
        found.append((value, both(build, inside, build.map("eq", build.cast(at, dtype), own))))
    return call.narrow(total_where(call, found))


# Mean.


def total_where(call: Call, parts: Iterable[tuple[SSAValue, SSAValue | None]]) -> SSAValue:
    """The sum of the values, each where its condition holds."""
    build = call.build
    values = [
        call.wide(value) if inside is None else build.where(inside, call.wide(value), call.wide(0))
        for value, inside in parts
    ]
    return reduce(lambda a, b: build.map("add", a, b), values)


def window_sums(call: Call, x: SSAValue, windows: Sequence[Window]) -> SSAValue:
    build = call.build
    if slot_count(windows) <= MOST_SLOTS:
        return total_where(call, ((value, inside) for value, _, inside in elements(build, x, windows)))
    wide = call.wide(x)
    if all(w.tiles for w in windows):
        value, dims = tiled(build, wide, windows)
        return call.reshape(build.reduce("sum", value, dims))
    border = padded(build, wide, windows, 0)
    return call.reshape(build.reduce("sum", unfolded(build, border, windows), range(len(windows))))


def divisors(call: Call, windows: Sequence[Window], include_pad: bool, override: int | None) -> SSAValue:
    """By what each window's sum is divided; broadcasts against the windows."""
    build, rank = call.build, len(windows)
    if override is not None:
        return call.wide(override)
    result = call.wide(1)
    for axis, window in enumerate(windows):
        over = window.reach - window.size - (2 * window.padding if include_pad else 0)
        if isinstance(over, int) and over <= 0 and (include_pad or not window.padding):
            count: Any = window.kernel
        else:
            shape: list[IntExpr] = [1] * rank
            shape[axis] = window.count
            start = build.iota(shape, "i64", axis, -window.padding, window.step)
            stop = build.map("add", start, call.value(window.kernel, "i64"))
            stop = build.map("minimum", stop, call.value(window.size + (window.padding if include_pad else 0), "i64"))
            if not include_pad:
                start = build.map("maximum", start, call.value(0, "i64"))
            count = build.map("sub", stop, start)
        result = build.map("mul", result, call.wide(count))
    return result


@imports(aten.avg_pool2d.default, aten.avg_pool3d.default)
def avg_pool(
    call: Call, x: SSAValue, kernel: Sequence[int], step: Sequence[int] = (), padding: Sequence[int] = (0,),
    ceil_mode: bool = False, include_pad: bool = True, override: int | None = None,
) -> SSAValue:
    refuse_if(not call.is_float, "a mean of integers")
    rank = 2 if call.node.target is aten.avg_pool2d.default else 3
    windows = windows_of(shape_of(x), spatial(call, rank), kernel, step, padding)
    total = window_sums(call, x, windows)
    return call.narrow(call.build.map("div", total, divisors(call, windows, include_pad, override)))


@imports(aten.avg_pool2d_backward.default, aten.avg_pool3d_backward.default)
def avg_pool_backward(
    call: Call, grad: SSAValue, x: SSAValue, kernel: Sequence[int], step: Sequence[int], padding: Sequence[int],
    ceil_mode: bool, include_pad: bool, override: int | None,
) -> SSAValue:
    rank = 2 if call.node.target is aten.avg_pool2d_backward.default else 3
    refuse_if(not call.is_float or 0 in shape_of(grad) or 0 in call.shape, "no windows")
    windows = windows_of(shape_of(x), shape_of(grad)[-rank:], kernel, step, padding)
    divisor = divisors(call, windows, include_pad, override)
    return shared_among(call, grad, windows, divisor)


def shared_among(call: Call, grad: SSAValue, windows: Sequence[Window], divisor: SSAValue) -> SSAValue:
    """At each position the sum of the gradients of the windows that read it, each over its divisor."""
    build, alike = call.build, all(size == 1 for size in shape_of(divisor))
    given = grad if alike else build.map("div", call.wide(grad), divisor)
    total = total_where(call, covering(build, given, windows))
    return call.narrow(build.map("div", total, build.reshape(divisor, [])) if alike else total)


# Adaptive pooling: window o of n goes from floor(o * size / n) to ceil((o + 1) * size / n).


class Adaptive:
    """The windows along one dim: fixed where `size` is a multiple of `count`."""

    def __init__(self, size: IntExpr, count: IntExpr):
        if not isinstance(size, int) or not isinstance(count, int):
            refuse("adaptive pooling of a symbolic size")
        self.size, self.count = size, count
        self.starts = [o * size // count for o in range(count)]
        self.stops = [-(-(o + 1) * size // count) for o in range(count)]
        lengths = [b - a for a, b in zip(self.starts, self.stops)]
        self.longest, self.shortest = max(lengths, default=0), min(lengths, default=0)

    @property
    def window(self) -> Window | None:
        """As a `Window`, where all are alike and side by side."""
        if self.count == 0 or self.size % self.count:
            return None
        step = self.size // self.count
        return Window(step, step, 0, 1, self.size, self.count)

    def bound(self, call: Call, o: SSAValue, stop: bool) -> SSAValue:
        """Where window `o` starts or stops."""
        build, count = call.build, call.value(self.count, "i64")
        position = build.map("mul", o, call.value(self.size, "i64"))
        if stop:  # ceil((o + 1) * size / count)
            position = build.map("add", position, call.value(self.size + self.count - 1, "i64"))
        return build.map("floor_div", position, count)


def adaptive_windows(call: Call, x: SSAValue, counts: Sequence[IntExpr]) -> list[Adaptive]:
    shape = shape_of(x)
    refuse_if(0 in shape or 0 in counts, "no windows")
    return [Adaptive(size, count) for size, count in zip(shape[len(shape) - len(counts) :], counts)]


def adaptive_elements(
    call: Call, x: SSAValue, dims: Sequence[Adaptive]
) -> Iterator[tuple[SSAValue, list[SSAValue], SSAValue | None]]:
    """For each place in the longest window: the elements there, their positions along each dim, and whether the window
    is long enough."""
    build, rank = call.build, len(dims)
    per_dim: list[list[Reader]] = []
    for axis, dim in enumerate(dims):
        o = line(build, dim.count, axis, rank)
        start, stop = dim.bound(call, o, False), dim.bound(call, o, True)
        entries: list[Reader] = []
        for place in range(dim.longest):
            at = build.map("add", start, call.value(place, "i64"))
            inside = build.map("lt", at, stop) if place >= dim.shortest else None
            entries.append((build.map("minimum", at, call.value(dim.size - 1, "i64")), inside))
        per_dim.append(entries)
    return read_at(build, x, per_dim, [d.count for d in dims])


@imports(aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default)
def adaptive_avg_pool(call: Call, x: SSAValue, counts: Sequence[IntExpr]) -> SSAValue:
    refuse_if(not call.is_float, "a mean of integers")
    dims = adaptive_windows(call, x, counts)
    fixed = [w for d in dims if (w := d.window) is not None]
    if len(fixed) == len(dims):
        total = window_sums(call, x, fixed)
        return call.narrow(call.build.map("div", total, divisors(call, fixed, False, None)))
    total = total_where(call, ((value, inside) for value, _, inside in adaptive_elements(call, x, dims)))
    return call.narrow(call.build.map("div", total, adaptive_lengths(call, dims)))


def adaptive_lengths(call: Call, dims: Sequence[Adaptive]) -> SSAValue:
    """How many elements each window has."""
    build, result = call.build, call.wide(1)
    for axis, dim in enumerate(dims):
        o = line(build, dim.count, axis, len(dims))
        length = build.map("sub", dim.bound(call, o, True), dim.bound(call, o, False))
        result = build.map("mul", result, call.wide(length))
    return result


@imports(aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default)
def adaptive_max_pool(call: Call, x: SSAValue, counts: Sequence[IntExpr]) -> list[SSAValue | None]:
    build = call.build
    dims = adaptive_windows(call, x, counts)
    fixed = [w for d in dims if (w := d.window) is not None]
    if len(fixed) == len(dims):
        return pooled_maxima(call, x, fixed)
    best = place = None
    for value, positions, inside in adaptive_elements(call, x, dims):
        at = in_plane(call, [d.size for d in dims], positions)
        if best is None or place is None:
            best, place = value, at
            continue
        better = build.map("gt", value, best)
        if is_float(x):
            better = build.map("or", better, build.map("isnan", value))
        if inside is not None:
            better = build.map("and", better, inside)
        best, place = build.where(better, value, best), build.where(better, at, place)
    assert best is not None and place is not None
    return [best, call.narrow(place, 1)]


def adaptive_covering(
    call: Call, x: SSAValue, dims: Sequence[Adaptive]
) -> list[tuple[SSAValue, SSAValue | None]]:
    """For an `x` with an element for each window: at each position the elements of the windows that may read it, and
    whether they do."""
    build, rank = call.build, len(dims)
    per_dim: list[list[Reader]] = []
    for axis, dim in enumerate(dims):
        y = line(build, dim.size, axis, rank)
        # The first window that reads y: the last that starts at or before it, less those that reach over it.
        first = build.map(
            "floor_div", build.map("mul", y, call.value(dim.count, "i64")), call.value(dim.size, "i64")
        )
        # Which of the windows beside it ever do is known: sizes are numbers.
        needed = sorted({
            o - y * dim.count // dim.size
            for y in range(dim.size) for o in range(dim.count) if dim.starts[o] <= y < dim.stops[o]
        })
        entries: list[Reader] = []
        for place in needed:
            o = build.map("add", first, call.value(place, "i64"))
            at = build.map("maximum", build.map("minimum", o, call.value(dim.count - 1, "i64")), call.value(0, "i64"))
            inside = build.map("and", build.map("eq", o, at), build.map("le", dim.bound(call, o, False), y))
            entries.append((at, build.map("and", inside, build.map("lt", y, dim.bound(call, o, True)))))
        per_dim.append(entries)
    return [(value, inside) for value, _, inside in read_at(build, x, per_dim, [d.size for d in dims])]


@imports(aten._adaptive_avg_pool2d_backward.default, aten._adaptive_avg_pool3d_backward.default)
def adaptive_avg_pool_backward(call: Call, grad: SSAValue, x: SSAValue) -> SSAValue:
    rank = 2 if call.node.target is aten._adaptive_avg_pool2d_backward.default else 3
    refuse_if(0 in shape_of(grad), "no windows")
    dims = adaptive_windows(call, x, shape_of(grad)[-rank:])
    build = call.build
    fixed = [w for d in dims if (w := d.window) is not None]
    if len(fixed) == len(dims):
        return shared_among(call, grad, fixed, divisors(call, fixed, False, None))
    share = build.map("div", call.wide(grad), adaptive_lengths(call, dims))
    return call.narrow(total_where(call, adaptive_covering(call, share, dims)))


@imports(aten.adaptive_max_pool2d_backward.default, aten.adaptive_max_pool3d_backward.default)
def adaptive_max_pool_backward(call: Call, grad: SSAValue, x: SSAValue, place: SSAValue) -> SSAValue:
    rank = 2 if call.node.target is aten.adaptive_max_pool2d_backward.default else 3
    refuse_if(0 in shape_of(grad), "no windows")
    dims = adaptive_windows(call, x, shape_of(grad)[-rank:])
    fixed = [w for d in dims if (w := d.window) is not None]
    if len(fixed) == len(dims):
        return maxima_gradient(call, grad, place, fixed)
    return scattered_maxima(call, grad, place, rank)
