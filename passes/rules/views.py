"""Views, iotas, gathers and reductions: views move to where they leave less to compute, positions that are known while
compiling become slices, and comparisons of positions that have one answer become constants."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.ir import Operation, SSAValue

from tilewright.ir import tw
from tilewright.ir.builder import Builder
from tilewright.ir.dtypes import DTYPES
from tilewright.ir.expr import IntExpr
from tilewright.ir.patterns import (
    add,
    broadcast,
    captures,
    cast,
    concat,
    constant,
    gather,
    iota,
    map_,
    mul,
    pad,
    permute,
    reduce,
    reshape,
    scan,
    size,
    slice_,
    splat,
)
from tilewright.ir.rewrite import Rule, RuleSet
from tilewright.ir.scalars import INTEGER_DIVISIONS
from tilewright.ir.types import broadcast_shapes

from .canonical import narrow, narrowed_shape, without_broadcast
from .common import (
    Shape,
    aligned,
    dtype_of,
    fill,
    is_bool,
    is_discrete,
    is_float,
    is_int,
    keep,
    moves_only_units,
    rank_of,
    shape_of,
    without_leading_units,
)
from .ranges import bounds, comparison, ends, fits, inside

x, y = captures("x y")

# Combining twice is combining once over all the dims, in whatever order.
_ORDERLESS = frozenset({"max", "min", "any", "all"})
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")


# Maps of views.


def _broadcast_of_map(op: tw.MapOp, build: Builder) -> SSAValue | None:
    """Every operand is a broadcast or a constant: compute before broadcasting."""
    if op.fn.data in INTEGER_DIVISIONS and any(not isinstance(d, int) or d == 0 for d in shape_of(op.result)):
        return None  # of no elements none is divided by zero
    shape = broadcast_shapes([narrowed_shape(a) for a in op.args])
    if without_leading_units(shape) == without_leading_units(shape_of(op.result)):
        return None
    args = [narrow(a, build) for a in op.args]
    return keep(build.map(op.fn.data, *args, dtype=dtype_of(op.result)), op, build)


def _map_of_slices(op: tw.SliceOp, inner: tw.MapOp, build: Builder) -> SSAValue | None:
    """Nothing else needs the map: compute only what is kept of it."""
    if not inner.result.has_one_use():
        return None
    whole = shape_of(inner.result)
    args = [_slice_operand(a, whole, op, build) for a in inner.args]
    return keep(build.map(inner.fn.data, *args, dtype=dtype_of(op.result)), op, build)


def _slice_operand(arg: SSAValue, whole: Shape, op: tw.SliceOp, build: Builder) -> SSAValue:
    offset = len(whole) - rank_of(arg)
    starts: list[IntExpr] = []
    steps: list[int] = []
    shape: list[IntExpr] = []
    for dim, have in enumerate(shape_of(arg)):
        expanded = have != whole[offset + dim]
        starts.append(0 if expanded else op.starts.data[offset + dim])
        steps.append(1 if expanded else op.steps.ints()[offset + dim])
        shape.append(1 if expanded else shape_of(op.result)[offset + dim])
    return build.slice(arg, starts, shape, steps)


# Slices.


def _slice_of_concat(op: tw.SliceOp, inner: tw.ConcatOp, build: Builder) -> SSAValue | None:
    """The operand in which the whole slice lies."""
    dim = inner.dim.ints()[0]
    step, count = op.steps.ints()[dim], shape_of(op.result)[dim]
    starts = list(op.starts.data)
    for arg in inner.args:
        if inside(ends(starts[dim], step, count), shape_of(arg)[dim]):
            return build.slice(arg, starts, shape_of(op.result), op.steps.ints())
        starts[dim] = starts[dim] - shape_of(arg)[dim]
    return None


def _slice_of_pad(x: SSAValue, op: tw.SliceOp, inner: tw.PadOp, build: Builder) -> SSAValue | None:
    """All that is kept lies between the borders."""
    starts: list[IntExpr] = []
    rows = zip(op.starts.data, op.steps.ints(), shape_of(op.result), inner.low.data, shape_of(x))
    for start, step, count, low, have in rows:
        if not inside(ends(start - low, step, count), have):
            return None
        starts.append(start - low)
    return build.slice(x, starts, shape_of(op.result), op.steps.ints())


# Iotas.


def _iota_with(inner: tw.IotaOp, shape: Shape, dim: int, start: IntExpr, step: IntExpr, build: Builder) -> SSAValue:
    return build.iota(shape, dtype_of(inner.result), dim, start, step)


def _counts_alone(inner: tw.IotaOp) -> bool:
    """Every dim but the counted one is 1."""
    dim = inner.dim.ints()[0]
    return all(d == 1 for i, d in enumerate(shape_of(inner.result)) if i != dim)


def _iota_of_reshape(op: tw.ReshapeOp, inner: tw.IotaOp, build: Builder) -> SSAValue | None:
    """Unit dims behind the counted one become the iota's; those before it are left to a reshape."""
    source, target = shape_of(inner.result), shape_of(op.result)
    size = source[inner.dim.ints()[0]]
    if not _counts_alone(inner) or not moves_only_units(source, target) or size == 1:
        return None
    counted = target[target.index(size) :]
    if counted == source:
        return None
    return build.reshape(_iota_with(inner, counted, 0, inner.start.data[0], inner.step.data[0], build), target)


def _iota_of_permute(op: tw.PermuteOp, inner: tw.IotaOp, build: Builder) -> SSAValue:
    dim = op.dims.ints().index(inner.dim.ints()[0])
    return _iota_with(inner, shape_of(op.result), dim, inner.start.data[0], inner.step.data[0], build)


def _iota_of_slice(op: tw.SliceOp, inner: tw.IotaOp, build: Builder) -> SSAValue:
    dim, step = inner.dim.ints()[0], inner.step.data[0]
    start = inner.start.data[0] + op.starts.data[dim] * step
    return _iota_with(inner, shape_of(op.result), dim, start, step * op.steps.ints()[dim], build)


def _iota_moved(inner: tw.IotaOp, op: Operation, by: IntExpr, times: IntExpr, build: Builder) -> SSAValue:
    dim, start, step = inner.dim.ints()[0], inner.start.data[0], inner.step.data[0]
    moved = _iota_with(inner, shape_of(inner.result), dim, start * times + by, step * times, build)
    return keep(moved, op, build)


def _iota_as(op: tw.MapOp, inner: tw.IotaOp, build: Builder) -> SSAValue | None:
    """Both types hold every element."""
    dtype = dtype_of(op.result)
    found = bounds(inner.result)
    if not DTYPES[dtype].is_integer or found is None or not fits(found, dtype):
        return None
    dim, start, step = inner.dim.ints()[0], inner.start.data[0], inner.step.data[0]
    return build.iota(shape_of(op.result), dtype, dim, start, step)


# Gathers.


@dataclass(frozen=True)
class _Positions:
    """What an index tensor says: ``start + step * i`` along dim `axis` of the index shape (None: one position)."""

    axis: int | None
    start: IntExpr
    step: int
    count: IntExpr


def _positions(index: SSAValue, rank: int) -> _Positions | None:
    number = splat(index)
    if number is not None:
        return _Positions(None, int(number), 1, 1)
    source = without_broadcast(index)
    if source is not index:
        return _positions(source, rank)
    owner = index.owner
    if not isinstance(owner, tw.IotaOp):
        return None
    dim, step = owner.dim.ints()[0], owner.step.data[0]
    count = shape_of(index)[dim]
    if not isinstance(step, int) or step == 0 or count == 1:
        return None
    return _Positions(rank - rank_of(index) + dim, owner.start.data[0], step, count)


def _in_range(p: _Positions, size: IntExpr, wrap: bool) -> _Positions | None:
    """The positions with the size added where they count from the end; None where one may be out of range."""
    for start in (p.start, p.start + size) if wrap else (p.start,):
        if inside(ends(start, p.step, p.count), size):
            return _Positions(p.axis, start, p.step, p.count)
    return None


def _gather_at_known(op: tw.GatherOp, build: Builder) -> SSAValue | None:
    source, dims = shape_of(op.source), op.dims.ints()
    index_shape = shape_of(op.indices[0])
    rows: list[_Positions] = []
    for index, dim in zip(op.indices, dims):
        known = _positions(index, len(index_shape))
        checked = _in_range(known, source[dim], bool(op.wrap.data)) if known is not None else None
        if checked is None:
            return None
        rows.append(checked)
    axes = [p.axis for p in rows if p.axis is not None]
    if len(set(axes)) != len(axes):
        return None
    starts: list[IntExpr] = [0] * len(source)
    steps = [1] * len(source)
    counts = list(source)
    for dim, row in zip(dims, rows):
        starts[dim], steps[dim], counts[dim] = row.start, row.step, row.count
    sliced = build.slice(op.source, starts, counts, steps)
    # The gathered dims in the order of the index's dims that count them.
    order = sorted(range(len(rows)), key=lambda i: -1 if (axis := rows[i].axis) is None else axis)
    permutation = [*range(dims[0]), *(dims[i] for i in order), *range(dims[-1] + 1, len(source))]
    sizes: list[IntExpr] = [1] * len(index_shape)
    for row in rows:
        if row.axis is not None:
            sizes[row.axis] = row.count
    shape = (*source[: dims[0]], *sizes, *source[dims[-1] + 1 :])
    return keep(build.reshape(build.permute(sliced, permutation), shape), op, build)


def _broadcast_of_gather(op: tw.GatherOp, build: Builder) -> SSAValue | None:
    """All index tensors are broadcasts: gather before broadcasting."""
    if 0 in shape_of(op.result):
        return None  # of no elements none is out of range
    whole = shape_of(op.indices[0])
    common = broadcast_shapes([narrowed_shape(i) for i in op.indices])
    if without_leading_units(common) == without_leading_units(whole):
        return None
    indices = [build.broadcast(narrow(i, build), common) for i in op.indices]
    dims = op.dims.ints()
    gathered = build.gather(op.source, indices, dims, bool(op.wrap.data))
    source_shape = shape_of(op.source)
    shape = (*source_shape[: dims[0]], *aligned(common, len(whole)), *source_shape[dims[-1] + 1 :])
    return keep(build.reshape(gathered, shape), op, build)


# Reductions.


def _reduces_one(op: tw.ReduceOp, x: SSAValue) -> bool:
    return all(shape_of(x)[d] == 1 for d in op.dims.ints())


def _scans_one(op: tw.ScanOp, x: SSAValue) -> bool:
    return shape_of(x)[op.dim.ints()[0]] == 1


def _plus_zero(x: SSAValue, build: Builder) -> SSAValue:
    """A sum starts at 0.0: one -0.0 adds up to 0.0."""
    return build.map("add", x, build.constant(0.0, dtype_of(x))) if is_float(x) else x


def _merge_reductions(x: SSAValue, op: tw.ReduceOp, inner: tw.ReduceOp, build: Builder) -> SSAValue:
    return build.reduce(op.fn.data, x, sorted({*op.dims.ints(), *inner.dims.ints()}))


def _is_orderless(op: tw.ReduceOp, x: SSAValue) -> bool:
    return op.fn.data in _ORDERLESS or is_discrete(x)


def _same_orderless(op: tw.ReduceOp, inner: tw.ReduceOp, x: SSAValue) -> bool:
    return op.fn == inner.fn and op.fn.data in (*_ORDERLESS, "sum", "prod") and _is_orderless(op, x)


def _broadcast_of_reduce(x: SSAValue, op: tw.ReduceOp, inner: tw.BroadcastOp, build: Builder) -> SSAValue | None:
    """The dims that the broadcast expands are not reduced."""
    whole = shape_of(inner.result)
    source = aligned(shape_of(x), len(whole))
    dims = op.dims.ints()
    if any(source[d] != whole[d] for d in dims):
        return None
    offset = len(whole) - rank_of(x)
    if dims and dims[0] < offset:
        x, offset = build.reshape(x, source), 0
    return keep(build.reduce(op.fn.data, x, [d - offset for d in dims]), op, build)


VIEWS = RuleSet(
    # less to compute
    Rule(
        "f(broadcast x) -> broadcast f(x)",
        map_(()),
        _broadcast_of_map,
        among=(tw.BroadcastOp, tw.ConstantOp),
    ),
    Rule("slice f(x) -> f(slice x)", slice_(map_((), name="inner")), _map_of_slices),
    Rule(
        "reduce(broadcast x) -> broadcast(reduce x), any order",
        reduce((), broadcast(x, name="inner")),
        _broadcast_of_reduce,
        _is_orderless,
    ),
    # slices of what is put together
    Rule("slice of concat -> slice of an operand", slice_(concat(name="inner")), _slice_of_concat),
    Rule("slice of pad -> slice", slice_(pad(x, name="inner")), _slice_of_pad),
    # iotas
    Rule("reshape of iota -> iota", reshape(iota(name="inner")), _iota_of_reshape),
    Rule("permute of iota -> iota", permute(iota(name="inner")), _iota_of_permute),
    Rule("slice of iota -> iota", slice_(iota(name="inner")), _iota_of_slice),
    Rule(
        "iota + c -> iota",
        add(iota(name="inner"), constant("c")),
        lambda inner, op, c, build: _iota_moved(inner, op, c, 1, build),
    ),
    Rule(
        "iota * c -> iota",
        mul(iota(name="inner"), constant("c")),
        lambda inner, op, c, build: _iota_moved(inner, op, 0, c, build),
    ),
    Rule(
        "iota + size -> iota",
        add(iota(name="inner"), size(name="number")),
        lambda inner, op, number, build: _iota_moved(inner, op, number.value.data[0], 1, build),
    ),
    Rule("cast of iota -> iota", cast(iota(name="inner")), _iota_as),
    Rule(
        "comparison that bounds decide -> constant",
        map_(_COMPARISONS, x, y),
        lambda op, build: fill(decided, op, build) if (decided := comparison(op)) is not None else None,
        is_int,
    ),
    # gathers
    Rule("gather at known positions -> slice", gather(), _gather_at_known),
    Rule("gather(x, broadcast i) -> broadcast(gather(x, i))", gather(), _broadcast_of_gather),
    # reductions
    Rule("reduce of one element -> x", reduce(("max", "min", "any", "all", "prod"), x), lambda x: x, _reduces_one),
    Rule("sum of one element -> x + 0", reduce("sum", x), _plus_zero, _reduces_one),
    Rule("scan of one element -> x + 0", scan("sum", x), _plus_zero, _scans_one),
    Rule(
        "position of the extreme of one element -> 0",
        reduce(("argmax", "argmin"), x),
        lambda op, build: fill(0, op, build),
        _reduces_one,
    ),
    Rule(
        "reduce(reduce x) -> reduce x, any order",
        reduce((), reduce((), x, name="inner")),
        _merge_reductions,
        _same_orderless,
    ),
    Rule(
        "max of b -> any b",
        reduce("max", x),
        lambda x, op, build: build.reduce("any", x, op.dims.ints()),
        is_bool,
    ),
    Rule(
        "min of b -> all b",
        reduce("min", x),
        lambda x, op, build: build.reduce("all", x, op.dims.ints()),
        is_bool,
    ),
)
