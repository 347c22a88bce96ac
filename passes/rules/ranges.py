"""What is known of the elements of integer tensors: bounds, followed from iotas, sizes and constants through maps."""

from __future__ import annotations

from collections.abc import Callable

from xdsl.ir import Operation, SSAValue

from tilewright.ir import tw
from tilewright.ir.dtypes import DTYPES
from tilewright.ir.expr import IntExpr, Ranges
from tilewright.ir.patterns import splat

from .common import dtype_of, shape_of

Bounds = tuple[IntExpr, IntExpr]

# How many ops a question may look back through.
_DEPTH = 8


def proven(expr: IntExpr) -> bool:
    """Whether ``expr >= 0`` for all sizes."""
    return Ranges().is_nonnegative(expr)


def ends(start: IntExpr, step: int, count: IntExpr) -> Bounds:
    """The lowest and the highest of `count` positions. Of no positions they mean nothing and harm nothing."""
    last = start + (count - 1) * step
    return (start, last) if step > 0 else (last, start)


def inside(positions: Bounds, size: IntExpr) -> bool:
    """Whether all the positions are proven to be in ``[0, size)``."""
    return proven(positions[0]) and proven(size - 1 - positions[1])


def bounds(value: SSAValue, depth: int = _DEPTH) -> Bounds | None:
    """Inclusive bounds of every element (of bools as 0 and 1), as expressions of sizes; None where nothing is known.

    Bounds of a tensor without elements mean nothing and harm nothing. Arithmetic that may wrap has no bounds.
    """
    row = DTYPES[dtype_of(value)]
    owner = value.owner
    if row.kind == "bool":
        return 0, 1
    if not row.is_integer or depth == 0 or not isinstance(owner, Operation):
        return None
    follow = _FOLLOW.get(type(owner))
    found = follow(owner, depth - 1) if follow is not None else None
    return found if found is not None and fits(found, row.name) else None


def fits(found: Bounds, dtype: str) -> bool:
    """Whether the type holds the bounds. Sizes are i64, and so are numbers made of them."""
    row = DTYPES[dtype]
    bits = 8 * row.itemsize
    lowest, highest = (0, 2**bits - 1) if row.kind == "uint" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return all(lowest <= b <= highest if isinstance(b, int) else dtype == "i64" for b in found)


def _constant(op: Operation, depth: int) -> Bounds | None:
    number = splat(op.results[0])
    return (int(number), int(number)) if number is not None else None


def _iota(op: Operation, depth: int) -> Bounds | None:
    assert isinstance(op, tw.IotaOp)
    start, step = op.start.data[0], op.step.data[0]
    last = start + step * (shape_of(op.result)[op.dim.ints()[0]] - 1)
    if proven(step):
        return start, last
    return (last, start) if proven(-step) else None


def _size(op: Operation, depth: int) -> Bounds | None:
    assert isinstance(op, tw.SizeOp)
    return op.value.data[0], op.value.data[0]


def _source(op: Operation, depth: int) -> Bounds | None:
    return bounds(op.operands[0], depth)


def _map(op: Operation, depth: int) -> Bounds | None:
    assert isinstance(op, tw.MapOp)
    follow = _MAPS.get(op.fn.data)
    if follow is None:
        return None
    # Of the condition of where nothing need be known, nor of what a remainder is taken of.
    args = op.args[1:] if op.fn.data in ("where", "remainder") else op.args
    found = [bounds(a, depth) for a in args]
    known = [b for b in found if b is not None]
    return follow(*known) if len(known) == len(found) else None


def _mul(a: Bounds, b: Bounds) -> Bounds | None:
    for left, right in ((a, b), (b, a)):
        low, high = left
        if low == high and proven(low):
            return right[0] * low, right[1] * low
        if low == high and proven(-low):
            return right[1] * low, right[0] * low
    if proven(a[0]) and proven(b[0]):
        return a[0] * b[0], a[1] * b[1]
    return None


def _union(a: Bounds, b: Bounds) -> Bounds | None:
    low = a[0] if proven(b[0] - a[0]) else b[0] if proven(a[0] - b[0]) else None
    high = a[1] if proven(a[1] - b[1]) else b[1] if proven(b[1] - a[1]) else None
    return (low, high) if low is not None and high is not None else None


def _remainder(divisor: Bounds) -> Bounds | None:
    return (0, divisor[1] - 1) if proven(divisor[0] - 1) else None


_MAPS: dict[str, Callable[..., Bounds | None]] = {
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "sub": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "mul": _mul,
    "neg": lambda a: (-a[1], -a[0]),
    "remainder": _remainder,
    "where": _union,
    "cast": lambda a: a,
}

_FOLLOW: dict[type[Operation], Callable[[Operation, int], Bounds | None]] = {
    tw.ConstantOp: _constant,
    tw.IotaOp: _iota,
    tw.SizeOp: _size,
    tw.MapOp: _map,
    tw.ReshapeOp: _source,
    tw.PermuteOp: _source,
    tw.SliceOp: _source,
    tw.BroadcastOp: _source,
}


def comparison(op: tw.MapOp) -> bool | None:
    """The value that a comparison of integers has everywhere; None where it is not proven."""
    left, right = bounds(op.args[0]), bounds(op.args[1])
    if left is None or right is None:
        return None
    always, never = _DECIDED[op.fn.data]
    if always(left, right):
        return True
    return False if never(left, right) else None


def _below(a: Bounds, b: Bounds) -> bool:
    return proven(b[0] - a[1] - 1)


def _not_above(a: Bounds, b: Bounds) -> bool:
    return proven(b[0] - a[1])


def _equal(a: Bounds, b: Bounds) -> bool:
    return a[0] == a[1] == b[0] == b[1]


def _apart(a: Bounds, b: Bounds) -> bool:
    return _below(a, b) or _below(b, a)


# comparison -> (proof that it holds everywhere, proof that it holds nowhere)
_DECIDED: dict[str, tuple[Callable[[Bounds, Bounds], bool], Callable[[Bounds, Bounds], bool]]] = {
    "lt": (_below, lambda a, b: _not_above(b, a)),
    "le": (_not_above, lambda a, b: _below(b, a)),
    "gt": (lambda a, b: _below(b, a), _not_above),
    "ge": (lambda a, b: _not_above(b, a), _below),
    "eq": (_equal, _apart),
    "ne": (_apart, _equal),
}
