"""Normal forms: one way to write each thing, so that rules, CSE and fusion see it.

* Constants stand to the right, with rank 0 where the map's other operands give the shape.
* Views of constants are constants. Views that change nothing are gone; two of a kind are one.
* Unit dims are added and removed by reshapes. Broadcasts come last in a chain of views, and not before a map that
  broadcasts by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation, SSAValue

from tilewright.ir import tw
from tilewright.ir.builder import Builder
from tilewright.ir.expr import IntExpr
from tilewright.ir.patterns import (
    COMMUTATIVE,
    EXTREMA,
    Number,
    any_of,
    broadcast,
    captures,
    cast,
    concat,
    constant,
    iota,
    map_,
    pad,
    permute,
    reshape,
    same_number,
    size,
    slice_,
    splat,
    sub,
)
from tilewright.ir.rewrite import Rule, RuleSet
from tilewright.ir.types import broadcast_shapes

from .common import (
    Shape,
    aligned,
    dtype_of,
    fill,
    is_float,
    is_int,
    keep,
    moves_only_units,
    rank_of,
    shape_of,
)

x, y = captures("x y")
MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}
any_view = any_of(tw.ReshapeOp, tw.PermuteOp, tw.SliceOp, tw.BroadcastOp)


# Maps.


def _may_swap(op: tw.MapOp, c: Number) -> bool:
    return splat(op.args[1]) is None and not (op.fn.data in EXTREMA and is_float(op.args[0]) and c == 0)


def _is_not_constant(y: SSAValue) -> bool:
    return splat(y) is None


def _swap(op: tw.MapOp, build: Builder) -> SSAValue:
    return build.map(MIRRORED.get(op.fn.data, op.fn.data), op.args[1], op.args[0])


def without_broadcast(value: SSAValue) -> SSAValue:
    """The value behind a broadcast, or behind a reshape that only adds leading unit dims."""
    owner = value.owner
    if isinstance(owner, tw.BroadcastOp) or (isinstance(owner, tw.ReshapeOp) and _adds_leading_units(owner)):
        return owner.source
    return value


def narrowed_shape(value: SSAValue) -> Shape:
    """The shape of `narrow`."""
    return () if splat(value) is not None else shape_of(without_broadcast(value))


def narrow(value: SSAValue, build: Builder) -> SSAValue:
    """What a map can take for `value` where its other operands give the shape; a constant becomes one of rank 0."""
    number = splat(value)
    if number is not None and rank_of(value):
        return build.constant(number, dtype_of(value))
    return without_broadcast(value)


def _without_broadcasts(op: tw.MapOp, build: Builder) -> SSAValue | None:
    shapes = [shape_of(a) for a in op.args]
    narrowed: list[int] = []
    for position, arg in enumerate(op.args):
        shape = narrowed_shape(arg)
        if shape == shapes[position]:
            continue
        tried = [*shapes[:position], shape, *shapes[position + 1 :]]
        if broadcast_shapes(tried) == shape_of(op.result):
            shapes = tried
            narrowed.append(position)
    if not narrowed:
        return None
    args = [narrow(a, build) if i in narrowed else a for i, a in enumerate(op.args)]
    return build.map(op.fn.data, *args, dtype=dtype_of(op.result))


# Views.


def _same_type(op: Operation, x: SSAValue) -> bool:
    return op.results[0].type == x.type


def _is_whole(op: tw.SliceOp, x: SSAValue) -> bool:
    return _same_type(op, x) and all(
        start == 0 and (step == 1 or d == 1) for start, step, d in zip(op.starts.data, op.steps.data, shape_of(x))
    )


def _is_identity(op: tw.PermuteOp) -> bool:
    return list(op.dims.data) == list(range(len(op.dims.data)))


def _is_unpadded(op: tw.PadOp) -> bool:
    return all(amount == 0 for amount in (*op.low.data, *op.high.data))


def _is_crop(op: tw.PadOp) -> bool:
    return all(isinstance(amount, int) and amount <= 0 for amount in (*op.low.data, *op.high.data))


def _crop(x: SSAValue, op: tw.PadOp, build: Builder) -> SSAValue:
    return build.slice(x, [-amount for amount in op.low.data], shape_of(op.result))


def _merge_slices(x: SSAValue, op: tw.SliceOp, inner: tw.SliceOp, build: Builder) -> SSAValue:
    starts: list[IntExpr] = []
    steps: list[int] = []
    rows = zip(op.starts.data, op.steps.ints(), inner.starts.data, inner.steps.ints())
    for start, step, inner_start, inner_step in rows:
        starts.append(inner_start + start * inner_step)
        steps.append(step * inner_step)
    return build.slice(x, starts, shape_of(op.result), steps)


def _merge_permutes(x: SSAValue, op: tw.PermuteOp, inner: tw.PermuteOp, build: Builder) -> SSAValue:
    first = inner.dims.ints()
    return build.permute(x, [first[d] for d in op.dims.ints()])


def _permutes_units(op: tw.PermuteOp, x: SSAValue) -> bool:
    moved = [d for d in op.dims.ints() if shape_of(x)[d] != 1]
    return moved == sorted(moved)


def _adds_units(op: tw.BroadcastOp, x: SSAValue) -> bool:
    return aligned(shape_of(x), rank_of(op.result)) == shape_of(op.result)


def _reshapes_units(op: tw.ReshapeOp, inner: tw.BroadcastOp) -> bool:
    return moves_only_units(shape_of(inner.result), shape_of(op.result))


def _broadcast_of_reshape(x: SSAValue, op: tw.ReshapeOp, inner: tw.BroadcastOp, build: Builder) -> SSAValue:
    source = aligned(shape_of(x), rank_of(inner.result))
    moved = [have for have, want in zip(source, shape_of(inner.result)) if want != 1]
    remaining = iter(moved)
    shape = [1 if d == 1 else next(remaining) for d in shape_of(op.result)]
    return build.broadcast(build.reshape(x, shape), shape_of(op.result))


def _broadcast_of_permute(x: SSAValue, op: tw.PermuteOp, inner: tw.BroadcastOp, build: Builder) -> SSAValue:
    source = build.reshape(x, aligned(shape_of(x), rank_of(inner.result)))
    return build.broadcast(build.permute(source, op.dims.ints()), shape_of(op.result))


def _broadcast_of_slice(x: SSAValue, op: tw.SliceOp, inner: tw.BroadcastOp, build: Builder) -> SSAValue:
    source = aligned(shape_of(x), rank_of(inner.result))
    starts: list[IntExpr] = []
    steps: list[int] = []
    shape: list[IntExpr] = []
    rows = zip(source, shape_of(inner.result), op.starts.data, op.steps.ints(), shape_of(op.result))
    for have, want, start, step, count in rows:
        expanded = have != want
        starts.append(0 if expanded else start)
        steps.append(1 if expanded else step)
        shape.append(1 if expanded else count)
    sliced = build.slice(build.reshape(x, source), starts, shape, steps)
    return build.broadcast(sliced, shape_of(op.result))


def _adds_leading_units(inner: tw.ReshapeOp) -> bool:
    source = shape_of(inner.source)
    return len(source) < rank_of(inner.result) and aligned(source, rank_of(inner.result)) == shape_of(inner.result)


# Concatenation.


def _flat(op: tw.ConcatOp) -> list[SSAValue]:
    """The operands, with those of inner concatenations of the same dim in place, without those of size 0."""
    dim = op.dim.ints()[0]
    flat: list[SSAValue] = []
    for arg in op.args:
        owner = arg.owner
        nested = isinstance(owner, tw.ConcatOp) and owner.dim == op.dim
        flat.extend(owner.args if nested and isinstance(owner, tw.ConcatOp) else [arg])
    return [a for a in flat if shape_of(a)[dim] != 0] or flat[:1]


def _flatten(op: tw.ConcatOp, build: Builder) -> SSAValue | None:
    flat = _flat(op)
    return build.concat(flat, op.dim.ints()[0]) if flat != list(op.args) else None


def _concat_of_constants(op: tw.ConcatOp, build: Builder) -> SSAValue | None:
    numbers = [splat(a) for a in op.args]
    first = numbers[0]
    if first is None or not all(n is not None and same_number(n, first) for n in numbers):
        return None
    return fill(first, op, build)


# Iota: the counted dim first, the others by broadcasting.


def _small_iota(op: tw.IotaOp, build: Builder) -> SSAValue | None:
    shape, dim = shape_of(op.result), op.dim.ints()[0]
    small: Sequence[IntExpr] = (shape[dim], *(1,) * (len(shape) - dim - 1))
    if small == shape:
        return None
    counted = build.iota(small, dtype_of(op.result), 0, op.start.data[0], op.step.data[0])
    return build.broadcast(counted, shape)


CANONICAL = RuleSet(
    # maps
    Rule("f(c, y) -> f(y, c), commutative", map_(COMMUTATIVE, constant("c"), y), _swap, _may_swap),
    Rule("c < y -> y > c", map_(MIRRORED, constant(), y), _swap, _is_not_constant),
    Rule("cast to the same dtype -> x", cast(x), lambda x: x, _same_type),
    Rule(
        "f(broadcast x, y) -> f(x, y)",
        map_(()),
        _without_broadcasts,
        among=(tw.BroadcastOp, tw.ReshapeOp, tw.ConstantOp),
    ),
    Rule(
        "x - c -> x + (-c), integers",
        sub(x, constant("c")),
        lambda x, c, build: build.map("add", x, build.constant(-c, dtype_of(x))),
        lambda x, op: is_int(x) and shape_of(x) == shape_of(op.result),
    ),
    # views that change nothing
    Rule("reshape to the same shape -> x", reshape(x), lambda x: x, _same_type),
    Rule("broadcast to the same shape -> x", broadcast(x), lambda x: x, _same_type),
    Rule("permute to the same order -> x", permute(x), lambda x: x, _is_identity),
    Rule("slice of everything -> x", slice_(x), lambda x: x, _is_whole),
    Rule("pad by nothing -> x", pad(x), lambda x: x, _is_unpadded),
    Rule("concat of one -> x", concat(x), lambda x: x),
    # views of constants
    Rule("view of c -> c", any_view(constant("c")), lambda c, op, build: fill(c, op, build)),
    Rule(
        "pad of c with c -> c",
        pad(constant("c")),
        lambda c, op, build: fill(c, op, build),
        lambda c, op: same_number(c, op.value.data),
    ),
    Rule("concat of c and c -> c", concat(), _concat_of_constants),
    Rule(
        "size of a known number -> c",
        size(),
        lambda op, build: build.constant(op.value.data[0], "i64"),
        lambda op: isinstance(op.value.data[0], int),
    ),
    # two views of a kind
    Rule(
        "reshape(reshape x) -> reshape x",
        reshape(reshape(x)),
        lambda x, op, build: build.reshape(x, shape_of(op.result)),
    ),
    Rule("broadcast(broadcast x) -> broadcast x", broadcast(broadcast(x)), keep),
    Rule("permute(permute x) -> permute x", permute(permute(x, name="inner")), _merge_permutes),
    Rule("slice(slice x) -> slice x", slice_(slice_(x, name="inner")), _merge_slices),
    Rule("concat(concat(x, y), z) -> concat(x, y, z)", concat(), _flatten),
    # unit dims by reshapes, broadcasts last
    Rule("pad by negative amounts -> slice", pad(x), _crop, _is_crop),
    Rule(
        "permute of unit dims -> reshape",
        permute(x),
        lambda x, op, build: build.reshape(x, shape_of(op.result)),
        _permutes_units,
    ),
    Rule(
        "broadcast by unit dims -> reshape",
        broadcast(x),
        lambda x, op, build: build.reshape(x, shape_of(op.result)),
        _adds_units,
    ),
    Rule(
        "broadcast(reshape x by leading unit dims) -> broadcast x",
        broadcast(reshape(x, name="inner")),
        keep,
        _adds_leading_units,
    ),
    Rule(
        "reshape(broadcast x) -> broadcast(reshape x), unit dims",
        reshape(broadcast(x, name="inner")),
        _broadcast_of_reshape,
        _reshapes_units,
    ),
    Rule("permute(broadcast x) -> broadcast(permute x)", permute(broadcast(x, name="inner")), _broadcast_of_permute),
    Rule("slice(broadcast x) -> broadcast(slice x)", slice_(broadcast(x, name="inner")), _broadcast_of_slice),
    Rule("iota of many dims -> broadcast of iota", iota(), _small_iota),
)
